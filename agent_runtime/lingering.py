"""Waiting awake for an answer that is about to come: the loop turns instead of sleeping.

Whoever sleeps is woken late, most of all on a virtual machine, whose idle processors are taken away, and
finds all caches cold. So a call by itself is waited for awake, as long as such calls lately were answered in
time; at every turn whoever else wants the processor goes first.
"""

import asyncio
import os
from typing import Any

LINGER = 0.001  # seconds; who answers later is waited for asleep
_REST_MOST = 8  # doublings: after so many waits in vain one call in 256 is tried


class Linger:
    """How one process waits for its calls. What is in vain costs it at most `LINGER` of a call in 256."""

    def __init__(self, processors: int | None = None) -> None:
        # With one processor, who answers could not run meanwhile.
        self._able = (processors or _processors()) > 1
        self._vain = 0  # waits in vain, one after the other
        self._rest = 0  # calls until the next is waited for awake

    def wait(self, answer: "asyncio.Future[Any]") -> None:
        """Keep the loop awake until `answer` is there, but not for long; returns at once."""
        if self._rest:
            self._rest -= 1
        elif self._able:
            loop = answer.get_loop()
            loop.call_soon(self._turn, loop, answer, loop.time() + LINGER)

    def _turn(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[Any]", until: float) -> None:
        if answer.done():
            self._vain = 0
        elif loop.time() < until:
            os.sched_yield()
            loop.call_soon(self._turn, loop, answer, until)
        else:
            self._vain = min(self._vain + 1, _REST_MOST)
            self._rest = (1 << self._vain) - 1


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
