"""A subscription's own queue and its one task, the same for every implementation."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from transport.interface import Delivery, Handler

log = logging.getLogger(__name__)

# A handler this far behind is not catching up; dropping the newest is what brokers do too.
MAX_WAITING = 65_536
MAX_WAITING_BYTES = 64 * 1024 * 1024


class Inbox:
    """A `Subscription`: takes messages at once, hands them to the handler one at a time."""

    def __init__(
        self,
        subject: str,
        queue: str | None,
        handler: Handler,
        on_close: "Callable[[Inbox], Awaitable[None]]",
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.dropped = 0
        self._handler = handler
        self._on_close = on_close
        self._waiting: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._bytes = 0
        self._closed = False

    def offer(self, subject: str, payload: bytes) -> None:
        """Take a message, or drop it if the handler is too far behind."""
        size = len(payload)
        if self._waiting.qsize() >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            if not self.dropped:
                log.warning("the handler of %s is too slow: messages are dropped", self.subject)
            self.dropped += 1
            return
        self._bytes += size
        self._waiting.put_nowait(Delivery(subject, payload))

    async def run(self) -> None:
        """Hand on messages until closed; what the handler raises goes to the caller."""
        while True:
            delivery = await self._waiting.get()
            if delivery is None or self._closed:
                return
            self._bytes -= len(delivery.payload)
            await self._handler(delivery)

    async def close(self) -> None:
        """End it; the handler is not called again, a call under way is left to finish."""
        if self._closed:
            return
        self._closed = True
        self._waiting.put_nowait(None)
        await self._on_close(self)


class Listening:
    """A `Subscription` whose taker is called while the message is read: nothing queues, so nothing drops."""

    dropped = 0

    def __init__(self, subject: str, on_close: "Callable[[Listening], Awaitable[None]]") -> None:
        self.subject = subject
        self._on_close = on_close
        self._closed = False

    async def close(self) -> None:
        """End it; the taker is not called again."""
        if not self._closed:
            self._closed = True
            await self._on_close(self)
