"""How bytes travel: subjects, streams and key-value, over NATS or within one process.

`async with connect(url, name=...) as transport` or `async with MemoryBroker().connect(name=...)`;
`transport.interface` says what both promise. It knows no keys and reads no payload.
"""

from transport.access import (
    Access,
    appending,
    consuming,
    creating_bucket,
    creating_stream,
    publishing,
    reading_bucket,
    subscribing,
    writing_bucket,
)
from transport.errors import (
    ClosedError,
    ConflictError,
    FullError,
    NotPermittedError,
    TooLargeError,
    TransportError,
    UnavailableError,
)
from transport.interface import (
    BucketSpec,
    Consumer,
    ConsumerSpec,
    Delivery,
    Handler,
    KvEntry,
    OnState,
    Pace,
    Retention,
    Start,
    State,
    StreamDelivery,
    StreamSpec,
    Subscription,
    Transport,
    Watch,
)
from transport.memory import MemoryBroker
from transport.nats_session import Credentials
from transport.nats_transport import connect

__all__ = [
    "Access",
    "BucketSpec",
    "ClosedError",
    "ConflictError",
    "Consumer",
    "ConsumerSpec",
    "Credentials",
    "Delivery",
    "FullError",
    "Handler",
    "KvEntry",
    "MemoryBroker",
    "NotPermittedError",
    "OnState",
    "Pace",
    "Retention",
    "Start",
    "State",
    "StreamDelivery",
    "StreamSpec",
    "Subscription",
    "TooLargeError",
    "Transport",
    "TransportError",
    "UnavailableError",
    "Watch",
    "appending",
    "connect",
    "consuming",
    "creating_bucket",
    "creating_stream",
    "publishing",
    "reading_bucket",
    "subscribing",
    "writing_bucket",
]
