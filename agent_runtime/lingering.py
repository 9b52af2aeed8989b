"""Waiting awake for an answer that is about to come: the loop turns instead of sleeping.

Whoever sleeps is woken late, most of all on a virtual machine, whose idle processors are taken away, and
finds all caches cold. So a call by itself is waited for awake, as long as such calls lately were answered in
time and nobody else wants the processor: at every turn others go first.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

LINGER = 0.001  # seconds; who answers later is waited for asleep
CROWDED = 0.0002  # seconds between two turns that somebody else had the processor for
_REST_MOST = 8  # doublings: after so many waits in vain one call in 256 is tried


class Linger:
    """How one process waits for its calls. What is in vain costs it at most `LINGER` of a call in 256."""

    def __init__(self, processors: int | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        # With one processor, who answers could not run meanwhile.
        self._able = (processors or _processors()) > 1
        self._clock = clock  # a loop's own may have a grain as coarse as `LINGER`
        self._vain = 0  # waits in vain, one after the other
        self._rest = 0  # calls until the next is waited for awake
        self._until = self._turned = 0.0

    def wait(self, answer: "asyncio.Future[Any]") -> None:
        """Keep the loop awake until `answer` is there, but not for long; returns at once."""
        if self._rest:
            self._rest -= 1
        elif self._able:
            self._turned = self._clock()
            self._until = self._turned + LINGER
            loop = answer.get_loop()
            loop.call_soon(self._turn, loop, answer)

    def _turn(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[Any]") -> None:
        before, self._turned = self._turned, self._clock()
        if answer.done():
            self._vain = 0
        elif self._turned < self._until and self._turned - before < CROWDED:
            os.sched_yield()
            loop.call_soon(self._turn, loop, answer)
        else:
            self._vain = min(self._vain + 1, _REST_MOST)
            self._rest = (1 << self._vain) - 1


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
