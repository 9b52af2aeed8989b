"""The tree of one tick's hellos against a second, naive implementation of RFC 9162 section 2.1."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealing import merkle
from sealing.errors import NotAuthenticError
from tests.sealing.world import MESH, OTHER_MESH

LARGEST = 70
LEAVES = [merkle.leaf(MESH, bytes([index])) for index in range(LARGEST)]


def by_levels(leaves: list[bytes]) -> list[list[bytes]]:
    """Return the tree level by level: pairs are hashed, one that is left over moves up as it is."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        level = levels[-1]
        nodes = [
            hashlib.sha256(b"\x01" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)
        ]
        levels.append(nodes + level[len(level) & ~1 :])
    return levels


def path_by_levels(levels: list[list[bytes]], index: int) -> tuple[bytes, ...]:
    path = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index >>= 1
    return tuple(path)


@pytest.mark.parametrize("size", range(1, LARGEST + 1))
def test_every_leaf_of_every_tree_is_proven_and_both_implementations_agree(size: int) -> None:
    leaves = LEAVES[:size]
    levels = by_levels(leaves)
    root, paths = merkle.paths(leaves)
    assert root == merkle.root(leaves) == levels[-1][0]
    for index in range(size):
        path = merkle.path(leaves, index)
        assert path == paths[index] == path_by_levels(levels, index)
        assert merkle.root_of_path(leaves[index], index, size, path) == root


def proves(leaf: bytes, index: int, count: int, path: tuple[bytes, ...], root: bytes) -> bool:
    try:
        return merkle.root_of_path(leaf, index, count, path) == root
    except NotAuthenticError:
        return False


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 31, 64, 70])
def test_a_proof_proves_one_leaf_at_one_place(size: int) -> None:
    leaves = LEAVES[:size]
    root, paths = merkle.paths(leaves)
    for index, path in enumerate(paths):
        for wrong in {*range(size), -1, size, 2**62} - {index}:
            assert not proves(leaves[index], wrong, size, path, root)
        for other in range(size):
            assert proves(leaves[other], index, size, path, root) is (other == index)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_a_wrong_count_proves_no_other_leaf(size: int) -> None:
    # A path does not bind the count where the steps are the same, and needs not: the root is what is signed.
    leaves = LEAVES[:size]
    root, paths = merkle.paths(leaves)
    for index, path in enumerate(paths):
        for count in {*range(20), 2**32, 2**62} - {size}:
            for other in set(range(size)) - {index}:
                assert not proves(leaves[other], index, count, path, root)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 31, 64, 70])
def test_a_path_of_another_length_refuses(size: int) -> None:
    root, paths = merkle.paths(LEAVES[:size])
    for index, path in enumerate(paths):
        wrong = [(*path, root), (*path, *path, root)] + ([path[:-1], path[1:], ()] if path else [])
        for other in wrong:
            with pytest.raises(NotAuthenticError):
                merkle.root_of_path(LEAVES[index], index, size, other)


@pytest.mark.parametrize(("index", "count"), [(0, 0), (1, 1), (-1, 5), (5, 5), (2**62, 5), (0, -1)])
def test_a_leaf_outside_the_tree_refuses(index: int, count: int) -> None:
    with pytest.raises(NotAuthenticError, match="index"):
        merkle.root_of_path(LEAVES[0], index, count, ())


@given(
    st.integers(-2, 2**63), st.integers(-2, 2**63), st.lists(st.binary(min_size=32, max_size=32), max_size=40)
)
def test_any_claimed_place_ends_in_a_root_or_a_refusal(index: int, count: int, path: list[bytes]) -> None:
    try:
        root = merkle.root_of_path(LEAVES[0], index, count, path)
    except NotAuthenticError:
        return
    assert len(root) == 32


def test_a_leaf_is_of_one_mesh_and_never_an_inner_node() -> None:
    assert merkle.leaf(MESH, b"hello") != merkle.leaf(OTHER_MESH, b"hello")
    left, right = LEAVES[:2]
    assert merkle.leaf(MESH, left + right) != merkle.root([left, right])
