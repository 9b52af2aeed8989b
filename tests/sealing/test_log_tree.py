"""The tree of a growing log against its definition, RFC 9162 section 2.1, written down naively."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealing.errors import NotAuthenticError
from sealing.log_tree import EMPTY_ROOT, LogTree
from sealing.merkle import check_consistency, root_of_path

LARGEST = 70


def leaf(index: int) -> bytes:
    return hashlib.sha256(b"\x00" + index.to_bytes(8, "big")).digest()


LEAVES = [leaf(index) for index in range(LARGEST)]


def naive(leaves: Sequence[bytes]) -> bytes:
    """Return MTH as section 2.1.1 defines it."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\x01" + naive(leaves[:half]) + naive(leaves[half:])).digest()


def grown(size: int, *, keep: int | None = None) -> LogTree:
    """Return a tree of the first leaves that always kept the newest `keep` only."""
    tree = LogTree()
    for each in LEAVES[:size]:
        tree.append(each)
        if keep is not None:
            tree.forget(tree.size - keep)
    return tree


SIZES = st.integers(0, LARGEST)


@given(SIZES, st.data())
def test_every_root_that_a_log_ever_had_is_the_one_of_the_definition(size: int, data: st.DataObject) -> None:
    earlier = data.draw(st.integers(0, size))
    assert grown(size).root(earlier) == naive(LEAVES[:earlier])


def test_a_log_without_entries_has_the_root_of_the_rfc() -> None:
    assert LogTree().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()


@given(st.integers(1, LARGEST), st.data())
def test_every_leaf_is_proved_under_every_root_that_covers_it_and_nowhere_else(
    size: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = grown(LARGEST).inclusion(index, size)
    assert root_of_path(LEAVES[index], index, size, path) == naive(LEAVES[:size])
    other = data.draw(st.integers(0, size - 1).filter(lambda each: each != index) if size > 1 else st.none())
    if other is not None:
        with contextlib.suppress(NotAuthenticError):
            assert root_of_path(LEAVES[index], other, size, path) != naive(LEAVES[:size])


@given(st.integers(1, LARGEST), st.data())
def test_every_earlier_log_is_proved_to_be_the_beginning(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    proof = grown(LARGEST).consistency(first, second)
    check_consistency(first, second, naive(LEAVES[:first]), naive(LEAVES[:second]), proof)
    assert len(proof) <= 2 * second.bit_length()


@given(st.integers(1, LARGEST), st.data())
def test_no_proof_shows_that_a_log_with_a_changed_entry_goes_on(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    changed = data.draw(st.integers(0, first - 1))
    other = [*LEAVES[:changed], leaf(1_000), *LEAVES[changed + 1 : first]]
    proof = grown(LARGEST).consistency(first, second)
    with pytest.raises(NotAuthenticError):
        check_consistency(first, second, naive(other), naive(LEAVES[:second]), proof)


@given(st.integers(2, LARGEST), st.data())
def test_a_proof_that_is_longer_shorter_or_changed_proves_nothing(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    proof = list(grown(LARGEST).consistency(first, second))
    wrong = [[*proof, leaf(7)], [leaf(7), *proof], [leaf(7)]]
    if proof:
        wrong += [proof[1:], proof[:-1]]
        wrong += [[*proof[:at], leaf(1_000), *proof[at + 1 :]] for at in range(len(proof))]
    for each in wrong:
        with pytest.raises(NotAuthenticError):
            check_consistency(first, second, naive(LEAVES[:first]), naive(LEAVES[:second]), each)


@given(st.integers(-2, LARGEST), st.integers(-2, LARGEST), st.lists(st.binary(max_size=33), max_size=8))
def test_whatever_is_given_for_a_proof_ends_in_a_refusal_or_in_the_truth(
    first: int, second: int, proof: list[bytes]
) -> None:
    older, newer = naive(LEAVES[: max(first, 0)]), naive(LEAVES[: max(second, 0)])
    try:
        check_consistency(first, second, older, newer, proof)
    except NotAuthenticError:
        return
    assert 0 <= first <= second
    assert first == 0 or tuple(proof) == grown(LARGEST).consistency(first, second)


@given(st.integers(1, LARGEST), st.integers(0, LARGEST), st.data())
def test_a_log_that_forgets_proves_what_it_keeps(size: int, keep: int, data: st.DataObject) -> None:
    tree, whole = grown(size, keep=keep), grown(size)
    assert tree.root() == whole.root()
    first = data.draw(st.integers(max(1, tree.kept_from), size))
    second = data.draw(st.integers(first, size))
    assert tree.consistency(first, second) == whole.consistency(first, second)
    assert tree.root(first) == whole.root(first)
    if tree.kept_from < size:
        index = data.draw(st.integers(tree.kept_from, size - 1))
        assert tree.inclusion(index) == whole.inclusion(index)


def test_an_append_and_a_proof_cost_a_logarithm_of_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(left: bytes, right: bytes) -> bytes:
        nonlocal made
        made += 1
        return left

    monkeypatch.setattr("sealing.log_tree.node", counted)
    tree, size = LogTree(), 1 << 14
    for _ in range(size - 1):
        tree.append(bytes(32))
    assert made < size  # less than one each
    made = 0
    tree.root()
    assert made < 14
    made = 0
    tree.consistency(5_000, size - 1)
    tree.inclusion(5_000)
    assert made <= 2 * 14 * 14 / 2


def test_what_a_log_keeps_is_bounded_by_what_it_is_asked_to_keep() -> None:
    tree = LogTree()
    for index in range(10_000):
        tree.append(leaf(index))
        tree.forget(tree.size - 100)
    # Two nodes for each leaf that is kept, and one more of each level below which they stand.
    assert sum(map(len, tree._levels)) <= (2 * 100 + 2 * 14) * 32


@pytest.mark.parametrize(("first", "second"), [(0, 4), (2, 4), (5, 4), (5, 9)])
def test_a_proof_about_what_was_forgotten_or_never_was_is_refused(first: int, second: int) -> None:
    with pytest.raises(NotAuthenticError):
        grown(8, keep=5).consistency(first, second)


@dataclass(frozen=True)
class Example:
    """Section 2.1.5 of the RFC: hash by hash, the tree of seven entries and what it is named there."""

    d: tuple[bytes, ...] = tuple(LEAVES[:7])


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def test_the_examples_of_the_rfc_hold() -> None:
    a, b, c, d, e, f, j = Example().d
    g, h, i = node(a, b), node(c, d), node(e, f)
    k, l = node(g, h), node(i, j)  # noqa: E741 - the letters are the RFC's
    tree = grown(7)
    assert tree.root() == node(k, l)
    assert tree.inclusion(0) == (b, h, l)
    assert tree.inclusion(3) == (c, g, l)
    assert tree.inclusion(4) == (f, j, k)
    assert tree.inclusion(6) == (i, k)
    # hash0 = MTH of 3, hash1 = of 4, hash2 = of 6.
    assert tree.root(3) == node(g, c)
    assert tree.consistency(3, 7) == (c, d, g, l)
    assert tree.root(4) == k
    assert tree.consistency(4, 7) == (l,)
    assert tree.root(6) == node(k, i)
    assert tree.consistency(6, 7) == (i, j, k)
