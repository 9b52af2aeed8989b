"""Replay windows: counters in any order, each once."""

from sealing.errors import ReplayedError


class ReplayWindow:
    """Accept each counter once, at most `size` behind the highest seen.

    Two steps, because nothing may change before the tag has verified: `check` is cheap and changes
    nothing; `mark` follows a successful open.
    """

    __slots__ = ("_mask", "_seen", "_size", "_top")

    def __init__(self, size: int) -> None:
        self._size = size
        self._mask = (1 << size) - 1
        self._top = -1
        self._seen = 0  # bit n: counter `top - n` was here

    def check(self, counter: int) -> None:
        """Raise `ReplayedError` if `counter` was here or is too old to know."""
        behind = self._top - counter
        if behind >= self._size or (behind >= 0 and self._seen >> behind & 1):
            raise ReplayedError

    def mark(self, counter: int) -> None:
        """Remember an authenticated counter."""
        ahead = counter - self._top
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & self._mask if ahead < self._size else 1
            self._top = counter
        else:
            self._seen |= 1 << -ahead
