"""Streams and their consumers in memory: what JetStream does, without I/O. Time comes in by name."""

import heapq
import weakref
from collections.abc import Callable

from transport.errors import ConflictError, FullError
from transport.interface import ConsumerSpec, Retention, Start, StreamSpec
from transport.subjects import matches, overlap


class Record:
    """One stored message; `marker` says that it stands for a deleted key."""

    __slots__ = ("at", "marker", "payload", "seq", "subject")

    def __init__(self, seq: int, subject: str, payload: bytes, at: float, marker: bool) -> None:
        self.seq = seq
        self.subject = subject
        self.payload = payload
        self.at = at
        self.marker = marker


class MemoryStream:
    """A stream; `last_only` keeps one message per subject, as a bucket does."""

    def __init__(self, spec: StreamSpec, *, last_only: bool = False) -> None:
        self.spec = spec
        self.durables: dict[str, MemoryCursor] = {}
        # Those of nobody but a live consumer are gone with it.
        self.cursors: weakref.WeakSet[MemoryCursor] = weakref.WeakSet()
        self.last_seq = 0
        self._last_only = last_only
        self._records: dict[int, Record] = {}
        self._last_of: dict[str, int] = {}
        self._bytes = 0
        self._ids: dict[str, tuple[int, float]] = {}

    def update(self, spec: StreamSpec) -> None:
        """Become `spec`, if a stream can."""
        if spec.retention is not self.spec.retention:
            raise ConflictError(f"{spec.name} exists and cannot become what is asked for")
        self.spec = spec

    def takes(self, subject: str) -> bool:
        """Say whether it stores this subject."""
        return any(matches(pattern, subject) for pattern in self.spec.subjects)

    def append(
        self,
        subject: str,
        payload: bytes,
        *,
        now: float,
        message_id: str | None = None,
        expected: int | None = None,
        marker: bool = False,
    ) -> int:
        """Store and return the sequence number; a known message id stores nothing."""
        self._forget(now)
        if message_id is not None and message_id in self._ids:
            return self._ids[message_id][0]
        if expected is not None and self._last_of.get(subject, 0) != expected:
            raise ConflictError("another revision is there")
        size = len(subject) + len(payload)
        replaced = self._last_of.get(subject) if self._last_only else None
        freed = self._size(replaced) if replaced is not None else 0
        if self._bytes - freed + size > self.spec.max_bytes:
            raise FullError(f"stream {self.spec.name} is full")
        if replaced is not None:
            self.remove(replaced)
        self.last_seq += 1
        self._records[self.last_seq] = Record(self.last_seq, subject, payload, now, marker)
        self._last_of[subject] = self.last_seq
        self._bytes += size
        if message_id is not None:
            self._ids[message_id] = (self.last_seq, now)
        for cursor in self.cursors:
            cursor.wake()
        return self.last_seq

    def last(self, subject: str, now: float) -> Record | None:
        """Return the last message of a subject."""
        self._forget(now)
        return self._records.get(self._last_of.get(subject, 0))

    def last_of_each(self) -> frozenset[int]:
        """Return the sequence numbers of the last message of each subject."""
        return frozenset(self._last_of.values())

    def get(self, seq: int, now: float) -> Record | None:
        """Return the message of a sequence number unless it is gone."""
        self._forget(now)
        return self._records.get(seq)

    def remove(self, seq: int) -> None:
        """Forget a message."""
        record = self._records.pop(seq, None)
        if record is None:
            return
        self._bytes -= len(record.subject) + len(record.payload)
        if self._last_of.get(record.subject) == seq:
            del self._last_of[record.subject]

    def cursor(self, spec: ConsumerSpec) -> "MemoryCursor":
        """Make a consumer, or return the durable one of that name unless it has to be made anew."""
        known = self.durables.get(spec.durable) if spec.durable is not None else None
        if known is not None and spec.sole:
            self.cursors.discard(known)
            del self.durables[known.spec.durable or ""]
            known = None
        if known is not None:
            known.spec = spec
            return known
        if self.spec.retention is Retention.WORK_QUEUE:
            if spec.durable is None:
                raise ConflictError("a work queue has durable consumers only")
            if any(overlap(spec.subject, other.spec.subject) for other in self.durables.values()):
                raise ConflictError("another consumer reads these subjects of the work queue")
        cursor = MemoryCursor(self, spec)
        self.cursors.add(cursor)
        if spec.durable is not None:
            self.durables[spec.durable] = cursor
        return cursor

    def _size(self, seq: int) -> int:
        record = self._records.get(seq)
        return 0 if record is None else len(record.subject) + len(record.payload)

    def _forget(self, now: float) -> None:
        # Both are in the order of their times, so the first that is young enough ends the search.
        while self._ids:
            first, (_, at) = next(iter(self._ids.items()))
            if now - at < self.spec.duplicate_window:
                break
            del self._ids[first]
        while self.spec.max_age is not None and self._records:
            record = next(iter(self._records.values()))
            if now - record.at < self.spec.max_age:
                break
            self.remove(record.seq)


