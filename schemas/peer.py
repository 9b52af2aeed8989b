"""What peers say in a session: several messages a frame, as MessagePack arrays that begin with their kind.

Not the deterministic CBOR of signed documents: nobody signs, hashes or stores these. The frame's tag says
who wrote them, and msgspec reads and checks them in one pass in C, which no reader of ours does.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from schemas.errors import MalformedError
from schemas.limits import MAX_MESSAGE
from schemas.messages import Bytes16, Millis, Payload

# A frame of the smallest messages stays a small piece of work for whoever opens it.
MAX_MESSAGES = 256

# What is asked for by name. A pattern would cost as much as all else here, and what is no name has no grant.
Asked = Annotated[str, Meta(min_length=1, max_length=64)]

if TYPE_CHECKING:
    Bulk = bytes | memoryview
else:
    # What was read is a view of its frame and not a copy; what is to be written may be bytes as well.
    Bulk = Annotated[memoryview, Meta(max_length=MAX_MESSAGE)]


class _Said(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    def __repr__(self) -> str:
        # Messages carry payloads, and what can be printed ends up in a log.
        return f"{type(self).__name__}(...)"


class Confirm(_Said, frozen=True, tag=0):
    """Nothing but that the sender holds the session's keys."""


class Call(_Said, frozen=True, tag=1):
    """Call a tool of the receiver's, before `deadline`."""

    request: Bytes16
    tool: Asked
    arguments: Bulk
    deadline: Millis
    idempotency: Bytes16 | None  # the task on whose behalf the call is made


class Reply(_Said, frozen=True, tag=2):
    """How a call ended. `reason` is empty when it was done."""

    request: Bytes16
    reason: Annotated[str, Meta(max_length=64)]
    detail: Annotated[str, Meta(max_length=512)]
    value: Bulk


class Cancel(_Said, frozen=True, tag=3):
    """The answer to a call is not waited for any more."""

    request: Bytes16


class Send(_Said, frozen=True, tag=4):
    """A message that nobody answers."""

    kind: Asked
    payload: Payload


class Reopen(_Said, frozen=True, tag=5):
    """An init for the next session, as it is sent where strangers may be before it, too."""

    subject: Annotated[str, Meta(max_length=128)]
    init: Payload


PeerMessage = Confirm | Call | Reply | Cancel | Send | Reopen

_encoder = msgspec.msgpack.Encoder()
# One message as it stands in a frame.
encode_message: Callable[[PeerMessage], bytes] = _encoder.encode

APART = 4096  # bytes from which on a part by itself is cheaper than a copy
_EMPTY = 2  # bytes of an empty payload
_LARGE = 64 * 1024
_decoder: msgspec.msgpack.Decoder[tuple[PeerMessage, ...]] = msgspec.msgpack.Decoder(
    Annotated[tuple[PeerMessage, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]
)


class Parts:
    """What is encoded, in parts: those that are large were copied nowhere. Its length is that of all."""

    __slots__ = ("_size", "parts")

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self._size = sum(map(len, parts))

    def __len__(self) -> int:
        return self._size


Encoded = bytes | Parts


def joined(encoded: Encoded) -> bytes:
    """Return it in one piece."""
    return encoded if isinstance(encoded, bytes) else b"".join(encoded.parts)


def bin_parts(value: bytes) -> Parts:
    """Return bytes as MessagePack has them."""
    return Parts(bin_head(len(value)), value)


def encode_with(message: Call | Reply, payload: Encoded) -> Encoded:
    """Do as `encode_message` of a message with this payload; its own is empty."""
    encoded = encode_message(message)
    # What comes behind the payload of a call: the last two of its array.
    behind = (
        len(_encoder.encode((message.deadline, message.idempotency))) - 1 if isinstance(message, Call) else 0
    )
    at = len(encoded) - behind
    parts = (payload,) if isinstance(payload, bytes) else payload.parts
    return Parts(encoded[: at - _EMPTY], bin_head(len(payload)), *parts, encoded[at:])


def bin_head(size: int) -> bytes:
    """Return what comes before so many bytes in MessagePack, which has three forms of it."""
    if size < 1 << 8:
        return b"\xc4" + size.to_bytes(1, "big")
    return b"\xc5" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xc6" + size.to_bytes(4, "big")


def join_messages(encoded: Sequence[bytes]) -> bytes:
    """Return the body of a frame of encoded messages; a caller counts and bounds what it puts into one."""
    return b"".join((array_head(len(encoded)), *encoded))


def array_head(count: int) -> bytes:
    """Return what comes before so many messages in the body of a frame."""
    # MessagePack: an array of up to 15 has its length in its one byte, one of up to 65,535 in two more.
    return (0x90 | count).to_bytes() if count < 16 else b"\xdc" + count.to_bytes(2, "big")


# The same for as many as a frame may have, by their number.
ARRAY_HEADS = tuple(array_head(count) for count in range(MAX_MESSAGES + 1))


def decode_messages(body: bytes | memoryview) -> tuple[PeerMessage, ...]:
    """Read the body of a frame, or raise `MalformedError`. What is large in it is a view of it."""
    try:
        messages = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError("not the body of a peer's frame") from error
    return messages if len(body) < _LARGE else tuple(map(_let_go, messages))


def _let_go(message: PeerMessage) -> PeerMessage:
    # Calls may wait for long: a small one must not keep all that came with it.
    if isinstance(message, Call) and len(message.arguments) < APART:
        return replace(message, arguments=bytes(message.arguments))
    return message
