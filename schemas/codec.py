"""Deterministic CBOR (RFC 8949 section 4.2.1) in and out of typed messages.

Canonical or refused: what does not re-encode to the same bytes is malformed, which also catches
trailing bytes, tags, indefinite lengths and duplicate keys. Map keys of one message are all text or
all small integers of one sign, where cbor2's length-first order equals the bytewise order of 4.2.1.
"""

from typing import Any, TypeVar

import cbor2
import msgspec

from schemas.errors import MalformedError

T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A protocol body: a CBOR array of fixed length. Unknown or extra fields refuse."""


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """A document that people also read: a map with text keys, in TOML as in CBOR."""


def encode(value: Any) -> bytes:
    """Encode plain data or a message as deterministic CBOR."""
    builtins = msgspec.to_builtins(value, builtin_types=(bytes,), order="deterministic")
    return cbor2.dumps(builtins, canonical=True)


def decode(data: bytes, kind: type[T]) -> T:
    """Decode `data` as exactly one canonical `kind`, or raise `MalformedError`."""
    return convert(decode_any(data, kind.__name__ if isinstance(kind, type) else "message"), kind)


def decode_any(data: bytes, name: str = "item") -> Any:
    """Decode one canonical CBOR item, or raise `MalformedError`."""
    try:
        value = cbor2.loads(data)
        if cbor2.dumps(value, canonical=True) != data:
            raise MalformedError(f"{name} is not deterministic CBOR")
    except MalformedError:
        raise
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MalformedError(f"not CBOR where {name} was expected") from error
    return value


def convert(value: Any, kind: type[T]) -> T:
    """Check plain data against `kind`, or raise `MalformedError`."""
    try:
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        # A validation error names types and paths of ours, never a value of the peer's.
        raise MalformedError(f"not a {getattr(kind, '__name__', 'message')}") from error
