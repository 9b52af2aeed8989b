"""One log for everybody: an agent believes only heads that the coordinator proves to be of one log."""

import contextlib
import os
from typing import Any, cast

import pytest

from agent_runtime import coordination as module
from agent_runtime.clock import MeshClock
from agent_runtime.coordination import Coordination, Party
from agent_runtime.joining import judge_log
from agent_runtime.membership import Membership
from agent_runtime.refusals import Refusals
from agent_runtime.witness import NO_LOG, UNPROVED_KEPT, Head, Witness
from coordinator.audit import AuditLog
from schemas.errors import Reason
from schemas.messages import ENCLAVE, Body, Get, LogProof, State
from sealing.errors import SealingError
from sealing.keys import PartyKeys
from tests.coordinator.world import Party as Scripted
from tests.coordinator.world import Refusal, World

KEY = b"k" * 32
COUNCIL = World().council


def log_of(count: int, *, changed: int = -1) -> AuditLog:
    """Return a log of so many entries, one of which may be another than everybody else's."""
    log = AuditLog(World().mesh, lambda _: None)
    for index in range(count):
        log.append("expired", now=index + (index == changed), instance="00" * 32)
    return log


def head_of(log: AuditLog) -> Head:
    return log.size, log.root


def state_of(head: Head, term: int = 1) -> State:
    return State(term, 1, bytes(32), *head, 0, bytes(32), 0, COUNCIL.digest)


def witness_of(*heads: Head) -> Witness:
    """Return a witness that saw these heads in states, one after the other."""
    witness = Witness(COUNCIL)
    witness.enter_term(1, KEY)
    for head in heads:
        witness.enter_state(state_of(head))
    return witness


def coordination(witness: Witness, log: AuditLog) -> tuple[Coordination, list[str]]:
    """Return the line to a coordinator that has this log, and what it was asked."""
    world = World()
    keys = PartyKeys()
    membership = Membership(
        world.mesh, keys, MeshClock(lambda: 0), witness, kind=ENCLAVE, roles=(), random=os.urandom
    )
    party = Party(world.mesh, keys, ENCLAVE, (), None, os.urandom, lambda: 0)
    line = Coordination(party, cast("Any", None), membership, Refusals(), cast("Any", None))
    asked: list[str] = []

    async def answer(_: object, purpose: str, fields: Get, within: float) -> Body:
        assert (purpose, fields.what, within) == ("get", "log-proof", module.STEP_DEADLINE)
        asked.append(fields.arg)
        return Body("got", bytes(16), [list(log.proof(fields.arg).path)])

    line._ask = answer  # type: ignore[method-assign, assignment]
    return line, asked


@pytest.mark.anyio
async def test_a_log_that_grew_is_believed_after_one_proof_for_each_head() -> None:
    witness = witness_of(head_of(log_of(3)), head_of(log_of(5)), head_of(log_of(9)))
    line, asked = coordination(witness, log_of(9))
    await line._prove_log(cast("Any", None))
    assert asked == ["3-5", "5-9"]
    # From there on only what is new has to be proved.
    witness.enter_state(state_of(head_of(log_of(12))))
    line, asked = coordination(witness, log_of(20))
    await line._prove_log(cast("Any", None))
    assert asked == ["9-12"]
    assert witness.unproved() == ()


@pytest.mark.anyio
async def test_a_log_that_grew_from_another_history_is_equivocation_and_stays_unproved() -> None:
    witness = witness_of(head_of(log_of(5, changed=2)), head_of(log_of(9)))
    line, _ = coordination(witness, log_of(9))
    for _ in range(2):
        with pytest.raises(SealingError) as refused:
            await line._prove_log(cast("Any", None))
        assert refused.value.reason is Reason.EQUIVOCATION
        # Both heads are kept and told, and nothing that this coordinator says counts any more.
        assert witness.fork == (head_of(log_of(5, changed=2)), head_of(log_of(9)))
        assert line.membership.live() is False
        with pytest.raises(SealingError, match="equivocation"):
            witness.compare(b"signed", cast("Any", None))
        assert log_of(5, changed=2).root.hex() in refused.value.detail
        assert log_of(9).root.hex() in refused.value.detail


