"""Nothing outlives what permitted it: no message of a frame with slow handlers, and no call that waits."""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from agent_runtime import serving as serving_module
from agent_runtime.agent import Context
from agent_runtime.handlers import Begin, Ended
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import Link
from agent_runtime.refusals import Refusals
from agent_runtime.serving import LOOK_MOST, ServeCall, Serving
from agent_runtime.trust import Trust
from schemas.documents import Constraints
from schemas.errors import Reason
from schemas.granted import Granted
from schemas.limits import GRACE, SECOND
from schemas.messages import Millis
from schemas.peer import MAX_MESSAGES, Call, Send
from tests.agent_runtime.world import Member, enclave, mesh_up
from tests.coordinator.world import START, World

pytestmark = pytest.mark.anyio

FRAME = tuple(Send("note", b"%d" % number) for number in range(MAX_MESSAGES))


@dataclass
class Vault:
    """An enclave that takes notes of a redactor by handlers that take `slow` of the world's time."""

    world: World
    member: Member
    link: Link
    slow: Millis = 0
    meanwhile: Callable[[], None] | None = None
    taken: list[int] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)

    def permit(self, granted: Granted) -> None:
        trust = self.member.membership.held()
        grants = {**trust.grants, ("redactor", "send", "note"): granted}
        self.member.membership.trust = replace(trust, grants=grants)

    def permit_call(self, granted: Granted) -> None:
        trust = self.member.membership.held()
        grants = {**trust.grants, ("redactor", "call", "tool"): granted}
        self.member.membership.trust = replace(trust, grants=grants)

    def take(self, _kind: str, _granted: Granted, _context: Context) -> Begin:
        def begin(payload: bytes, _now: Millis) -> None:
            self.world.now += self.slow
            self.taken.append(int(payload))
            if self.meanwhile is not None:
                self.meanwhile()

        return begin

    async def no_call(self, _link: Link, _call: Call, _granted: Granted) -> Ended:
        raise AssertionError

    def serving(self, call: ServeCall, outgoing: object = None) -> Serving:
        member = self.member
        return Serving(
            member.membership,
            member.gate,
            member.peering.requests,
            cast("Outgoing", outgoing),
            self.refusals,
            call,
            self.take,
            lambda _link: cast("Context", None),
        )

    async def read(self) -> None:
        """Take a frame of notes, and return when the last of its handlers has ended."""
        await self.serving(self.no_call)._heed(self.link, FRAME)


@pytest.fixture
def vault() -> Vault:
    world, _ = mesh_up()
    redactor, member = enclave(world, "redactor"), enclave(world, "vault")
    pending, inbox, frame = redactor.peering.open(member.party.admitted.admission, "vault")
    to, _, link = member.peering.inbox(frame, inbox)
    assert to == pending.accept_subject
    made = Vault(world, member, link)
    made.permit(Granted("vault", Constraints()))
    return made


async def test_a_frame_whose_handlers_are_quick_is_taken_whole(vault: Vault) -> None:
    await vault.read()
    assert vault.taken == list(range(len(FRAME)))
    assert vault.refusals.counts == {}


async def test_a_grant_that_ends_while_a_frame_is_handled_permits_no_more_of_it(vault: Vault) -> None:
    vault.slow = SECOND
    vault.permit(Granted("vault", Constraints(), expires=START // SECOND + 3))
    await vault.read()
    # Those of the first three seconds, since this world's time is a whole second.
    assert vault.taken == [0, 1, 2]
    assert vault.refusals.counts["message", Reason.EXPIRED.value] > 0


async def test_who_is_no_longer_live_takes_no_more_of_a_frame(vault: Vault) -> None:
    vault.slow = SECOND
    await vault.read()
    assert len(vault.taken) == GRACE // SECOND + 1
    assert vault.refusals.counts == {("message", Reason.NOT_LIVE.value): 1}


async def test_who_is_revoked_meanwhile_is_not_heard_to_the_end_of_his_frame(vault: Vault) -> None:
    vault.slow = 1

    def revoke() -> None:
        if len(vault.taken) == 5:
            vault.member.revoke(vault.link.peer.subject)

    vault.meanwhile = revoke
    await vault.read()
    assert vault.taken == [0, 1, 2, 3, 4]
    assert vault.refusals.counts == {("message", Reason.INSTANCE_REVOKED.value): 1}


async def test_of_quick_handlers_a_bounded_few_share_one_look_at_the_clock(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    messages = vault.member.gate.messages

    def look(peer: bytes) -> tuple[Trust, Millis]:
        looked.append(len(vault.taken))
        return messages(peer)

    monkeypatch.setattr(vault.member.gate, "messages", look)
    await vault.read()
    assert looked[:5] == [0, 1, 3, 7, 15]
    assert {after - before for before, after in pairwise(looked[3:])} == {LOOK_MOST}


async def test_a_call_that_waits_for_a_slot_is_judged_when_it_begins_and_not_when_it_came(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "AT_ONCE", 1)
    release, begun, answered = anyio.Event(), list[bytes](), anyio.Event()

    async def serve(_link: Link, call: Call, _granted: Granted) -> Ended:
        begun.append(call.request)
        await release.wait()
        return Ended("", "", b"")

    said: list[bytes] = []

    def say(_link: Link, answer: bytes) -> None:
        said.append(answer)
        if len(said) == 2:
            answered.set()

    serving = vault.serving(serve, SimpleNamespace(congested=False, say=say))
    member, peer = vault.member.membership, vault.link.peer.subject
    vault.permit_call(Granted("vault", Constraints()))
    async with anyio.create_task_group() as tasks:
        serving.start(tasks)
        await anyio.wait_all_tasks_blocked()
        for number in range(2):
            call = Call(number.to_bytes(16, "big"), "tool", b"", vault.world.now + 9 * SECOND, None)
            serving.called(vault.link, call, member.require_live_now())
        await anyio.wait_all_tasks_blocked()
        assert begun == [bytes(16)]
        vault.member.revoke(peer)
        release.set()
        with anyio.fail_after(10):
            await answered.wait()
        tasks.cancel_scope.cancel()
    assert begun == [bytes(16)]
    assert vault.refusals.counts == {("call", Reason.INSTANCE_REVOKED.value): 1}


async def test_what_a_handler_that_waits_set_in_its_context_is_not_seen_by_what_came_with_it(
    vault: Vault,
) -> None:
    variable = ContextVar("variable", default="nobody's")
    seen, ended = list[str](), anyio.Event()

    async def wait() -> None:
        await anyio.lowlevel.checkpoint()

    def take(_kind: str, _granted: Granted, _context: Context) -> Begin:
        def begin(payload: bytes, _now: Millis) -> Coroutine[None, None, None] | None:
            seen.append(variable.get())
            variable.set("mine")
            if len(seen) == 3:
                ended.set()
            return wait() if payload == b"waits" else None

        return begin

    vault.take = take  # type: ignore[method-assign]
    serving = vault.serving(vault.no_call)
    async with anyio.create_task_group() as tasks:
        serving.start(tasks)
        await anyio.wait_all_tasks_blocked()
        serving.sent(
            vault.link, [Send("note", b"waits"), Send("note", b"is quick"), Send("note", b"is last")]
        )
        with anyio.fail_after(10):
            await ended.wait()
        tasks.cancel_scope.cancel()
    # One that waits for nothing shares its context with the next.
    assert seen == ["nobody's", "nobody's", "mine"]
    assert variable.get() == "nobody's"
