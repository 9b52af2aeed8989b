"""Waiting awake for what is about to come: the loop turns instead of sleeping.

Whoever sleeps is woken late, most of all on a virtual machine, whose idle processors are taken away, and
finds all caches cold. So the answer to a lone call is waited for awake, and the next one by who has answered,
as long as they lately came in time and nobody else wants the processor: at every turn others go first.
"""

import asyncio
import os
import time
from collections.abc import Callable

LINGER = 0.001  # seconds; what comes later is waited for asleep
CROWDED = 0.0002  # seconds between two turns that somebody else had the processor for
_REST_MOST = 8  # doublings: after so many waits in vain one in 256 is awake


class Linger:
    """How one process waits for one kind of thing; what is in vain costs at most `LINGER` of one in 256."""

    def __init__(self, processors: int | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        # With one processor, who answers could not run meanwhile.
        self._able = (processors or _processors()) > 1
        self._clock = clock  # a loop's own may have a grain as coarse as `LINGER`
        self._vain = 0  # waits in vain, one after the other
        self._rest = 0  # waits until the next one awake
        self._until = self._turned = 0.0

    def wait(self, loop: asyncio.AbstractEventLoop, done: Callable[[], bool]) -> None:
        """Keep a loop awake until it is `done`, but not for long; returns at once."""
        if self._rest:
            self._rest -= 1
        elif self._able:
            self._turned = self._clock()
            self._until = self._turned + LINGER
            loop.call_soon(self._turn, loop, done)

    def _turn(self, loop: asyncio.AbstractEventLoop, done: Callable[[], bool]) -> None:
        before, self._turned = self._turned, self._clock()
        if done():
            self._vain = 0
        elif self._turned < self._until and self._turned - before < CROWDED:
            os.sched_yield()
            loop.call_soon(self._turn, loop, done)
        else:
            self._vain = min(self._vain + 1, _REST_MOST)
            self._rest = (1 << self._vain) - 1


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
