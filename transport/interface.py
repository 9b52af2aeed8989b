"""What travels and how: subjects, streams and key-value, bytes in and bytes out.

Two implementations, one contract (`tests/transport/`). Everything that a broker can choose is a hint:
headers, reply subjects and timestamps never come out of here, and of sequence numbers only the
revision of a key and the delivered count, which may steer effort but never a decision about trust.

Delivery, by kind:
- `publish`/`subscribe`: at most once, in order per publisher while the connection lasts. During an outage
  what is published is kept up to OUTAGE_BUFFER bytes and sent in order on reconnection; above that
  `FullError`. What the broker had not read when the connection broke is lost.
- `append`/`consume`: at least once. `append` returns when the broker has acknowledged, outages included
  (it is sent again under the same message id), or raises `UnavailableError` at its deadline: then the
  message may or may not be there, and appending it again with the same id is safe.
- key-value: `put` with a revision is compare-and-set; `UnavailableError` leaves the outcome open.
"""

import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import msgspec

# Room for the headers that an append or a put adds, which brokers count as payload.
HEADER_ROOM = 512
# Less than one write of a busy second: enough for a broker's restart, too little to hurt memory.
OUTAGE_BUFFER = 8 * 1024 * 1024
# A stream acknowledges in milliseconds; a broker that restarts, in about a second.
DEFAULT_DEADLINE = 10.0


class State(enum.StrEnum):
    """Whether the broker is there."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CLOSED = "closed"


class Retention(enum.StrEnum):
    """When a stream forgets a message: by its limits, or as soon as it is acknowledged."""

    LIMITS = "limits"
    WORK_QUEUE = "workqueue"


class Start(enum.StrEnum):
    """Where a consumer that is new begins."""

    ALL = "all"
    NEW = "new"
    LAST_PER_SUBJECT = "last_per_subject"


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One message as it arrived."""

    subject: str
    payload: bytes

    def __repr__(self) -> str:
        return f"Delivery({self.subject}, {len(self.payload)} bytes)"


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A stream: what it stores and for how long. New messages are refused, never old ones dropped."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    retention: Retention = Retention.LIMITS
    max_age: float | None = None
    duplicate_window: float = 120.0
    replicas: int = 1


class BucketSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A key-value bucket; it keeps the last value of each key."""

    name: str
    max_bytes: int
    max_age: float | None = None
    replicas: int = 1


class ConsumerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How to read a stream.

    With `durable`, the broker remembers across restarts and shares the messages among all consumers of
    that name; each must be acknowledged within `ack_wait` of its delivery, else it comes again. Without,
    the consumer is this process's own: all messages in order, none to acknowledge.
    At most `max_pending` are unacknowledged at once, over all sharers; up to `batch` are fetched ahead,
    and their `ack_wait` runs meanwhile.

    `sole` is for a durable that nobody shares, on a work queue: whoever read it before is gone, so all that
    was not acknowledged comes at once, also what that one had taken.
    """

    stream: str
    subject: str
    durable: str | None = None
    sole: bool = False
    start: Start = Start.ALL
    ack_wait: float = 30.0
    max_pending: int = 4096
    batch: int = 256


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a connection is read on which strangers may say as much as they like.

    `most` bytes, then nothing for `rest` times as long as they took. What comes faster waits at the broker;
    once that has been so for `behind` seconds the connection is made anew, and what waited is gone: it would
    only be old.
    """

    most: int
    rest: float
    behind: float


class KvEntry(msgspec.Struct, frozen=True):
    """A key's value at a revision; None is a deleted one."""

    key: str
    value: bytes | None
    revision: int

    def __repr__(self) -> str:
        size = "deleted" if self.value is None else f"{len(self.value)} bytes"
        return f"KvEntry({self.key}, {size}, revision {self.revision})"


Handler = Callable[[Delivery], Awaitable[None]]
# What it is given is there until it returns: who keeps it copies it.
Taker = Callable[[memoryview], None]
Unheard = Callable[[str], None]
OnState = Callable[[State], None]


class Subscription(Protocol):
    """Interest in a subject."""

    @property
    def dropped(self) -> int:
        """How many messages were dropped here because the handler was too slow."""

    async def close(self) -> None:
        """End it; the handler is not called again, a call under way is left to finish."""


