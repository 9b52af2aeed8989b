"""Conceptual message wrappers (RFC 9999) in JSON and CBOR: records, tags, and collections with tunnels.

Pure. What a wrapper says of its content decides who parses it, and nothing else.
"""

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.codec import decode_any
from schemas.errors import MalformedError

COLLECTION_TYPE = "__cmwc_t"  # beside the labels of a collection
TUNNELS = ("#cmw-c2j-tunnel", "#cmw-j2c-tunnel")  # a CMW of the other serialisation within a collection
MAX_DEPTH = 4  # of collections in each other; the RFC lets implementations choose
FIRST_TAG, LAST_TAG = 1668546817, 1668612095  # of CBOR tags that stand for content formats 0 to 65278
TAG_SIZE = 5
CONTENT_FORMATS = range(1 << 16)  # RFC 7252 section 12.3

Wrapped = tuple[str, bytes]  # media type, value


def unwrap_all(data: bytes) -> list[Wrapped]:
    """Return all messages that a wrapper holds, or raise `MalformedError`."""
    return list(_read(data, 0))


def _read(data: bytes, depth: int) -> Iterator[Wrapped]:
    number = int.from_bytes(data[1:TAG_SIZE], "big")
    if data[:1] == b"\xda" and FIRST_TAG <= number <= LAST_TAG:
        yield _name(number - FIRST_TAG), data[TAG_SIZE:]
        return
    if data.lstrip()[:1] not in (b"[", b"{"):
        yield from _messages(decode_any(data, "wrapper"), depth)
        return
    try:
        item = msgspec.json.decode(data)
        # msgspec takes the last of two members of one name, and another reader may take the first.
        json.loads(data.decode(), object_pairs_hook=_named_once)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedError("wrapper: not JSON") from error
    yield from _messages(item, depth)


def _named_once(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) != len(members):
        raise MalformedError("wrapper: a collection names a label twice")


def _messages(item: Any, depth: int) -> Iterator[Wrapped]:
    if depth > MAX_DEPTH:
        raise MalformedError("wrapper: collections are nested too deep")
    match item:
        case [str() as tunnel, str() | bytes() as value] if tunnel in TUNNELS:
            yield from _read(_octets(value), depth + 1)
        case [str() | int() as kind, str() | bytes() as value, *rest] if not rest or _is_indicator(rest):
            yield _name(kind), _octets(value)
        case dict() if item.keys() - {COLLECTION_TYPE}:
            for label, each in item.items():
                if label != COLLECTION_TYPE:
                    yield from _messages(each, depth + 1)
        case _:
            raise MalformedError("wrapper: no array of type and value, and no collection of such")


def _is_indicator(rest: list[Any]) -> bool:
    # It says which kinds of conceptual message it may be: the media type says it better.
    return len(rest) == 1 and isinstance(rest[0], int) and not isinstance(rest[0], bool) and rest[0] >= 0


def _name(kind: str | int) -> str:
    if isinstance(kind, str):
        return kind
    if isinstance(kind, bool) or kind not in CONTENT_FORMATS:
        raise MalformedError("wrapper: there is no such content format")
    return f"CoAP content format {kind}"


def _octets(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise MalformedError("wrapper: a value is not base64url") from error
