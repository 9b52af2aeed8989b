"""Bad input is an event, not a crash: the one place where a peer's error ends (invariant 9)."""

import logging
from collections import Counter
from types import TracebackType

from schemas.errors import PeerError
from transport import TransportError

log = logging.getLogger("sealbus.agent")

# What a peer or the broker can bring about. Where messages pass, an `except` of it costs less than `at` does.
REFUSED = (PeerError, TransportError)


LINES_MOST = 256  # of agents' code that are counted apart: code made at run time must not fill the memory


class Refusals:
    """Counts what was refused, and handlers' bugs, by place and reason, and says so without the payload."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._told: Counter[tuple[str, str]] = Counter()
        self._lines: set[str] = set()
        self._bugs: set[tuple[str, str]] = set()

    def at(self, place: str) -> "_At":
        """Turn a peer's error, or a broker that is away, into a counted event. Bugs pass through."""
        return _At(self, place)

    def summary(self) -> str:
        """Say in a line what was refused or failed so far."""
        parts = [
            f"{reason} {'in' if (place, reason) in self._bugs else 'at'} {place} {count} times"
            for (place, reason), count in self.counts.items()
        ]
        return "; ".join(parts) or "nothing was refused"

    def note(self, place: str, reason: str) -> None:
        """Count one refusal."""
        self.counts[place, reason] += 1

    def bug(self, place: str, kind: str, line: str) -> None:
        """Count a bug of the agent's own, by the line in its code if that is known."""
        at = f"{place}, {line}"
        if line and (at in self._lines or len(self._lines) < LINES_MOST):
            self._lines.add(at)
            place = at
        self._bugs.add((place, kind))
        self.note(place, kind)

    def caught(self, place: str, error: PeerError | TransportError) -> None:
        """Count an error of `REFUSED`."""
        self.note(place, error.reason.value if isinstance(error, PeerError) else type(error).__name__)

    def tell(self) -> None:
        """Log what was counted since the last time; asked for now and then, so that no flood fills a disk."""
        for place, reason in self.counts - self._told:
            what = "failed in" if (place, reason) in self._bugs else "refused at"
            log.info("%s %s: %s (%d so far)", what, place, reason, self.counts[place, reason])
        self._told = self.counts.copy()


class _At:
    __slots__ = ("_place", "_refusals")

    def __init__(self, refusals: Refusals, place: str) -> None:
        self._refusals = refusals
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, REFUSED):
            self._refusals.caught(self._place, error)
            return True
        return False
