"""Calls into the kernel that block: in a thread, one at a time, and not waited for without end.

A thread that sits in the kernel cannot be stopped. Who gave up waiting leaves it behind; it tidies up after
itself when the kernel lets it go. Until then the device is refused, so that no more than one is left.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
from anyio import to_thread

from attestation.errors import AttesterError
from schemas.errors import Reason

T = TypeVar("T")

# Seconds. Linux' SEV driver asks a host that throttles reports for 60 s, TDX's waits 30 s for a quote.
DEADLINE = 70.0


class OneAtATime:
    """Run the blocking calls of one device."""

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._turn = anyio.Lock()
        self._at_work = threading.Lock()

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise `AttesterError` if the device takes too long."""
        async with self._turn:
            try:
                with anyio.fail_after(self._deadline):
                    return await to_thread.run_sync(partial(self._alone, call), abandon_on_cancel=True)
            except TimeoutError as error:
                raise AttesterError(Reason.UNAVAILABLE, "the device did not answer in time") from error

    def _alone(self, call: Callable[[], T]) -> T:
        if not self._at_work.acquire(blocking=False):
            raise AttesterError(
                Reason.UNAVAILABLE, "the device still works on a request that was given up: try again later"
            )
        try:
            return call()
        finally:
            self._at_work.release()