class StreamDelivery(Protocol):
    """One message of a stream. On a consumer without `durable`, answering does nothing."""

    @property
    def subject(self) -> str: ...

    @property
    def payload(self) -> bytes: ...

    @property
    def delivered(self) -> int:
        """How often the broker says it has delivered this; a hint, at least 1."""

    async def ack(self) -> None:
        """Say that it is done. Not itself acknowledged: if it is lost, the message comes again."""

    async def nak(self, delay: float = 0.0) -> None:
        """Hand it back, to be delivered again after `delay` seconds."""

    async def in_progress(self) -> None:
        """Ask for another `ack_wait`."""


class Consumer(Protocol):
    """An iterator over a stream's messages; several tasks may iterate it. Closing ends the iteration."""

    def __aiter__(self) -> AsyncIterator[StreamDelivery]: ...

    async def __anext__(self) -> StreamDelivery: ...

    async def close(self) -> None:
        """End it, and hand back what was fetched ahead."""


class Watch(Protocol):
    """An iterator over a bucket: the present values, one None, then every change.

    Whatever was missed during an outage is made up: of each key at least the last change arrives.
    """

    def __aiter__(self) -> AsyncIterator[KvEntry | None]: ...

    async def __anext__(self) -> KvEntry | None: ...

    async def close(self) -> None:
        """End it."""


class Transport(Protocol):
    """A connection to a broker. Every method raises `ClosedError` once it is closed.

    A handler that raises is a bug: the transport's `async with` ends with that very error.
    """

    @property
    def state(self) -> State: ...

    @property
    def max_payload(self) -> int:
        """The largest payload that every operation takes."""

    async def publish(self, subject: str, payload: bytes, hint: str = "") -> None:
        """Send and forget; returns when it is buffered. `hint`: see `on_unheard`."""

    def post(self, subject: str, *parts: bytes, hint: str = "") -> bool:
        """Buffer a payload in parts until the next `push`; True asks the caller to `breathe` before more."""

    async def on_unheard(self, call: Unheard) -> None:
        """Call with the `hint` of what was published where nobody listened: one token, which is in the clear.

        It is the broker's word and whoever's can publish to it: true, false, or absent as they like.
        """

    def push(self) -> None:
        """Send what was posted."""

    def after_reading(self, call: Callable[[], None]) -> None:
        """Call after each read, when all that it brought has been handed on: then it is time to `push`."""

    async def breathe(self) -> None:
        """Wait while the broker does not read, and let others run."""

    async def flush(self) -> None:
        """Wait until the broker has read all that was published, or raise what it refused since."""

    async def subscribe(self, subject: str, handler: Handler, *, queue: str | None = None) -> Subscription:
        """Call `handler` for each message, one at a time; returns when the broker knows of it."""

    async def listen(self, subject: str, taker: Taker) -> Subscription:
        """Call `taker` for each payload at once, from within the reading: it sorts, and never waits."""

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Make the stream, or bring an existing one to `spec`; `ConflictError` if that cannot be."""

    async def append(
        self, subject: str, payload: bytes, *, message_id: str, deadline: float = DEFAULT_DEADLINE
    ) -> None:
        """Store it once per `message_id` within the stream's duplicate window; returns acknowledged."""

    async def consume(self, spec: ConsumerSpec) -> Consumer:
        """Read a stream."""

    async def ensure_bucket(self, spec: BucketSpec) -> None:
        """Make the bucket, or bring an existing one to `spec`."""

    async def kv_get(self, bucket: str, key: str) -> KvEntry | None:
        """Return the present value, or None for a key that is absent or deleted."""

    async def kv_put(self, bucket: str, key: str, value: bytes, *, revision: int | None = None) -> int:
        """Store a value and return its revision.

        `revision` None stores whatever is there; 0 only where nothing is; n only over revision n.
        """

    async def kv_delete(self, bucket: str, key: str, *, revision: int | None = None) -> None:
        """Delete a key, under the same condition as `kv_put`."""

    async def kv_watch(self, bucket: str, keys: str = ">") -> Watch:
        """Follow the keys that match."""

    async def wait_connected(self) -> None:
        """Return once the broker is there."""

    async def close(self) -> None:
        """Send what is buffered if the broker is there, end everything. More calls do nothing.

        Waits while the broker takes it, within bounds; what may be lost all the same is logged as a warning.
        """
