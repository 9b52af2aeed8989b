"""The mesh's time as one process knows it (docs/protocol.md section 4).

Time comes only from the coordinator's answer to a request of our own and goes on by a clock whose rate
the host cannot set. A beacon never sets it.
"""

import time
from collections.abc import Callable

from schemas.errors import Reason
from schemas.messages import Millis
from sealing.errors import SealingError

LocalClock = Callable[[], Millis]


def boottime() -> Millis:
    """Return milliseconds since boot, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class MeshClock:
    """Mesh time over a local clock. Pure: the local clock is handed in."""

    def __init__(self, local: LocalClock) -> None:
        self._local = local
        self._offset: int | None = None
        self.latest: Millis = 0  # the highest time so far, for who just looked at the clock

    @property
    def is_set(self) -> bool:
        """Tell whether the coordinator ever answered."""
        return self._offset is not None

    def set(self, told: Millis, *, sent: Millis, grace: Millis) -> None:
        """Take the coordinator's time, told in answer to what was sent at local time `sent`."""
        if self._local() - sent >= grace // 2:
            raise SealingError(Reason.NOT_LIVE, "the answer with the time took too long")
        self.now()  # the highest may have been reached since it was last asked
        # From the moment of sending: ahead of true time by at most the round trip, never behind.
        self._offset = told - sent

    def now(self) -> Millis:
        """Return mesh time; before it is set, the beginning of time."""
        offset = self._offset
        if offset is None:
            return 0
        current = self._local() + offset
        if current > self.latest:
            self.latest = current
        return current

    def highest(self) -> Millis:
        """Return the highest time this process ever held: what expiries and forgetting are judged by."""
        self.now()
        return self.latest

    def both(self) -> tuple[Millis | None, Millis]:
        """Return mesh time, None before it is set, and the highest ever held, of one reading."""
        offset = self._offset
        if offset is None:
            return None, 0
        now = self._local() + offset
        if now > self.latest:
            self.latest = now
        return now, self.latest
