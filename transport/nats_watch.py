"""A watch over a bucket: an ordered consumer of the stream that the bucket is (ADR-8)."""

from transport.interface import ConsumerSpec, KvEntry, Start
from transport.nats_consumer import NatsConsumer
from transport.nats_protocol import parse_headers

_MARKERS = ("KV-Operation", "Nats-Marker-Reason")


def is_marker(headers: bytes) -> bool:
    """Say whether a bucket's message stands for a deletion."""
    if not headers:
        return False
    _, fields = parse_headers(headers)
    return any(marker in fields for marker in _MARKERS)


def watch_spec(bucket: str, keys: str) -> ConsumerSpec:
    """Describe the consumer behind a watch."""
    return ConsumerSpec(stream=f"KV_{bucket}", subject=f"$KV.{bucket}.{keys}", start=Start.LAST_PER_SUBJECT)


class NatsWatch:
    """A `Watch`."""

    def __init__(self, bucket: str, consumer: NatsConsumer) -> None:
        self._prefix = len(f"$KV.{bucket}.")
        self._consumer = consumer
        self._told = False
        self._caught_up = consumer.pending_at_start == 0

    def __aiter__(self) -> "NatsWatch":
        return self

    async def __anext__(self) -> KvEntry | None:
        if self._caught_up and not self._told:
            self._told = True
            return None
        item = await self._consumer.__anext__()
        self._caught_up = self._caught_up or item.pending == 0
        value = None if is_marker(item.headers) else item.payload
        return KvEntry(item.subject[self._prefix :], value, item.sequence)

    async def close(self) -> None:
        """End it."""
        await self._consumer.close()
