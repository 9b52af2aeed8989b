"""The RFC 9162 section 2.1 tree: over the hellos of one tick, so that one quote answers many, and proofs."""

import hashlib
from collections.abc import Sequence

from sealing.context import Mesh
from sealing.errors import NotAuthenticError


def leaf(mesh: Mesh, hello: bytes) -> bytes:
    """Return the leaf hash of a hello."""
    return hashlib.sha256(b"\x00" + mesh.ctx("leaf") + hello).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(count: int) -> int:
    """Return the largest power of two below `count`, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over at least one leaf."""
    if len(leaves) == 1:
        return leaves[0]
    middle = split(len(leaves))
    return node(root(leaves[:middle]), root(leaves[middle:]))


def path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the inclusion path of leaf `index`, from the leaf upwards."""
    if len(leaves) == 1:
        return ()
    middle = split(len(leaves))
    if index < middle:
        return (*path(leaves[:middle], index), root(leaves[middle:]))
    return (*path(leaves[middle:], index - middle), root(leaves[:middle]))


def paths(leaves: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """Return the root and every leaf's inclusion path, hashing each node once."""
    if len(leaves) == 1:
        return leaves[0], [()]
    middle = split(len(leaves))
    left, to_left = paths(leaves[:middle])
    right, to_right = paths(leaves[middle:])
    return node(left, right), [(*path, right) for path in to_left] + [(*path, left) for path in to_right]


def root_of_path(leaf_hash: bytes, index: int, count: int, proof: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion path leads to (RFC 9162 section 2.1.3.2); a wrong shape refuses."""
    if not 0 <= index < count:
        raise NotAuthenticError("leaf index")
    position, last, value = index, count - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise NotAuthenticError("path too long")
        if position & 1 or position == last:
            value = node(sibling, value)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            value = node(value, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise NotAuthenticError("path too short")
    return value


def check_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Refuse unless `proof` shows that the first tree begins the second (RFC 9162 section 2.1.4.2)."""
    # 1. Of the same size they are the same; everything begins with nothing.
    if not 0 <= first <= second or ((first in (0, second)) and proof):
        raise NotAuthenticError("log sizes")
    if first in (0, second):
        if first and first_root != second_root:
            raise NotAuthenticError("two roots of one size")
        return
    # 2. Where the first tree is one node of the second, its root begins the path.
    path = (first_root, *proof) if first & (first - 1) == 0 else tuple(proof)
    if not path:
        raise NotAuthenticError("path too short")
    # 3. From its last complete subtree upwards, towards both roots at once.
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    older = newer = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise NotAuthenticError("path too long")
        if position & 1 or position == last:
            older, newer = node(sibling, older), node(sibling, newer)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            newer = node(newer, sibling)
        position, last = position >> 1, last >> 1
    # 4. Both are reached, and nothing is left over.
    if last != 0 or older != first_root or newer != second_root:
        raise NotAuthenticError("not the beginning of this log")