@pytest.mark.anyio
async def test_another_history_shown_in_between_is_found_when_the_first_comes_back() -> None:
    witness = witness_of(head_of(log_of(3)), head_of(log_of(5, changed=4)), head_of(log_of(9)))
    line, asked = coordination(witness, log_of(9))
    with pytest.raises(SealingError, match="equivocation"):
        await line._prove_log(cast("Any", None))
    assert asked == ["3-5"]


@pytest.mark.anyio
async def test_a_console_has_the_log_proved_from_what_it_kept_of_an_earlier_session() -> None:
    for changed, whole in ((-1, True), (2, False)):
        witness = Witness(COUNCIL)
        witness.saw_before(1, head_of(log_of(4, changed=changed)))
        witness.enter_term(1, KEY)
        witness.enter_state(state_of(head_of(log_of(9))))
        line, asked = coordination(witness, log_of(9))
        with contextlib.nullcontext() if whole else pytest.raises(SealingError, match="equivocation"):
            await line._prove_log(cast("Any", None))
        assert (asked, witness.equivocated) == (["4-9"], not whole)


@pytest.mark.parametrize("term", [1, 2])
def test_what_was_kept_of_another_term_or_of_a_longer_log_asks_for_no_proof(term: int) -> None:
    witness = Witness(COUNCIL)
    witness.saw_before(term, head_of(log_of(9)))
    witness.enter_term(1, KEY)
    witness.enter_state(state_of(head_of(log_of(4))))
    assert witness.unproved() == ()


def test_a_first_head_of_a_term_needs_no_proof() -> None:
    witness = witness_of(head_of(log_of(4)))
    assert witness.unproved() == ()
    witness.enter_proved()
    witness.enter_term(2, b"o" * 32)
    witness.enter_state(state_of(head_of(log_of(1)), term=2))
    assert witness.unproved() == ()


def test_heads_that_wait_for_a_proof_are_bounded_and_the_newest_is_among_them() -> None:
    heads = [head_of(log_of(size)) for size in range(1, 3 * UNPROVED_KEPT)]
    pairs = witness_of(*heads).unproved()
    assert len(pairs) < UNPROVED_KEPT
    assert (pairs[0][0], pairs[-1][1]) == (heads[0], heads[-1])


@pytest.mark.parametrize("proof", [(), (bytes(32),), (b"short",)])
def test_an_answer_that_is_no_proof_is_refused(proof: tuple[bytes, ...]) -> None:
    with pytest.raises(SealingError, match="equivocation"):
        judge_log(Witness(COUNCIL), head_of(log_of(3)), head_of(log_of(9)), LogProof(proof))


def test_nothing_is_the_beginning_of_every_log() -> None:
    judge_log(Witness(COUNCIL), NO_LOG, head_of(log_of(3)), LogProof(()))


# The coordinator's side.


def test_every_admitted_party_gets_proofs_about_the_log_of_its_coordinator() -> None:
    world = World()
    world.up()
    party = Scripted.enclave(world, "redactor").join()
    before = (party.state.log_size, party.state.log_root)
    party.renew()
    after = (party.state.log_size, party.state.log_root)
    fields = party.request("get", Get("log-proof", f"{before[0]}-{after[0]}"), "got")
    judge_log(Witness(COUNCIL), before, after, LogProof(tuple(fields[0])))


@pytest.mark.parametrize("sizes", ["", "3", "3-", "-3", "0-3", "4-3", "3-1000", "03-x", "3-4-5", "٣-٤"])
def test_sizes_that_are_none_of_this_log_are_refused(sizes: str) -> None:
    world = World()
    operator = world.up()
    with pytest.raises(Refusal, match=r"no-handler|malformed"):
        operator.request("get", Get("log-proof", sizes), "got")


@pytest.mark.parametrize("first", ["", "-1", "x", "1000000", "9" * 20])
def test_entries_that_are_none_of_this_log_are_refused(first: str) -> None:
    world = World()
    operator = world.up()
    with pytest.raises(Refusal, match=r"no-handler|malformed"):
        operator.request("get", Get("log", first), "got")


def test_entries_that_were_forgotten_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.audit.ENTRIES_KEPT", 4)
    monkeypatch.setattr("coordinator.audit.LEAVES_KEPT", 6)
    log = log_of(20)
    assert len(log.page("16")) == 4
    with pytest.raises(Exception, match="before 16"):
        log.page("15")
    judge_log(Witness(COUNCIL), head_of(log_of(14)), head_of(log), log.proof("14-20"))
    with pytest.raises(Exception, match="no proof"):
        log.proof("13-20")
