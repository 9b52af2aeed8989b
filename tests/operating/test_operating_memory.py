"""What a console has seen: it only rises, survives being killed, and says what is wrong in a sentence."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.council_files import CHAIN
from console.operating.kept import Kept, KeptReceipt
from console.operating.memory import Memory, RememberedError, Sighting, advance, check, empty, learn
from schemas import codec
from schemas.errors import Reason, UsageError
from schemas.messages import Event
from sealing.keys import SigningKey
from tests.operating.world import kept_receipt, signed_revocation

MESH, KEY = b"m" * 32, b"k" * 32
SEEN = Sighting(3, KEY, 7, b"h" * 32, 100, b"r" * 32, 7, operators_version=2, operators_hash=b"s" * 32)


@pytest.fixture
def memory() -> Memory:
    return advance(empty(MESH), SEEN)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"term": 2, "key": b"o" * 32}, Reason.STATE_ROLLED_BACK),
        ({"key": b"o" * 32}, Reason.EQUIVOCATION),
        ({"policy_version": 6, "policy_hash": b"o" * 32}, Reason.STATE_ROLLED_BACK),
        ({"policy_version": 0, "policy_hash": bytes(32)}, Reason.STATE_ROLLED_BACK),
        ({"policy_hash": b"o" * 32}, Reason.FORKED),
        ({"log_size": 99}, Reason.STATE_ROLLED_BACK),
        ({"log_root": b"o" * 32}, Reason.EQUIVOCATION),
        ({"operators_version": 1}, Reason.STATE_ROLLED_BACK),
        ({"operators_version": 0, "operators_hash": bytes(32)}, Reason.STATE_ROLLED_BACK),
        ({"operators_hash": b"o" * 32}, Reason.FORKED),
        ({"term": 4, "key": b"o" * 32, "operators_version": 1}, Reason.STATE_ROLLED_BACK),
        ({"term": 4, "key": b"o" * 32, "policy_version": 6}, Reason.STATE_ROLLED_BACK),
        ({"term": 4, "key": b"o" * 32, "policy_hash": b"o" * 32}, Reason.FORKED),
    ],
)
def test_what_went_back_or_is_another_is_refused_with_its_code(
    memory: Memory, changes: dict[str, object], reason: Reason
) -> None:
    with pytest.raises(RememberedError) as refusal:
        check(memory, replace(SEEN, **changes))  # type: ignore[arg-type]
    assert refusal.value.reason is reason
    assert len(refusal.value.detail.split()) > 5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"log_size": 101, "log_root": b"o" * 32},
        {"policy_version": 8, "policy_hash": b"o" * 32},
        {"operators_version": 3, "operators_hash": b"o" * 32},
        # A new term: its log begins anew, and its policy is still to come.
        {"term": 4, "key": b"o" * 32, "policy_version": 0, "policy_hash": bytes(32), "log_size": 2},
        # Nobody has ordered it yet: there is nothing to compare.
        {"term": 0, "key": b"o" * 32, "policy_version": 0, "policy_hash": bytes(32), "log_size": 0},
    ],
)
def test_what_went_on_is_not(memory: Memory, changes: dict[str, object]) -> None:
    check(memory, replace(SEEN, **changes))  # type: ignore[arg-type]


def test_a_new_term_may_be_without_a_policy_until_it_has_had_one(memory: Memory) -> None:
    began = Sighting(4, b"o" * 32, 0, bytes(32), 2, None, 0, 2, b"s" * 32)
    memory = advance(memory, began)
    memory = advance(memory, replace(began, log_size=3))
    memory = advance(memory, replace(began, log_size=5, policy_version=7, policy_hash=b"h" * 32))
    with pytest.raises(RememberedError, match="policy version 0"):
        check(memory, replace(began, log_size=6))


sightings = st.builds(
    Sighting,
    st.integers(0, 4),
    st.sampled_from([KEY, b"o" * 32]),
    st.integers(0, 4),
    st.sampled_from([b"h" * 32, b"i" * 32]),
    st.integers(0, 4),
    st.sampled_from([None, b"r" * 32, b"s" * 32]),
    st.integers(0, 4),
)


@given(st.lists(st.tuples(st.booleans(), sightings), max_size=12))
def test_whatever_is_shown_the_memory_never_goes_back(shown: list[tuple[bool, Sighting]]) -> None:
    memory = empty(MESH)
    for trusted, seen in shown:
        before = memory
        try:
            memory = learn(memory, seen) if trusted else advance(memory, seen)
        except RememberedError:
            assert memory is before
        assert memory.term >= before.term
        assert memory.policy_version >= before.policy_version
        assert memory.profile_version >= before.profile_version
        assert memory.term > before.term or memory.log_size >= before.log_size
        known = {each.term: each.key for each in before.keys}
        if not trusted:
            assert known.items() <= {each.term: each.key for each in memory.keys}.items()
        assert codec.decode(codec.encode(memory), Memory) == memory


def test_a_receipt_raises_the_size_and_the_last_known_head_stays_to_be_grown_from(memory: Memory) -> None:
    memory = learn(memory, replace(SEEN, log_size=104, log_root=None))
    assert (memory.log_size, memory.head) == (104, (100, b"r" * 32))
    with pytest.raises(RememberedError, match="104 were seen"):
        check(memory, replace(SEEN, log_size=103, log_root=b"o" * 32))
    memory = advance(memory, replace(SEEN, log_size=104, log_root=b"s" * 32))
    assert memory.head == (104, b"s" * 32)
    assert learn(memory, replace(SEEN, term=4, log_size=2, log_root=None)).head is None


def test_a_memory_of_before_the_last_head_was_kept_apart_is_read(memory: Memory) -> None:
    older = codec.decode_any(codec.encode(memory))[:-1]
    assert codec.convert(older, Memory).head == (100, b"r" * 32)


# On disk.


def test_it_is_there_after_the_console_has_ended(tmp_path: Path) -> None:
    Kept(tmp_path, MESH).note(SEEN)
    with pytest.raises(RememberedError):
        Kept(tmp_path, MESH).note(replace(SEEN, log_size=3))
    assert Kept(tmp_path, MESH).memory().log_size == 100
    assert Kept(tmp_path, b"n" * 32).memory() == empty(b"n" * 32)


def test_consoles_at_once_do_not_take_each_other_back(tmp_path: Path) -> None:
    def learned(size: int) -> None:
        Kept(tmp_path, MESH).learn(replace(SEEN, log_size=size, log_root=None))

    threads = [threading.Thread(target=learned, args=(size,)) for size in range(100, 140)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Kept(tmp_path, MESH).memory().log_size == 139
    # Nothing half-written lies about.
    assert {path.name for path in (tmp_path / MESH.hex()).iterdir()} == {"seen.cbor", "lock"}


@pytest.mark.parametrize("data", [b"", b"\x80", codec.encode(empty(MESH))[:-1]])
def test_a_damaged_memory_is_not_taken_for_none(tmp_path: Path, data: bytes) -> None:
    kept = Kept(tmp_path, MESH)
    kept.note(SEEN)
    (kept.root / "seen.cbor").write_bytes(data)
    with pytest.raises(UsageError, match="backup"):
        kept.note(SEEN)


def test_a_memory_of_another_mesh_is_not_taken(tmp_path: Path) -> None:
    kept = Kept(tmp_path, MESH)
    kept.note(SEEN)
    (kept.root / "seen.cbor").write_bytes(codec.encode(empty(b"n" * 32)))
    with pytest.raises(UsageError, match="another mesh"):
        kept.memory()


def remembered(folder: Path, *terms: int, key: bytes = KEY) -> Kept:
    """Return the files of a console that has seen some terms, all with the key of `kept_receipt`."""
    kept = Kept(folder, MESH)
    for term in terms:
        kept.note(Sighting(term, SigningKey(key).public, 0, bytes(32), 1, None))
    return kept


def test_revocations_that_were_acknowledged_are_found_again_each_once(tmp_path: Path) -> None:
    kept = remembered(tmp_path, 1, 2)
    first, second = signed_revocation(b"1"), signed_revocation(b"2")
    for term, index, event in ((1, 4, first), (1, 9, second), (2, 3, first)):
        kept.keep(kept_receipt(event, term, index, MESH), term=term, index=index)
    kept.keep(KeptReceipt(Event("policy", (b"3",), None, ()), b"signed", KEY), term=1, index=2)
    assert kept.revocations() == [first, second]


def keep_chain(kept: Kept) -> None:
    (kept.root / CHAIN).write_bytes(b"")


@pytest.mark.parametrize(
    ("leave", "told"),
    [
        (
            lambda kept: kept.keep(kept_receipt(signed_revocation(b"1"), 1, 4, MESH), term=1, index=4),
            "receipts lie",
        ),
        (lambda kept: kept.pend(signed_revocation(b"1")), "receipts lie"),
        (lambda kept: kept.keep_policy(b"signed"), "policy.signed lies"),
        (keep_chain, "operators.signed lies"),
    ],
)
def test_a_memory_that_is_gone_beside_what_came_after_it_is_damage(
    tmp_path: Path, leave: Callable[[Kept], object], told: str
) -> None:
    kept = Kept(tmp_path, MESH)
    kept.note(Sighting(0, KEY, 0, bytes(32), 1, None))  # before the order
    leave(kept)
    assert kept.memory() == empty(MESH)
    (kept.root / "seen.cbor").unlink()
    with pytest.raises(UsageError, match=f"is gone, and {told} beside it"):
        kept.memory()
    with pytest.raises(UsageError, match=f"is gone, and {told} beside it"):
        kept.note(SEEN)


@pytest.mark.parametrize("name", ["-revocation.cbor", "x-revocation.cbor", "999999999999-1-revocation.cbor"])
def test_the_term_of_a_receipt_is_what_the_coordinator_signed_whatever_its_file_is_called(
    tmp_path: Path, name: str
) -> None:
    kept, event = remembered(tmp_path, 2), signed_revocation(b"1")
    path = kept.keep(kept_receipt(event, 2, 4, MESH), term=2, index=4)
    path.rename(path.with_name(name))
    assert (kept.unheard(2), kept.unheard(3)) == ([], [event])


def test_a_receipt_for_another_event_or_signed_by_nobody_is_damage(tmp_path: Path) -> None:
    one, other = signed_revocation(b"1"), signed_revocation(b"2")
    true = kept_receipt(one, 1, 4, MESH)
    for number, wrong in enumerate(
        (
            KeptReceipt(other, true.receipt, true.key),
            KeptReceipt(one, true.receipt, KEY),
            KeptReceipt(one, b"signed", true.key),
        )
    ):
        kept = remembered(tmp_path / str(number), 1)
        kept.keep(wrong, term=1, index=4)
        with pytest.raises(UsageError, match="no receipt of what is in it"):
            kept.revocations()


def test_a_receipt_by_a_key_that_was_not_seen_of_its_term_proves_nothing(tmp_path: Path) -> None:
    event = signed_revocation(b"1")
    # The key beside a receipt is anybody's word: that of its term was seen.
    kept = remembered(tmp_path / "other", 2, key=b"z" * 32)
    kept.keep(kept_receipt(event, 2, 4, MESH), term=2, index=4)
    with pytest.raises(UsageError, match="no receipt of what is in it"):
        kept.revocations()
    # Of a term that nobody saw here it is no receipt either: the next coordinator is told.
    kept = remembered(tmp_path / "none", 2)
    kept.keep(kept_receipt(event, 999, 4, MESH), term=999, index=4)
    assert kept.unheard(3) == kept.revocations() == [event]


def test_revocations_of_a_term_are_asked_for_once_and_again_when_operators_followed(memory: Memory) -> None:
    memory = learn(memory, replace(SEEN, revocations=7))
    assert learn(memory, SEEN).revocations == 7
    assert learn(memory, replace(SEEN, operators_version=3)).revocations == 0
    assert learn(memory, replace(SEEN, term=4)).revocations == 0
    assert learn(memory, replace(SEEN, term=4, revocations=2)).revocations == 2
