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


# The lowest argument that needs so many bytes: one value has one encoding.
_LEAST = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}


def read(data: bytes) -> Item:
    """Read exactly one item, or raise `EvidenceMalformedError`."""
    item, rest = read_first(data)
    if rest:
        _refuse("CBOR goes on after its item")
    return item


def read_first(data: bytes) -> tuple[Item, bytes]:
    """Read one item and give what follows it, or raise `EvidenceMalformedError`."""
    try:
        item, end = _item(data, 0, MAX_DEPTH)
    except IndexError as error:
        raise EvidenceMalformedError("CBOR is cut short") from error
    if end > len(data):
        _refuse("CBOR is cut short")
    return item, data[end:]


def _refuse(detail: str) -> Never:
    raise EvidenceMalformedError(detail)


def _item(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    # One function for what has no members, because a call costs more than what it does; an index past the
    # end is caught once.
    if depth == 0:
        _refuse("CBOR is nested too deeply")
    initial = data[at]
    at += 1
    major, argument = initial >> 5, initial & 31
    if major == _SIMPLE:
        if argument not in _SIMPLE_VALUES:
            _refuse("CBOR has a simple value or float that is not used here")
        return _SIMPLE_VALUES[argument], at
    if argument == _INDEFINITE and major in (_ARRAY, _MAP):
        return _members(data, at, None, depth - 1) if major == _ARRAY else _map(data, at, None, depth - 1)
    if argument > 23:
        if argument > 27:
            _refuse("CBOR argument is reserved or indefinite")
        width = 1 << (argument - 24)
        argument = int.from_bytes(data[at : at + width])
        at += width
        # The shortest form, so that one value has one encoding.
        if argument < _LEAST[width]:
            _refuse("CBOR argument is not minimal")
    if major in (_BYTES, _TEXT):
        end = at + argument
        if end > len(data):
            _refuse("CBOR is cut short")
        return data[at:end] if major == _BYTES else _text(data[at:end]), end
    if major == _UNSIGNED:
        return argument, at
    if major == _NEGATIVE:
        return -1 - argument, at
    if major == _ARRAY:
        return _members(data, at, argument, depth - 1)
    if major == _MAP:
        return _map(data, at, argument, depth - 1)
    _refuse("CBOR has a tag")


def _members(data: bytes, at: int, size: int | None, depth: int) -> tuple[list[Item], int]:
    items: list[Item] = []
    while not (data[at] == _BREAK if size is None else len(items) == size):
        if len(items) == MAX_ITEMS:
            _refuse("CBOR array or map has too many members")
        item, at = _item(data, at, depth)
        items.append(item)
    return items, at + (size is None)


def _map(data: bytes, at: int, size: int | None, depth: int) -> tuple[dict[int | str, Item], int]:
    found: dict[int | str, Item] = {}
    while not (data[at] == _BREAK if size is None else len(found) == size):
        if len(found) == MAX_ITEMS:
            _refuse("CBOR array or map has too many members")
        key, at = _item(data, at, depth)
        if (type(key) is not int and type(key) is not str) or key in found:
            _refuse("CBOR map key is repeated or of another type")
        found[key], at = _item(data, at, depth)
    return found, at + (size is None)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise EvidenceMalformedError("CBOR text is not UTF-8") from error