class MemoryCursor:
    """What the broker knows of a consumer: how far it is, and what waits for an acknowledgement."""

    def __init__(self, stream: MemoryStream, spec: ConsumerSpec) -> None:
        self.spec = spec
        self.wakers: set[Callable[[], None]] = set()
        self._stream = stream
        self._position = stream.last_seq if spec.start is Start.NEW else 0
        # What was there at the start and is wanted of it; None wants all.
        self._born = stream.last_seq
        self._snapshot = stream.last_of_each() if spec.start is Start.LAST_PER_SUBJECT else None
        self._delivered: dict[int, int] = {}
        self._due: list[tuple[float, int]] = []
        self._deadlines: dict[int, float] = {}

    def wake(self) -> None:
        """Tell whoever waits to look again."""
        for waker in self.wakers:
            waker()

    def take(self, now: float) -> tuple[Record, int] | None:
        """Return the next message and how often it was delivered, counting this."""
        record = self._again(now) or self._fresh(now)
        if record is None:
            return None
        if self.spec.durable is None:
            return record, 1
        count = self._delivered.get(record.seq, 0) + 1
        self._delivered[record.seq] = count
        self._schedule(record.seq, now + self.spec.ack_wait)
        return record, count

    def next_due(self) -> float | None:
        """Return when something may be delivered again."""
        return self._due[0][0] if self._due else None

    def caught_up(self, now: float) -> bool:
        """Say whether all that is there was taken."""
        return self._next_unread(self._position, now) is None

    def ack(self, seq: int) -> None:
        """Settle a message."""
        self._deadlines.pop(seq, None)
        self._delivered.pop(seq, None)
        if self._stream.spec.retention is Retention.WORK_QUEUE:
            self._stream.remove(seq)
        self.wake()

    def defer(self, seq: int, until: float) -> None:
        """Deliver a message again at `until`, unless it was settled."""
        if seq in self._deadlines:
            self._schedule(seq, until)
            self.wake()

    def _schedule(self, seq: int, until: float) -> None:
        self._deadlines[seq] = until
        heapq.heappush(self._due, (until, seq))

    def _again(self, now: float) -> Record | None:
        while self._due and self._due[0][0] <= now:
            until, seq = heapq.heappop(self._due)
            if self._deadlines.get(seq) != until:
                continue
            record = self._stream.get(seq, now)
            if record is not None:
                return record
            del self._deadlines[seq]
        return None

    def _fresh(self, now: float) -> Record | None:
        if self.spec.durable is not None and len(self._deadlines) >= self.spec.max_pending:
            return None
        record = self._next_unread(self._position, now)
        self._position = self._stream.last_seq if record is None else record.seq
        return record

    def _next_unread(self, position: int, now: float) -> Record | None:
        for seq in range(position + 1, self._stream.last_seq + 1):
            record = self._stream.get(seq, now)
            if record is None or not matches(self.spec.subject, record.subject):
                continue
            if self._snapshot is not None and seq <= self._born and seq not in self._snapshot:
                continue
            return record
        return None
