"""The witness: one change to a state or beacon that would be believed, and why it is not."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent_runtime.witness import BEACONS_KEPT, Witness
from schemas.documents import Beacon
from schemas.errors import Reason
from schemas.limits import CLOCK_AHEAD, GRACE
from schemas.messages import State
from sealing.errors import SealingError
from tests.coordinator.world import World

NOW = 1_000_000
COUNCIL = World().council
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
STATE = State(2, 5, b"p" * 32, 9, bytes(32), NOW, bytes(32), 0, COUNCIL.digest)
BEACON = Beacon(2, 7, NOW, 5, b"p" * 32, 0, 0, (), 9, bytes(32), bytes(32), (), 0, COUNCIL.digest)


@pytest.fixture
def witness() -> Witness:
    """A witness of term 2, at policy 5, with a log of 9 and beacon 7."""
    witness = Witness(COUNCIL)
    witness.enter_term(2, KEY)
    witness.enter_state(STATE)
    take(witness, BEACON)
    return witness


def signed(beacon: Beacon) -> bytes:
    """Stand in for a signed text: beacons that differ have different ones."""
    return repr([getattr(beacon, name) for name in Beacon.__struct_fields__]).encode()


def check(witness: Witness, beacon: Beacon, now: int = NOW) -> None:
    witness.check_beacon(signed(beacon), beacon, now=now, grace=GRACE, ahead=CLOCK_AHEAD)


def take(witness: Witness, beacon: Beacon, now: int = NOW) -> None:
    check(witness, beacon, now)
    witness.remember(signed(beacon), beacon)
    witness.enter_beacon(beacon)


def refusal(witness: Witness, beacon: Beacon, now: int = NOW) -> Reason:
    before = (witness._last, witness._log, witness.policy_version, dict(witness._beacons))
    with pytest.raises(SealingError) as refused:
        check(witness, beacon, now)
    assert (witness._last, witness._log, witness.policy_version, dict(witness._beacons)) == before
    return refused.value.reason


# Terms.


def test_term_has_one_key_and_none_before_it_was_ordered(witness: Witness) -> None:
    assert witness.term_key(2) == KEY
    for term in (1, 3):
        with pytest.raises(SealingError) as refused:
            witness.term_key(term)
        assert refused.value.reason is Reason.TERM_NOT_ACCEPTED


@pytest.mark.parametrize(
    ("term", "key", "reason"),
    [(1, KEY, Reason.STATE_ROLLED_BACK), (2, OTHER_KEY, Reason.EQUIVOCATION)],
)
def test_term_never_goes_back_and_never_changes_its_key(
    witness: Witness, term: int, key: bytes, reason: Reason
) -> None:
    for ask in (witness.check_term, witness.enter_term):
        with pytest.raises(SealingError) as refused:
            ask(term, key)
        assert refused.value.reason is reason
    assert (witness.term, witness.term_key(2)) == (2, KEY)


def test_new_term_counts_beacons_and_its_log_anew(witness: Witness) -> None:
    witness.enter_term(3, OTHER_KEY)
    witness.enter_state(replace(STATE, term=3, log_size=1))
    take(witness, replace(BEACON, term=3, sequence=0, log_size=1))
    assert refusal(witness, replace(BEACON, sequence=100, log_size=100)) is Reason.REPLAYED


def test_term_entered_again_starts_nothing_anew(witness: Witness) -> None:
    witness.enter_term(2, KEY)
    assert refusal(witness, replace(BEACON, sequence=6)) is Reason.REPLAYED
    with pytest.raises(SealingError, match="log size"):
        witness.check_state(replace(STATE, log_size=8))


# States.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"term": 1}, Reason.STATE_ROLLED_BACK),
        ({"policy_version": 4}, Reason.STATE_ROLLED_BACK),
        ({"term": 3, "policy_version": 4}, Reason.STATE_ROLLED_BACK),
        ({"log_size": 8}, Reason.STATE_ROLLED_BACK),
        ({"policy_hash": b"q" * 32}, Reason.EQUIVOCATION),
        ({"log_root": b"r" * 32}, Reason.EQUIVOCATION),
    ],
)
def test_state_that_went_back_or_forked_is_refused(
    witness: Witness, changes: dict[str, Any], reason: Reason
) -> None:
    for ask in (witness.check_state, witness.enter_state):
        with pytest.raises(SealingError) as refused:
            ask(replace(STATE, **changes))
        assert refused.value.reason is reason
    witness.check_state(STATE)


@pytest.mark.parametrize(
    "changes",
    [{}, {"log_size": 10}, {"policy_version": 6, "policy_hash": b"q" * 32}, {"term": 3, "log_size": 0}],
)
def test_state_that_went_on_is_believed(witness: Witness, changes: dict[str, Any]) -> None:
    witness.check_state(replace(STATE, **changes))


# Beacons.


def test_next_beacon_is_believed(witness: Witness) -> None:
    check(witness, replace(BEACON, sequence=8, time=NOW + 1, log_size=10))


@pytest.mark.parametrize("sequence", [0, 6])
def test_older_beacon_is_refused(witness: Witness, sequence: int) -> None:
    assert refusal(witness, replace(BEACON, sequence=sequence)) is Reason.REPLAYED


def test_beacon_counts_once(witness: Witness) -> None:
    assert refusal(witness, BEACON) is Reason.REPLAYED


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (NOW - GRACE, None),
        (NOW - GRACE - 1, Reason.NOT_LIVE),
        (NOW + CLOCK_AHEAD, None),
        (NOW + CLOCK_AHEAD + 1, Reason.NOT_LIVE),
    ],
)
def test_beacon_counts_by_its_own_time(witness: Witness, time: int, reason: Reason | None) -> None:
    beacon = replace(BEACON, sequence=8, time=time)
    if reason is None:
        check(witness, beacon)
    else:
        assert refusal(witness, beacon) is reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policy_version": 4}, Reason.STATE_ROLLED_BACK),
        ({"log_size": 8}, Reason.STATE_ROLLED_BACK),
        ({"policy_hash": b"q" * 32}, Reason.EQUIVOCATION),
    ],
)
def test_newer_beacon_that_went_back_or_forked_is_refused(
    witness: Witness, changes: dict[str, Any], reason: Reason
) -> None:
    assert refusal(witness, replace(BEACON, sequence=8, **changes)) is reason


def test_two_beacons_of_one_sequence_are_proof_and_end_all_belief(witness: Witness) -> None:
    other = replace(BEACON, log_size=100)
    assert refusal(witness, other) is Reason.EQUIVOCATION
    assert witness.proof == (signed(BEACON), signed(other))
    assert refusal(witness, replace(BEACON, sequence=8)) is Reason.EQUIVOCATION


def test_two_beacons_of_one_log_size_with_different_roots_are_proof(witness: Witness) -> None:
    other = replace(BEACON, sequence=8, log_root=b"r" * 32)
    assert refusal(witness, other) is Reason.EQUIVOCATION
    assert witness.proof == (signed(BEACON), signed(other))
    assert refusal(witness, replace(BEACON, sequence=9)) is Reason.EQUIVOCATION


def test_peers_beacon_of_another_log_is_proof_whatever_its_sequence(witness: Witness) -> None:
    other = replace(BEACON, sequence=50, log_root=b"r" * 32)
    with pytest.raises(SealingError, match="two logs of 9 entries"):
        witness.compare(signed(other), other)
    assert witness.proof == (signed(BEACON), signed(other))


def test_peers_beacon_that_differs_is_proof(witness: Witness) -> None:
    witness.compare(signed(BEACON), BEACON)
    ahead = replace(BEACON, sequence=50)
    witness.compare(signed(ahead), ahead)  # one that we have not seen says nothing
    assert witness.proof is None
    with pytest.raises(SealingError) as refused:
        witness.compare(b"another text", BEACON)
    assert refused.value.reason is Reason.EQUIVOCATION


def test_beacon_that_did_not_count_is_evidence_all_the_same(witness: Witness) -> None:
    beacon = replace(BEACON, sequence=8)
    witness.remember(signed(beacon), beacon)
    assert refusal(witness, replace(beacon, time=NOW + 1)) is Reason.EQUIVOCATION


def test_old_beacons_that_a_peer_shows_push_no_newer_one_out(witness: Witness) -> None:
    for sequence in range(1_000, 1_000 + BEACONS_KEPT):
        beacon = replace(BEACON, sequence=sequence)
        witness.remember(signed(beacon), beacon)
    for sequence in range(BEACONS_KEPT):
        beacon = replace(BEACON, sequence=sequence)
        witness.remember(signed(beacon), beacon)
    with pytest.raises(SealingError, match="equivocation"):
        witness.compare(b"another text", replace(BEACON, sequence=1_000))


def test_so_many_beacons_are_kept_as_evidence(witness: Witness) -> None:
    for sequence in range(8, 8 + BEACONS_KEPT):
        beacon = replace(BEACON, sequence=sequence)
        witness.remember(signed(beacon), beacon)
    assert len(witness._beacons) == BEACONS_KEPT
    witness.compare(b"another text", BEACON)  # of which nothing is known any more
    assert refusal(witness, replace(BEACON, sequence=8, time=NOW + 1)) is Reason.EQUIVOCATION


def test_beacon_is_passed_by_a_newer_one_only(witness: Witness) -> None:
    assert witness.is_passed(None)
    assert witness.is_passed(replace(BEACON, sequence=6))
    assert not witness.is_passed(BEACON)
    assert not witness.is_passed(replace(BEACON, sequence=8))
    fresh = Witness(COUNCIL)
    fresh.enter_term(1, KEY)
    assert not fresh.is_passed(None)


SMALL = st.integers(0, 3)


@given(
    beacons=st.lists(
        st.builds(
            Beacon,
            st.just(2),
            SMALL,
            st.just(NOW),
            SMALL,
            SMALL.map(lambda n: bytes([n]) * 32),
            SMALL,
            SMALL,
            st.just(()),
            SMALL,
            st.just(bytes(32)),
            st.just(bytes(32)),
            st.just(()),
        )
    )
)
def test_invariant_06_whatever_is_said_what_is_believed_only_rises(beacons: list[Beacon]) -> None:
    witness = Witness(COUNCIL)
    witness.enter_term(2, KEY)
    believed: list[Beacon] = []
    for beacon in beacons:
        try:
            take(witness, beacon)
        except SealingError:
            continue
        believed.append(beacon)
    for earlier, later in pairwise(believed):
        assert earlier.sequence < later.sequence
        assert earlier.policy_version <= later.policy_version
        assert earlier.log_size <= later.log_size
        if earlier.policy_version == later.policy_version:
            assert earlier.policy_hash == later.policy_hash
