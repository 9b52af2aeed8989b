"""The transport over NATS. See `transport.interface.Transport` for what each operation promises."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache
from typing import Any

from schemas.errors import UsageError
from transport.errors import ConflictError, NotPermittedError, TooLargeError, UnavailableError
from transport.inbox import Inbox, Listening
from transport.interface import (
    DEFAULT_DEADLINE,
    BucketSpec,
    ConsumerSpec,
    Handler,
    KvEntry,
    OnState,
    Pace,
    State,
    StreamSpec,
    Taker,
    Unheard,
)
from transport.lifetime import workers
from transport.nats_consumer import NatsConsumer
from transport.nats_protocol import (
    NAME_IN_USE,
    NO_MESSAGE,
    NOBODY,
    StoredMessage,
    acknowledged,
    as_exception,
    bucket_stream,
    parse_headers,
    publish_frame,
    stream_config,
)
from transport.nats_session import Credentials, NatsSession
from transport.nats_watch import NatsWatch, is_marker, watch_spec
from transport.subjects import check_filter, check_key, check_message_id, check_name, check_subject

_CLOSED = State.CLOSED  # an enumeration's members are looked up slowly


@contextlib.asynccontextmanager
async def connect(
    url: str | Sequence[str],
    *,
    name: str,
    credentials: Credentials | None = None,
    patience: float = DEFAULT_DEADLINE,
    on_state: OnState | None = None,
    pace: Pace | None = None,
) -> "AsyncIterator[NatsTransport]":
    """Connect to the first broker of `url` that answers, and stay connected until the block ends.

    Raises `UnavailableError` if none has answered within `patience` seconds (`math.inf` waits for ever),
    and `NotPermittedError` as soon as one refuses the credentials. From then on a lost broker is looked
    for without end; refused credentials are then only another reason to try again. With `pace` it is read no
    faster than that.
    """
    urls = [url] if isinstance(url, str) else list(url)
    async with workers() as tasks:
        session = NatsSession(urls, name, credentials, on_state, tasks, pace)
        try:
            await session.start(patience)
            yield NatsTransport(session)
        finally:
            await session.close()


class NatsTransport:
    """A `Transport`."""

    def __init__(self, session: NatsSession) -> None:
        self._session = session
        self._inboxes: dict[Inbox | Listening, int] = {}
        self._unheard = f"{session.inbox}.u."  # where the broker says that nobody listened

    @property
    def state(self) -> State:
        """Whether the broker is there."""
        return self._session.state

    @property
    def max_payload(self) -> int:
        """The largest payload that every operation takes."""
        return self._session.max_payload

    async def wait_connected(self) -> None:
        """Return once the broker is there."""
        await self._session.wait_connected()

    async def close(self) -> None:
        """Send what is buffered if the broker is there, end everything. More calls do nothing."""
        await self._session.close()

    async def publish(self, subject: str, payload: bytes, hint: str = "") -> None:
        """Send and forget; returns when it is buffered."""
        self._session.check_open()
        check_subject(subject)
        self._check_size(payload)
        if self._session.hand_over(publish_frame(subject, payload, hint and self._unheard + hint)):
            await self._session.breathe()

    def post(self, subject: str, *parts: bytes, hint: str = "") -> bool:
        """Buffer a payload in parts until the next `push`; True asks the caller to `breathe` before more."""
        session, size = self._session, sum(map(len, parts))
        if size > session.max_payload:
            session.check_open()
            raise _too_large(size, session.max_payload)
        reply = (self._unheard + hint).encode() if hint else b""
        command = (b"PUB %s %s %d\r\n" % (_encoded(subject), reply, size), *parts, b"\r\n")
        wire = session.wire
        if wire is None or wire.is_lost or session.state is _CLOSED:
            session.keep(b"".join(command))
            return False
        return wire.put(size, command)

    async def on_unheard(self, call: Unheard) -> None:
        """Call with the `hint` of what was published where nobody listened."""
        start = len(self._unheard)

        def tell(subject: str, _reply: str, _payload: bytes, headers: bytes) -> None:
            if headers.startswith(NOBODY):
                call(subject[start:])

        self._session.add_route(f"{self._unheard}*", None, tell)
        await self._session.settle()

    def push(self) -> None:
        """Send what was posted."""
        wire = self._session.wire
        if wire is not None:
            wire.push()

    def after_reading(self, call: Callable[[], None]) -> None:
        """Call after each read, when all that it brought has been handed on."""
        self._session.readers.append(call)

    async def breathe(self) -> None:
        """Wait while the broker does not read, and let others run."""
        await self._session.breathe()

    async def flush(self) -> None:
        """Wait until the broker has read all that was published, or raise what it refused since."""
        try:
            async with asyncio.timeout(DEFAULT_DEADLINE):
                await self._session.settle()
        except TimeoutError as error:
            raise UnavailableError("the broker is not there") from error
        refused = len(self._session.refused_publishes)
        self._session.refused_publishes.clear()
        if refused:
            raise NotPermittedError(
                f"the broker does not permit publishing to {refused} of the subjects used"
            )

    async def subscribe(self, subject: str, handler: Handler, *, queue: str | None = None) -> Inbox:
        """Call `handler` for each message, one at a time; returns when the broker knows of it."""
        self._session.check_open()
        check_filter(subject)
        if queue is not None:
            check_name(queue)
        inbox = Inbox(subject, queue, handler, self._unsubscribe)
        self._add(
            inbox,
            self._session.add_route(
                subject, queue, lambda at, _reply, payload, _headers: inbox.offer(at, payload)
            ),
        )
        self._session.spawn(inbox.run)
        await self._known(inbox)
        return inbox

    async def listen(self, subject: str, taker: Taker) -> Listening:
        """Call `taker` for each payload at once, from within the reading: it sorts, and never waits."""
        self._session.check_open()
        check_filter(subject)
        listening = Listening(subject, self._unsubscribe)
        self._add(listening, self._session.add_taker(subject, taker))
        await self._known(listening)
        return listening

    def _add(self, inbox: Inbox | Listening, sid: int) -> None:
        self._session.refused_filters.discard(inbox.subject.lower())
        self._inboxes[inbox] = sid

    async def _known(self, inbox: Inbox | Listening) -> None:
        try:
            await self._session.settle()
            if inbox.subject.lower() in self._session.refused_filters:
                raise NotPermittedError(f"the broker does not permit subscribing to {inbox.subject}")
        except BaseException:
            await inbox.close()
            raise

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Make the stream, or bring an existing one to `spec`; `ConflictError` if that cannot be."""
        check_name(spec.name)
        for subject in spec.subjects:
            check_filter(subject)
        await self._ensure(stream_config(spec))

    async def append(
        self, subject: str, payload: bytes, *, message_id: str, deadline: float = DEFAULT_DEADLINE
    ) -> None:
        """Store it once per `message_id` within the stream's duplicate window; returns acknowledged."""
        self._session.check_open()
        check_subject(subject)
        check_message_id(message_id)
        self._check_size(payload)
        answer = await self._session.ask(subject, payload, {"Nats-Msg-Id": message_id}, deadline)
        acknowledged(answer, f"appending to {subject}")

    async def consume(self, spec: ConsumerSpec) -> NatsConsumer:
        """Read a stream."""
        check_name(spec.stream)
        check_filter(spec.subject)
        if spec.durable is not None:
            check_name(spec.durable)
        return await self._start(spec)

    async def ensure_bucket(self, spec: BucketSpec) -> None:
        """Make the bucket, or bring an existing one to `spec`."""
        check_name(spec.name)
        await self._ensure(bucket_stream(spec))

    async def kv_get(self, bucket: str, key: str) -> KvEntry | None:
        """Return the present value, or None for a key that is absent or deleted."""
        check_name(bucket)
        check_key(key)
        stored = await self._kv_read(bucket, key)
        if stored is None or is_marker(stored.hdrs):
            return None
        return KvEntry(key, stored.data, stored.seq)

    async def kv_put(self, bucket: str, key: str, value: bytes, *, revision: int | None = None) -> int:
        """Store a value and return its revision."""
        return await self._kv_write(bucket, key, value, revision, {})

    async def kv_delete(self, bucket: str, key: str, *, revision: int | None = None) -> None:
        """Delete a key, under the same condition as `kv_put`."""
        await self._kv_write(bucket, key, b"", revision, {"KV-Operation": "DEL"})

    async def kv_watch(self, bucket: str, keys: str = ">") -> NatsWatch:
        """Follow the keys that match."""
        check_name(bucket)
        check_filter(keys)
        return NatsWatch(bucket, await self._start(watch_spec(bucket, keys)))

    def _check_size(self, payload: bytes) -> None:
        if len(payload) > self.max_payload:
            raise _too_large(len(payload), self.max_payload)

    async def _unsubscribe(self, inbox: Inbox | Listening) -> None:
        self._session.remove_route(self._inboxes.pop(inbox))

    async def _ensure(self, config: dict[str, Any]) -> None:
        answer = await self._session.api(f"STREAM.CREATE.{config['name']}", config)
        if answer.error is not None and answer.error.err_code == NAME_IN_USE:
            answer = await self._session.api(f"STREAM.UPDATE.{config['name']}", config)
            if answer.error is not None:
                raise ConflictError(f"{config['name']} exists and cannot become what is asked for")
        if answer.error is not None:
            raise as_exception(answer.error, f"making {config['name']}")

    async def _start(self, spec: ConsumerSpec) -> NatsConsumer:
        self._session.check_open()
        consumer = NatsConsumer(self._session, spec)
        await consumer.start()
        self._session.dependents.add(consumer)
        self._session.spawn(consumer.maintain)
        return consumer

    async def _kv_read(self, bucket: str, key: str) -> StoredMessage | None:
        answer = await self._session.api(
            f"STREAM.MSG.GET.KV_{bucket}", {"last_by_subj": f"$KV.{bucket}.{key}"}
        )
        if answer.error is not None and answer.error.err_code == NO_MESSAGE:
            return None
        if answer.error is not None:
            raise as_exception(answer.error, f"reading bucket {bucket}")
        return answer.message

    async def _kv_write(
        self, bucket: str, key: str, value: bytes, revision: int | None, headers: dict[str, str]
    ) -> int:
        check_name(bucket)
        check_key(key)
        self._check_size(value)
        if revision is not None and revision < 0:
            raise UsageError("a revision is what kv_put or kv_get returned, or 0 for a key that is not there")
        headers = headers | {"Nats-Msg-Id": self._session.new_token()}
        try:
            return await self._kv_send(bucket, key, value, revision, headers)
        except ConflictError:
            current = await self._kv_read(bucket, key)
            if current is None:
                raise
            # A write whose acknowledgement was lost is sent again, and then conflicts with itself.
            _, fields = parse_headers(current.hdrs)
            if fields.get("Nats-Msg-Id") == headers["Nats-Msg-Id"]:
                return current.seq
            if revision != 0 or not is_marker(current.hdrs):
                raise
            # A deleted key is not there, yet its marker has a revision.
            return await self._kv_send(bucket, key, value, current.seq, headers)

    async def _kv_send(
        self, bucket: str, key: str, value: bytes, revision: int | None, headers: dict[str, str]
    ) -> int:
        condition = {} if revision is None else {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        answer = await self._session.ask(f"$KV.{bucket}.{key}", value, headers | condition, DEFAULT_DEADLINE)
        return acknowledged(answer, f"writing to bucket {bucket}")


def _too_large(size: int, most: int) -> TooLargeError:
    return TooLargeError(f"{size} bytes, and the broker takes {most}")


@lru_cache(maxsize=4096)
def _encoded(subject: str) -> bytes:
    # What is said in a session goes to one subject: it is checked once.
    check_subject(subject)
    return subject.encode()
