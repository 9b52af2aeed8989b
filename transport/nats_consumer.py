"""A pull consumer that keeps itself fed: fetches ahead, and mends itself after whatever the broker does."""

import asyncio
import logging
from collections.abc import Callable

from transport.errors import ClosedError, TransportError
from transport.interface import ConsumerSpec
from transport.nats_protocol import (
    NOT_FOUND,
    AckSubject,
    as_exception,
    consumer_config,
    nak_body,
    parse_ack_subject,
    parse_count,
    parse_headers,
    pull_request,
)
from transport.nats_session import NatsSession

log = logging.getLogger(__name__)

PULL_EXPIRES = 30.0
HEARTBEAT = 5.0
# Two heartbeats missed: the pull request is gone, whoever lost it.
SILENCE = 2.5 * HEARTBEAT
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 5.0


class NatsDelivery:
    """A `StreamDelivery`; `reply` is where to answer, empty where no answer is wanted."""

    __slots__ = ("_reply", "_send", "delivered", "headers", "payload", "pending", "sequence", "subject")

    def __init__(
        self,
        subject: str,
        payload: bytes,
        headers: bytes,
        reply: str,
        at: AckSubject,
        send: Callable[[str, bytes], None],
    ) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = headers
        self.delivered = at.delivered
        self.sequence = at.stream_seq
        self.pending = at.pending
        self._reply = reply
        self._send = send

    def __repr__(self) -> str:
        return f"NatsDelivery({self.subject}, {len(self.payload)} bytes)"

    async def ack(self) -> None:
        """Say that it is done."""
        self.answer(b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """Hand it back, to be delivered again after `delay` seconds."""
        self.answer(nak_body(delay))

    async def in_progress(self) -> None:
        """Ask for another `ack_wait`."""
        self.answer(b"+WPI")

    def answer(self, body: bytes) -> None:
        """Send an answer without waiting."""
        if self._reply:
            self._send(self._reply, body)


class NatsConsumer:
    """A `Consumer`. Each start has an inbox of its own, so a former start's messages reach nobody."""

    def __init__(self, session: NatsSession, spec: ConsumerSpec) -> None:
        self._session = session
        self._spec = spec
        self._queue: asyncio.Queue[NatsDelivery | None] = asyncio.Queue()
        self._name = spec.durable or ""
        self._sid: int | None = None
        self._inbox = ""
        self._asked = 0
        self._last_heard = 0.0
        self._last_stream_seq: int | None = None
        self._next_consumer_seq = 1
        self._broken = asyncio.Event()
        self._ended: ClosedError | None = None
        self._closed = False
        self.pending_at_start = 0

    def __aiter__(self) -> "NatsConsumer":
        return self

    async def __anext__(self) -> NatsDelivery:
        item = None if self._closed or self._ended else await self._queue.get()
        if item is not None:
            self._refill()
            return item
        self._queue.put_nowait(None)  # for the next waiter
        if self._ended is not None:
            raise self._ended
        raise StopAsyncIteration

    async def start(self) -> None:
        """Make the broker's side of it, or raise why that cannot be."""
        spec, former = self._spec, self._sid
        self._detach()
        if former is not None:
            await self._session.forget_late(former)
        self._name = spec.durable or self._session.new_token()
        self._asked, self._next_consumer_seq = 0, 1
        if spec.sole:
            await self._end_former()
        config = consumer_config(spec, self._name, self._last_stream_seq)
        answer = await self._session.api(
            f"CONSUMER.CREATE.{spec.stream}.{self._name}", {"stream_name": spec.stream, "config": config}
        )
        if answer.error is not None:
            raise as_exception(answer.error, f"consuming {spec.stream}")
        self.pending_at_start = answer.num_pending
        self._inbox = f"{self._session.inbox}.c.{self._session.new_token()}"
        self._sid = self._session.add_route(self._inbox, None, self._route)
        self._last_heard = self._now()
        self._broken.clear()
        self._refill()

    async def _end_former(self) -> None:
        # A killed process acknowledges nothing, and what it asked for may still swallow messages: without
        # this, each would wait for its ack_wait.
        stream = self._spec.stream
        answer = await self._session.api(f"CONSUMER.DELETE.{stream}.{self._name}", {})
        if answer.error is not None and answer.error.code != NOT_FOUND:
            raise as_exception(answer.error, f"consuming {stream} anew")

    async def maintain(self) -> None:
        """Watch over it until it is closed."""
        backoff = 0.0
        while not self._closed:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self._broken.wait()
            except TimeoutError:
                backoff = 0.0
                if not self._asked or self._now() - self._last_heard <= SILENCE:
                    continue
            # The first mending is immediate; a broker that breaks it again at once is given time.
            await asyncio.sleep(backoff)
            backoff = min(max(2 * backoff, FIRST_BACKOFF), LAST_BACKOFF)
            await self._session.wait_connected()
            try:
                await self.start()
            except ClosedError:
                return
            except TransportError as error:
                log.warning("consumer of %s: %s", self._spec.stream, error)
                self._broken.set()

    def reconnected(self) -> None:
        """Take up again on a new connection."""
        if self._spec.durable is None:
            # Whatever was on its way was never acknowledged, so only a new consumer has no gap.
            self._broken.set()
        else:
            self._asked = 0
            self._last_heard = self._now()
            self._refill()

    def end(self, error: ClosedError) -> None:
        """End the iteration with an error."""
        self._ended = error
        self._hand_back()

    async def close(self) -> None:
        """End it, and hand back what was fetched ahead."""
        if self._closed:
            return
        self._closed = True
        sid = self._sid
        self._hand_back()
        self._session.dependents.discard(self)
        if sid is not None:
            await self._session.forget_late(sid)

    def _hand_back(self) -> None:
        # First the end of interest, or the broker would deliver here again what is handed back.
        self._detach()
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if item is not None:
                item.answer(nak_body(0.0))
        self._queue.put_nowait(None)

    def _detach(self) -> None:
        if self._sid is None:
            return
        if self._spec.durable is None:
            self._session.remove_route(self._sid)
            self._session.tell(f"$JS.API.CONSUMER.DELETE.{self._spec.stream}.{self._name}", b"")
        else:
            self._session.retire_route(self._sid, self._too_late)
        self._sid = None

    def _too_late(self, _subject: str, reply: str, _payload: bytes, _headers: bytes) -> None:
        if parse_ack_subject(reply) is not None:
            self._session.tell(reply, nak_body(0.0))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _refill(self) -> None:
        """Keep between half a batch and a batch asked for or waiting here."""
        have = self._asked + self._queue.qsize()
        if self._sid is None or self._broken.is_set() or have > self._spec.batch // 2:
            return
        wanted = self._spec.batch - have
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._spec.stream}.{self._name}"
        if self._session.tell(subject, pull_request(wanted, PULL_EXPIRES, HEARTBEAT), self._inbox):
            self._asked += wanted

    def _route(self, subject: str, reply: str, payload: bytes, headers: bytes) -> None:
        self._last_heard = self._now()
        at = parse_ack_subject(reply)
        if at is None:
            self._on_status(headers)
            return
        self._asked = max(0, self._asked - 1)
        if self._queue.qsize() > 2 * self._spec.batch:
            # More than was asked for. A durable's comes again, an ordered one starts behind the last.
            self._broken.set()
            return
        if self._spec.durable is not None:
            self._queue.put_nowait(NatsDelivery(subject, payload, headers, reply, at, self._session.post_now))
            return
        if self._broken.is_set():
            return
        if at.consumer_seq != self._next_consumer_seq:
            self._broken.set()
            return
        self._next_consumer_seq += 1
        self._last_stream_seq = at.stream_seq
        self._queue.put_nowait(NatsDelivery(subject, payload, headers, "", at, self._session.post_now))

    def _on_status(self, headers: bytes) -> None:
        """React to a status (ADR-13): 100 heartbeat, 408 the request expired, anything else: start again."""
        status, fields = parse_headers(headers)
        if status == 100:
            return
        left = parse_count(fields.get("Nats-Pending-Messages"))
        self._asked = 0 if left is None else max(0, self._asked - left)
        if status == 408:
            self._refill()
        else:
            self._broken.set()
