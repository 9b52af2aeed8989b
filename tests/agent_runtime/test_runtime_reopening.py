"""Inits that come within a session: few of each session are judged, and one that fails ends nothing else."""

import asyncio
from typing import Any, cast

import pytest

from agent_runtime.links import REOPEN_PAUSE, Links
from agent_runtime.peering import Link, Peering
from agent_runtime.refusals import Refusals
from schemas.errors import Reason
from schemas.peer import Confirm, Reopen
from tests.agent_runtime.world import Member, enclave, mesh_up

pytestmark = pytest.mark.anyio


class Vault:
    """A vault with sessions of a redactor, and how often it opened an init."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, _ = mesh_up()
        self.redactor, self.member = enclave(self.world, "redactor"), enclave(self.world, "vault")
        self.refusals = Refusals()
        self.judged = 0
        self.links = Links(
            self.member.membership,
            cast("Any", None),
            self.member.peering,
            cast("Any", None),
            cast("Any", None),
            self.refusals,
            cast("Any", None),
        )
        # What answers is of no interest here, and nothing runs it.
        inbox = self.member.peering.inbox

        def judge(frame: bytes, to: str, within: Link | None = None) -> tuple[str, bytes, Link]:
            self.judged += 1
            return inbox(frame, to, within)

        monkeypatch.setattr(self.member.peering, "inbox", judge)

    def init(self) -> tuple[Peering, str, str, bytes]:
        pending, inbox, frame = self.redactor.peering.open(self.member.party.admitted.admission, "vault")
        return self.redactor.peering, pending.accept_subject, inbox, frame

    def session(self) -> Link:
        peering, accepts, inbox, frame = self.init()
        _, answer, theirs = self.member.peering.inbox(frame, inbox)
        ours = peering.accepted(accepts, answer)
        self.member.peering.receive(peering.seal(ours, Confirm())[1])
        self.judged = 0
        return theirs

    def reopen(self, link: Link, *, bent: bool = False) -> None:
        """Say the redactor's next init within a session, or one with its last bit changed."""
        *_, inbox, frame = self.init()
        link.received = self.member.membership.clock.highest()
        self.links.reopened(link, Reopen(inbox, frame[:-1] + bytes((frame[-1] ^ bent,))))


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    return Vault(monkeypatch)


async def turns() -> None:
    for _ in range(9):
        await asyncio.sleep(0)


async def test_of_a_session_one_waits_and_the_next_is_taken_after_a_pause(vault: Vault) -> None:
    link = vault.session()
    for _ in range(5):
        vault.reopen(link)
    await turns()
    assert vault.judged == 1
    vault.reopen(link)
    vault.world.now += REOPEN_PAUSE - 1
    vault.reopen(link)
    await turns()
    assert vault.judged == 1
    vault.world.now += 1
    vault.reopen(link)
    await turns()
    assert vault.judged == 2
    assert vault.refusals.counts == {("session", "flood"): 6}
    assert sum(not each.session.confirmed for each in _of(vault.member)) == 2


async def test_one_that_fails_ends_nothing_and_keeps_no_other_session_from_it(vault: Vault) -> None:
    link = vault.session()
    vault.reopen(link, bent=True)
    await turns()
    assert vault.refusals.counts == {("inbox", Reason.NOT_AUTHENTIC.value): 1}
    other = vault.session()
    vault.reopen(other)
    await turns()
    assert vault.judged == 1
    assert {link, other} < set(_of(vault.member))
    vault.world.now += REOPEN_PAUSE
    vault.reopen(link)
    await turns()
    assert vault.judged == 2


async def test_one_of_another_instance_is_refused(vault: Vault) -> None:
    link = vault.session()
    vault.redactor = enclave(vault.world, "redactor", chip="d0" * 64)
    vault.reopen(link)
    await turns()
    assert vault.refusals.counts == {("inbox", Reason.NOT_AUTHENTIC.value): 1}
    assert _of(vault.member) == [link]


async def test_where_too_many_wait_the_session_may_ask_again(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = vault.session()
    monkeypatch.setattr("agent_runtime.door.WAITING", 0)
    vault.reopen(link)
    monkeypatch.undo()
    vault.reopen(link)
    await turns()
    assert len(_of(vault.member)) == 2


def _of(member: Member) -> list[Link]:
    return list(member.peering._links.values())
