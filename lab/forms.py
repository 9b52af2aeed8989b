"""The forms in which a text could stand in somebody else's bytes: as it is, and encoded. Pure."""

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import quote

NAMES = ("utf-8", "utf-16-le", "utf-16-be", "base64", "hex", "json", "percent", "deflated")
LONGEST = 48  # bytes of a text that are looked for: who leaks so much of a line leaks it
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_GZIP = b"\x1f\x8b\x08"
INFLATED_MOST = 1024 * 1024  # bytes of one attempt: a bomb is no hiding place worth more
INFLATED_ALL = 16 * INFLATED_MOST  # bytes of one haystack; random bytes give next to none
ATTEMPT_EVERY = 1024  # bytes of a haystack for each attempt: random ones look like zlib once in 16 KiB
ATTEMPTS_FIRST = 64  # more, however short the haystack is
_TASTE = 4096  # bytes: whether something unpacks shows early, and what zlib leaves over it copies


def forms(text: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name of the form, bytes) for each form of a text that differs from those before."""
    seen: set[bytes] = set()
    for name, data in _all(text):
        if data and data not in seen:
            seen.add(data)
            yield name, data


def _all(text: str) -> Iterator[tuple[str, bytes]]:
    raw = _cut(text.encode("utf-8", "replace"))
    # Cut at whole characters: a half one is in no other encoding.
    short = raw.decode("utf-8", "ignore")
    yield "utf-8", raw
    yield "utf-16-le", short.encode("utf-16-le")
    yield "utf-16-be", short.encode("utf-16-be")
    for shift in range(3):
        yield "base64", _inner(raw, shift, base64.b64encode)
        yield "base64", _inner(raw, shift, base64.urlsafe_b64encode)
    yield "hex", raw.hex().encode()
    yield "hex", raw.hex().upper().encode()
    yield "json", json.dumps(short)[1:-1].encode()
    yield "json", json.dumps(short, ensure_ascii=False)[1:-1].encode("utf-8", "replace")
    yield "percent", quote(short, safe="").encode()
    squeeze = zlib.compressobj(wbits=-15)
    yield "deflated", squeeze.compress(raw) + squeeze.flush()


def _cut(raw: bytes) -> bytes:
    return raw[:LONGEST]


def _inner(raw: bytes, shift: int, encode: Callable[[bytes], bytes]) -> bytes:
    """Return what of the encoding does not depend on what stands before and behind the text."""
    encoded = encode(bytes(shift) + raw)
    first = (shift * 8 + 5) // 6
    last = (shift + len(raw)) * 8 // 6
    return encoded[first:last]


def inflated(data: bytes) -> Iterator[bytes]:
    """Yield what can be unpacked from wherever zlib or gzip seems to begin in `data`."""
    view = memoryview(data)
    room, attempts = INFLATED_ALL, ATTEMPTS_FIRST + len(data) // ATTEMPT_EVERY
    for magic, wbits in (*((each, 15) for each in _ZLIB), (_GZIP, 31)):
        place = data.find(magic)
        while place >= 0 and room > 0 and attempts > 0:
            attempts -= 1
            unpacked = _unpacked(view[place : place + INFLATED_MOST], wbits)
            room -= len(unpacked)
            if unpacked:
                yield unpacked
            place = data.find(magic, place + 1)


def _unpacked(data: memoryview, wbits: int) -> bytes:
    taste = zlib.decompressobj(wbits=wbits)
    try:
        unpacked = taste.decompress(data[:_TASTE], INFLATED_MOST)
        if taste.eof or not unpacked:
            return unpacked
        return zlib.decompressobj(wbits=wbits).decompress(data, INFLATED_MOST)
    except zlib.error:
        return b""
