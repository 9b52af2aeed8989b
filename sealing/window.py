"""Replay windows: counters in any order, each once."""

from sealing.errors import ReplayedError


class ReplayWindow:
    """Accept each counter once, at most `size` behind the highest seen.

    Two steps, because nothing may change before the tag has verified: `check` is cheap and changes
    nothing; `mark` follows a successful open.
    """

    __slots__ = ("_mask", "_missing", "_size", "_top")

    def __init__(self, size: int) -> None:
        self._size = size
        self._mask = (1 << size) - 1
        self._top = -1
        # Bit n: counter `top - n` was not here. Where all come in order it stays 0, the cheapest of numbers.
        self._missing = 0

    def check(self, counter: int) -> None:
        """Raise `ReplayedError` if `counter` was here or is too old to know."""
        behind = self._top - counter
        if behind >= self._size or (behind >= 0 and not self._missing >> behind & 1):
            raise ReplayedError

    def mark(self, counter: int) -> None:
        """Remember an authenticated counter."""
        ahead = counter - self._top
        if ahead <= 0:
            self._missing &= ~(1 << -ahead)
            return
        passed = min(ahead, self._size)
        self._missing = (self._missing << passed | (1 << passed) - 2) & self._mask
        self._top = counter
