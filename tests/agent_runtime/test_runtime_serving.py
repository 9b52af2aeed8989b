"""Messages of one frame do not outlive what permitted the first of them, however slow their handlers are."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import cast

import pytest

from agent_runtime.agent import Context
from agent_runtime.handlers import Begin, Ended
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import Link
from agent_runtime.refusals import Refusals
from agent_runtime.serving import LOOK_MOST, Serving
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

    def take(self, _kind: str, _granted: Granted, _context: Context) -> Begin:
        def begin(payload: bytes, _now: Millis) -> None:
            self.world.now += self.slow
            self.taken.append(int(payload))
            if self.meanwhile is not None:
                self.meanwhile()

        return begin

    async def read(self) -> None:
        """Take a frame of notes, and return when the last of its handlers has ended."""

        async def call(_link: Link, _call: Call, _granted: Granted) -> Ended:
            raise AssertionError

        member = self.member
        serving = Serving(
            member.membership,
            member.gate,
            member.peering.requests,
            cast("Outgoing", None),
            self.refusals,
            call,
            self.take,
            lambda _link: cast("Context", None),
        )
        await serving._heed(self.link, FRAME)


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
