"""The RFC 9162 section 2.1 tree over the hellos of one tick, so that one quote answers many."""

import hashlib
from collections.abc import Sequence

from sealing.context import Mesh
from sealing.errors import NotAuthenticError


def leaf(mesh: Mesh, hello: bytes) -> bytes:
    """Return the leaf hash of a hello."""
    return hashlib.sha256(b"\x00" + mesh.ctx("leaf") + hello).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over at least one leaf."""
    if len(leaves) == 1:
        return leaves[0]
    middle = _split(len(leaves))
    return _node(root(leaves[:middle]), root(leaves[middle:]))


def path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the inclusion path of leaf `index`, from the leaf upwards."""
    if len(leaves) == 1:
        return ()
    middle = _split(len(leaves))
    if index < middle:
        return (*path(leaves[:middle], index), root(leaves[middle:]))
    return (*path(leaves[middle:], index - middle), root(leaves[:middle]))


def paths(leaves: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """Return the root and every leaf's inclusion path, hashing each node once."""
    if len(leaves) == 1:
        return leaves[0], [()]
    middle = _split(len(leaves))
    left, to_left = paths(leaves[:middle])
    right, to_right = paths(leaves[middle:])
    return _node(left, right), [(*path, right) for path in to_left] + [(*path, left) for path in to_right]


def root_of_path(leaf_hash: bytes, index: int, count: int, proof: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion path leads to (RFC 9162 section 2.1.3.2); a wrong shape refuses."""
    if not 0 <= index < count:
        raise NotAuthenticError("leaf index")
    position, last, value = index, count - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise NotAuthenticError("path too long")
        if position & 1 or position == last:
            value = _node(sibling, value)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            value = _node(value, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise NotAuthenticError("path too short")
    return value
