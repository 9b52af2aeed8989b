"""Read the CBOR that the Nitro Security Module writes (RFC 8949), bounded and before anyone vouched for it.

Not deterministic CBOR: newer modules write a map of indefinite length, so re-encoding proves nothing.
No tags and no floats, which would run a general decoder's conversions on a stranger's bytes.
"""

from typing import Never

from attestation.errors import EvidenceMalformedError

Item = int | bytes | str | bool | list["Item"] | dict[int | str, "Item"] | None

MAX_DEPTH = 4  # an array of certificates within a map within nothing
MAX_ITEMS = 64  # of one array or map; 32 PCRs are the most that AWS permits

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_INDEFINITE = 31
_BREAK = 0xFF
_SIMPLE_VALUES = {20: False, 21: True, 22: None}


def read(data: bytes) -> Item:
    """Read exactly one item, or raise `EvidenceMalformedError`."""
    item, rest = read_first(data)
    if rest:
        _refuse("CBOR goes on after its item")
    return item


def read_first(data: bytes) -> tuple[Item, bytes]:
    """Read one item and give what follows it, or raise `EvidenceMalformedError`."""
    reader = _Reader(data)
    return reader.item(MAX_DEPTH), data[reader.at :]


def _refuse(detail: str) -> Never:
    raise EvidenceMalformedError(detail)


class _Reader:
    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def item(self, depth: int) -> Item:
        if depth == 0:
            _refuse("CBOR is nested too deeply")
        initial = self.take(1)[0]
        major, info = initial >> 5, initial & 31
        if major == _ARRAY:
            return [self.item(depth - 1) for _ in self.members(info)]
        if major == _MAP:
            return self.map(info, depth - 1)
        if major == _SIMPLE:
            if info not in _SIMPLE_VALUES:
                _refuse("CBOR has a simple value or float that is not used here")
            return _SIMPLE_VALUES[info]
        argument = self.argument(info)
        if major == _UNSIGNED:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major == _BYTES:
            return self.take(argument)
        if major == _TEXT:
            return self.text(argument)
        _refuse("CBOR has a tag")

    def map(self, info: int, depth: int) -> dict[int | str, Item]:
        found: dict[int | str, Item] = {}
        for _ in self.members(info):
            key = self.item(depth)
            if not isinstance(key, int | str) or isinstance(key, bool) or key in found:
                _refuse("CBOR map key is repeated or of another type")
            found[key] = self.item(depth)
        return found

    def members(self, info: int) -> "_Members":
        return _Members(self, None if info == _INDEFINITE else self.argument(info))

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise EvidenceMalformedError("CBOR text is not UTF-8") from error

    def argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            _refuse("CBOR argument is reserved or indefinite")
        size = 1 << (info - 24)
        value = int.from_bytes(self.take(size))
        # The shortest form, so that one value has one encoding.
        if value < 24 or (size > 1 and value >> (4 * size) == 0):
            _refuse("CBOR argument is not minimal")
        return value

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            _refuse("CBOR is cut short")
        taken = self.data[self.at : end]
        self.at = end
        return taken


class _Members:
    """Count the members of an array or map, whose number is known or which a break ends."""

    __slots__ = ("count", "reader", "seen")

    def __init__(self, reader: _Reader, count: int | None) -> None:
        self.reader = reader
        self.count = count
        self.seen = 0

    def __iter__(self) -> "_Members":
        return self

    def __next__(self) -> None:
        if self.count is None:
            if self.reader.data[self.reader.at : self.reader.at + 1] == bytes((_BREAK,)):
                self.reader.at += 1
                raise StopIteration
        elif self.seen == self.count:
            raise StopIteration
        self.seen += 1
        if self.seen > MAX_ITEMS:
            _refuse("CBOR array or map has too many members")
