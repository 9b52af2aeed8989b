"""Deterministic CBOR (RFC 8949 section 4.2.1) in and out of typed messages.

Canonical or refused: one value has one encoding, and `schemas.cbor` reads no other. What we write has map
keys that are all text or all integers, for which cbor2's length-first order is the bytewise order of 4.2.1.
"""

from typing import Any, TypeVar

import cbor2
import msgspec

from schemas import cbor
from schemas.errors import MalformedError

T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A protocol body: a CBOR array of fixed length. Unknown or extra fields refuse."""

    def __repr__(self) -> str:
        # Bodies carry keys and payloads, and what can be printed ends up in a log.
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


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
        return cbor.read(data)
    except MalformedError as error:
        raise MalformedError(f"{name}: {error.detail}") from error


def convert(value: Any, kind: type[T]) -> T:
    """Check plain data against `kind`, or raise `MalformedError`."""
    try:
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise MalformedError(f"not a {getattr(kind, '__name__', 'message')}") from error
