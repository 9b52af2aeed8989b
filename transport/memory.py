"""A transport within one process: the same contract as over NATS, without a broker to start.

The broker of `MemoryBroker` is always there and forgets everything with the process.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

from schemas.errors import UsageError
from transport.errors import ClosedError, ConflictError, FullError, TooLargeError, UnavailableError
from transport.inbox import Inbox
from transport.interface import (
    DEFAULT_DEADLINE,
    HEADER_ROOM,
    BucketSpec,
    ConsumerSpec,
    Delivery,
    Handler,
    KvEntry,
    OnState,
    Start,
    State,
    StreamSpec,
    Taker,
    Unheard,
)
from transport.lifetime import Workers, workers
from transport.memory_stream import MemoryCursor, MemoryStream, Record
from transport.subjects import (
    check_filter,
    check_key,
    check_message_id,
    check_name,
    check_subject,
    matches,
    overlap,
)

DEFAULT_MAX_PAYLOAD = 1024 * 1024


class MemoryBroker:
    """What the transports of one process share."""

    def __init__(self, *, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        self.max_payload = max_payload - HEADER_ROOM
        self.inboxes: list[Inbox] = []
        self.streams: dict[str, MemoryStream] = {}
        self._turn = itertools.count()

    @contextlib.asynccontextmanager
    async def connect(
        self, *, name: str, on_state: OnState | None = None
    ) -> "AsyncIterator[MemoryTransport]":
        """Connect until the block ends."""
        check_name(name)
        async with workers() as tasks:
            transport = MemoryTransport(self, tasks, on_state)
            try:
                yield transport
            finally:
                await transport.close()

    def route(self, subject: str, payload: bytes) -> bool:
        """Hand a message to every subscriber, and to one of each queue group; tell if anybody listens."""
        heard = False
        groups: dict[tuple[str, str], list[Inbox]] = {}
        for inbox in self.inboxes:
            if not matches(inbox.subject, subject):
                continue
            heard = True
            if inbox.queue is None:
                inbox.offer(subject, payload)
            else:
                groups.setdefault((inbox.subject, inbox.queue), []).append(inbox)
        for members in groups.values():
            members[next(self._turn) % len(members)].offer(subject, payload)
        return heard

    def stream_of(self, subject: str) -> MemoryStream | None:
        """Return the stream that stores a subject."""
        return next((stream for stream in self.streams.values() if stream.takes(subject)), None)

    def stream(self, name: str) -> MemoryStream:
        """Return a stream by name."""
        try:
            return self.streams[name]
        except KeyError as error:
            raise UnavailableError(f"there is no stream {name}") from error

    def ensure(self, spec: StreamSpec, *, last_only: bool) -> None:
        """Make a stream or bring it to `spec`."""
        for name, other in self.streams.items():
            if name != spec.name and any(overlap(a, b) for a in spec.subjects for b in other.spec.subjects):
                raise ConflictError(f"another stream stores subjects of {spec.name}")
        known = self.streams.get(spec.name)
        if known is None:
            self.streams[spec.name] = MemoryStream(spec, last_only=last_only)
        else:
            known.update(spec)


class MemoryDelivery:
    """A `StreamDelivery`."""

    __slots__ = ("_cursor", "_seq", "delivered", "payload", "subject")

    def __init__(self, record: Record, delivered: int, cursor: MemoryCursor) -> None:
        self.subject = record.subject
        self.payload = record.payload
        self.delivered = delivered
        self._seq = record.seq
        self._cursor = cursor

    def __repr__(self) -> str:
        return f"MemoryDelivery({self.subject}, {len(self.payload)} bytes)"

    async def ack(self) -> None:
        """Say that it is done."""
        if self._cursor.spec.durable is not None:
            self._cursor.ack(self._seq)

    async def nak(self, delay: float = 0.0) -> None:
        """Hand it back, to be delivered again after `delay` seconds."""
        self._cursor.defer(self._seq, _now() + delay)

    async def in_progress(self) -> None:
        """Ask for another `ack_wait`."""
        self._cursor.defer(self._seq, _now() + self._cursor.spec.ack_wait)


class MemoryConsumer:
    """A `Consumer`."""

    def __init__(self, transport: "MemoryTransport", cursor: MemoryCursor) -> None:
        self._transport = transport
        self._cursor = cursor
        self._wakers: set[asyncio.Event] = set()
        self._closed = False

    def __aiter__(self) -> "MemoryConsumer":
        return self

    async def __anext__(self) -> MemoryDelivery:
        record, delivered = await self.take()
        return MemoryDelivery(record, delivered, self._cursor)

    async def take(self) -> tuple[Record, int]:
        """Return the next message and its delivered count."""
        awake = asyncio.Event()
        self._cursor.wakers.add(awake.set)
        self._wakers.add(awake)
        try:
            while True:
                awake.clear()
                if self._closed:
                    raise StopAsyncIteration
                self._transport.check_open()
                taken = self._cursor.take(_now())
                if taken is not None:
                    return taken
                due = self._cursor.next_due()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if due is None else max(0.0, due - _now())):
                        await awake.wait()
        finally:
            self._wakers.discard(awake)
            self._cursor.wakers.discard(awake.set)

    def caught_up(self) -> bool:
        """Say whether all that is there was taken."""
        return self._cursor.caught_up(_now())

    def wake(self) -> None:
        """Have every waiter look again."""
        for awake in self._wakers:
            awake.set()

    async def close(self) -> None:
        """End it, and hand back what was fetched ahead."""
        self._closed = True
        self._transport.forget(self)
        self.wake()


class MemoryWatch:
    """A `Watch`."""

    def __init__(self, bucket: str, consumer: MemoryConsumer) -> None:
        self._prefix = len(f"$KV.{bucket}.")
        self._consumer = consumer
        self._told = False

    def __aiter__(self) -> "MemoryWatch":
        return self

    async def __anext__(self) -> KvEntry | None:
        if not self._told and self._consumer.caught_up():
            self._told = True
            return None
        record, _ = await self._consumer.take()
        return KvEntry(record.subject[self._prefix :], None if record.marker else record.payload, record.seq)

    async def close(self) -> None:
        """End it."""
        await self._consumer.close()


class MemoryTransport:
    """A `Transport`."""

    def __init__(self, broker: MemoryBroker, tasks: Workers, on_state: OnState | None) -> None:
        self._broker = broker
        self._tasks = tasks
        self._on_state = on_state
        self._inboxes: set[Inbox] = set()
        self._readers: list[Callable[[], None]] = []
        self._unheard: list[Unheard] = []
        self._consumers: set[MemoryConsumer] = set()
        self.state = State.DISCONNECTED
        self._set_state(State.CONNECTED)

    @property
    def max_payload(self) -> int:
        """The largest payload that every operation takes."""
        return self._broker.max_payload

    async def wait_connected(self) -> None:
        """Return once the broker is there."""
        self.check_open()

    async def close(self) -> None:
        """End everything. More calls do nothing."""
        if self.state is State.CLOSED:
            return
        self._set_state(State.CLOSED)
        for inbox in self._inboxes:
            self._broker.inboxes.remove(inbox)
        self._inboxes.clear()
        for consumer in list(self._consumers):
            consumer.wake()
        self._tasks.end()

    def check_open(self) -> None:
        """Raise `ClosedError` after `close`."""
        if self.state is State.CLOSED:
            raise ClosedError("the transport was closed")

    def forget(self, consumer: MemoryConsumer) -> None:
        """Forget a consumer that was closed."""
        self._consumers.discard(consumer)

    async def publish(self, subject: str, payload: bytes, hint: str = "") -> None:
        """Send and forget; returns when it is buffered."""
        self.post(subject, payload, hint=hint)

    def push(self) -> None:
        """Do nothing: nothing is buffered."""

    def after_reading(self, call: Callable[[], None]) -> None:
        """Call after each message: nothing is read here."""
        self._readers.append(call)

    async def breathe(self) -> None:
        """Let others run."""
        await asyncio.sleep(0)

    async def on_unheard(self, call: Unheard) -> None:
        """Call with the `hint` of what was published where nobody listened."""
        self._unheard.append(call)

    def post(self, subject: str, *parts: bytes, hint: str = "") -> bool:
        """Do as `publish` without waiting."""
        self.check_open()
        payload = b"".join(parts)
        check_subject(subject)
        self._check_size(payload)
        stream = self._broker.stream_of(subject)
        if stream is not None:
            # Who only publishes does not learn that a stream is full.
            with contextlib.suppress(FullError):
                stream.append(subject, payload, now=_now())
        if not self._broker.route(subject, payload) and stream is None and hint:
            for call in self._unheard:
                asyncio.get_running_loop().call_soon(call, hint)
        return False

    async def flush(self) -> None:
        """Wait until the broker has read all that was published."""
        self.check_open()

    async def subscribe(self, subject: str, handler: Handler, *, queue: str | None = None) -> Inbox:
        """Call `handler` for each message, one at a time; returns when the broker knows of it."""
        self.check_open()
        check_filter(subject)
        if queue is not None:
            check_name(queue)
        inbox = Inbox(subject, queue, handler, self._unsubscribe)
        self._broker.inboxes.append(inbox)
        self._inboxes.add(inbox)
        self._tasks.spawn(inbox.run)
        return inbox

    async def listen(self, subject: str, taker: Taker) -> Inbox:
        """Call `taker` for each payload; here nobody reads, so a task of its own does it."""

        async def hand_on(delivery: Delivery) -> None:
            taker(memoryview(delivery.payload))
            for reader in self._readers:
                reader()

        return await self.subscribe(subject, hand_on)

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Make the stream, or bring an existing one to `spec`; `ConflictError` if that cannot be."""
        self.check_open()
        check_name(spec.name)
        for subject in spec.subjects:
            check_filter(subject)
        self._broker.ensure(spec, last_only=False)

    async def append(
        self, subject: str, payload: bytes, *, message_id: str, deadline: float = DEFAULT_DEADLINE
    ) -> None:
        """Store it once per `message_id` within the stream's duplicate window; returns acknowledged."""
        self.check_open()
        check_subject(subject)
        check_message_id(message_id)
        self._check_size(payload)
        self._broker.route(subject, payload)
        stream = self._broker.stream_of(subject)
        if stream is None:
            raise UnavailableError(f"no stream stores {subject}")
        stream.append(subject, payload, now=_now(), message_id=message_id)

    async def consume(self, spec: ConsumerSpec) -> MemoryConsumer:
        """Read a stream."""
        check_name(spec.stream)
        check_filter(spec.subject)
        if spec.durable is not None:
            check_name(spec.durable)
        return self._start(spec)

    async def ensure_bucket(self, spec: BucketSpec) -> None:
        """Make the bucket, or bring an existing one to `spec`."""
        self.check_open()
        check_name(spec.name)
        stream = StreamSpec(
            name=f"KV_{spec.name}",
            subjects=(f"$KV.{spec.name}.>",),
            max_bytes=spec.max_bytes,
            max_age=spec.max_age,
            replicas=spec.replicas,
        )
        self._broker.ensure(stream, last_only=True)

    async def kv_get(self, bucket: str, key: str) -> KvEntry | None:
        """Return the present value, or None for a key that is absent or deleted."""
        self.check_open()
        check_name(bucket)
        check_key(key)
        record = self._broker.stream(f"KV_{bucket}").last(f"$KV.{bucket}.{key}", _now())
        return None if record is None or record.marker else KvEntry(key, record.payload, record.seq)

    async def kv_put(self, bucket: str, key: str, value: bytes, *, revision: int | None = None) -> int:
        """Store a value and return its revision."""
        return self._kv_write(bucket, key, value, revision, marker=False)

    async def kv_delete(self, bucket: str, key: str, *, revision: int | None = None) -> None:
        """Delete a key, under the same condition as `kv_put`."""
        self._kv_write(bucket, key, b"", revision, marker=True)

    async def kv_watch(self, bucket: str, keys: str = ">") -> MemoryWatch:
        """Follow the keys that match."""
        check_name(bucket)
        check_filter(keys)
        spec = ConsumerSpec(
            stream=f"KV_{bucket}", subject=f"$KV.{bucket}.{keys}", start=Start.LAST_PER_SUBJECT
        )
        return MemoryWatch(bucket, self._start(spec))

    def _start(self, spec: ConsumerSpec) -> MemoryConsumer:
        self.check_open()
        consumer = MemoryConsumer(self, self._broker.stream(spec.stream).cursor(spec))
        self._consumers.add(consumer)
        return consumer

    def _kv_write(self, bucket: str, key: str, value: bytes, revision: int | None, *, marker: bool) -> int:
        self.check_open()
        check_name(bucket)
        check_key(key)
        self._check_size(value)
        if revision is not None and revision < 0:
            raise UsageError("a revision is what kv_put or kv_get returned, or 0 for a key that is not there")
        stream = self._broker.stream(f"KV_{bucket}")
        subject = f"$KV.{bucket}.{key}"
        last = stream.last(subject, _now())
        if revision == 0 and last is not None and last.marker:
            revision = last.seq
        return stream.append(subject, value, now=_now(), expected=revision, marker=marker)

    async def _unsubscribe(self, inbox: Inbox) -> None:
        if inbox in self._inboxes:
            self._inboxes.remove(inbox)
            self._broker.inboxes.remove(inbox)

    def _check_size(self, payload: bytes) -> None:
        if len(payload) > self.max_payload:
            raise TooLargeError(f"{len(payload)} bytes, and the broker takes {self.max_payload}")

    def _set_state(self, state: State) -> None:
        self.state = state
        if self._on_state is not None:
            self._on_state(state)


def _now() -> float:
    return asyncio.get_running_loop().time()
