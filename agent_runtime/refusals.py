"""Bad input is an event, not a crash: the one place where a peer's error ends (invariant 9)."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import PeerError
from transport import TransportError

log = logging.getLogger("sealbus.agent")


class Refusals:
    """Counts what was refused, by place and reason, and says so without the payload."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._told: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Turn a peer's error, or a broker that is away, into a counted event. Bugs pass through."""
        try:
            yield
        except PeerError as refusal:
            self.note(place, refusal.reason.value)
        except TransportError as error:
            self.note(place, type(error).__name__)

    def summary(self) -> str:
        """Say in a line what was refused so far."""
        parts = [f"{reason} at {place} {count} times" for (place, reason), count in self.counts.items()]
        return "; ".join(parts) or "nothing was refused"

    def note(self, place: str, reason: str) -> None:
        """Count one refusal."""
        self.counts[place, reason] += 1

    def tell(self) -> None:
        """Log what was counted since the last time; asked for now and then, so that no flood fills a disk."""
        for place, reason in self.counts - self._told:
            log.info("refused at %s: %s (%d so far)", place, reason, self.counts[place, reason])
        self._told = self.counts.copy()
