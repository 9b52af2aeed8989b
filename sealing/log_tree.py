"""The RFC 9162 section 2.1 tree of a log that grows: a logarithm of hashes an append and a proof.

Nodes of what was forgotten go too, but for those under which every later root and proof stands. So the
memory is bounded by what is kept, whatever the log's size.
"""

from sealing.errors import NotAuthenticError
from sealing.merkle import node, split

EMPTY_ROOT = bytes.fromhex(
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)  # SHA-256 of ""

SIZE = 32  # of a hash; nodes lie side by side, which takes a third of the memory of objects


class LogTree:
    """Leaf hashes in, roots and proofs out. Ranges are half open: `size` leaves are 0 to size - 1."""

    def __init__(self) -> None:
        self.size = 0
        self.kept_from = 0
        self._levels: list[bytearray] = []  # the roots of complete subtrees of 2^level leaves
        self._gone: list[int] = []  # how many of a level were forgotten

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash, and every complete subtree that it ends."""
        index, level, value = self.size, 0, leaf
        self._push(level, value)
        while index & 1:
            value = node(self._at(level, index - 1), value)
            index, level = index >> 1, level + 1
            self._push(level, value)
        self.size += 1

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves, or over all."""
        size = self._size(size)
        return self._hash(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the path of a leaf below the root of `size` leaves (section 2.1.3.1), from the leaf up."""
        size = self._size(size)
        if not self.kept_from <= index < size:
            raise NotAuthenticError("leaf index")
        low, high, path = 0, size, []
        while high - low > 1:
            middle = low + split(high - low)
            if index < middle:
                path.append(self._hash(middle, high))
                high = middle
            else:
                path.append(self._hash(low, middle))
                low = middle
        return tuple(reversed(path))

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """Return the proof that `first` leaves begin the `second` ones (section 2.1.4.1)."""
        if not max(1, self.kept_from) <= first <= self._size(second):
            raise NotAuthenticError("log sizes")
        low, high, path = 0, second, []
        while first != high:
            middle = low + split(high - low)
            if first <= middle:
                path.append(self._hash(middle, high))
                high = middle
            else:
                path.append(self._hash(low, middle))
                low = middle
        # The older root itself is known to who asks, unless the newer tree does not hold it as one node.
        return tuple(reversed([*path, self._hash(low, high)] if low else path))

    def forget(self, before: int) -> None:
        """Keep what proofs about leaves and sizes from `before` on need."""
        self.kept_from = max(self.kept_from, min(before, self.size))
        for level, nodes in enumerate(self._levels):
            # A left sibling of the first that is kept stands in every later path.
            needed = (self.kept_from >> level) & ~1
            if (gone := needed - self._gone[level]) > 0:
                del nodes[: gone * SIZE]
                self._gone[level] = needed

    def _size(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size or 0 < size < self.kept_from:
            raise NotAuthenticError("log size")
        return size

    def _push(self, level: int, value: bytes) -> None:
        if level == len(self._levels):
            self._levels.append(bytearray())
            self._gone.append(0)
        self._levels[level] += value

    def _at(self, level: int, index: int) -> bytes:
        start = (index - self._gone[level]) * SIZE
        return bytes(self._levels[level][start : start + SIZE])

    def _hash(self, low: int, high: int) -> bytes:
        """Hash a range that begins where a subtree of at least its size does."""
        value, count, level = b"", high - low, 0
        while count >> level:
            if count >> level & 1:
                complete = self._at(level, (high >> level) - 1)
                value = node(complete, value) if value else complete
                high -= 1 << level
            level += 1
        return value
