"""The coordinator's own clock: the host's time once, at its start, and from then on what has passed since.

The host can lie about the time once, and the operators' signed order corrects a clock that is behind; it
cannot set it back or forth later (CLOCK_BOOTTIME goes on through suspends).
"""

import time
from collections.abc import Callable

from schemas.messages import Millis


def boottime() -> Millis:
    """Return milliseconds since boot, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def wall() -> Millis:
    """Return the host's word on milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def coordinator_clock(*floors: Millis) -> Callable[[], Millis]:
    """Return a clock that starts at the host's time, or at a signed time that is later."""
    ahead = max(wall(), *floors) - boottime()
    return lambda: boottime() + ahead
