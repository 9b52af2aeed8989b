"""Read deterministic CBOR (RFC 8949 section 4.2.1), strictly and before anyone vouched for the bytes.

A reader of our own because a general one works for strangers: `cbor2` compiles their regular expressions,
computes their big floats, and takes time exponential in the depth of maps that are keys of maps. What is
read here is what sealbus says: integers of 64 bits, byte and text strings, arrays, maps whose keys
are all text or all integers, false, true and null. Tags, floats and indefinite lengths have no place in it.
"""

from typing import Never

from schemas.errors import MalformedError

Item = int | bytes | str | bool | list["Item"] | dict[int | str, "Item"] | None

MAX_DEPTH = 24  # the policy nests seven deep; the interpreter's own limit is far away
MAX_ITEMS = 1 << 17  # a tenth of a second's work; ten thousand revocations have half of that

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES = {20: False, 21: True, 22: None}
_LAST_SMALL = 23  # the largest argument that stands in an item's first byte
_FIRST_SHORT_BYTES, _FIRST_SHORT_TEXT, _LAST_SHORT_TEXT = 0x40, 0x60, 0x60 + _LAST_SMALL
_NULL = 0xF6
_LONG_NEGATIVE = 0x3A  # in four bytes, as the keys of claims of our own
# The lowest argument that needs so many bytes: one value has one encoding.
_LEAST = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}


def read(data: bytes) -> Item:
    """Return the one item that `data` is, or raise `MalformedError`."""
    try:
        item, end = _item(data, 0, MAX_DEPTH, [MAX_ITEMS])
    except IndexError as error:
        raise MalformedError("CBOR is cut short") from error
    if end != len(data):
        _refuse("is cut short" if end > len(data) else "goes on after its item")
    return item


def _refuse(detail: str) -> Never:
    raise MalformedError(f"CBOR {detail}")


def _item(data: bytes, at: int, depth: int, left: list[int]) -> tuple[Item, int]:
    # One function, because a call costs more than what it does; an index past the end is caught once.
    initial = data[at]
    at += 1
    major, argument = initial >> 5, initial & 31
    if major == _SIMPLE:
        if argument not in _SIMPLE_VALUES:
            _refuse("has a float or simple value")
        return _SIMPLE_VALUES[argument], at
    if argument > 23:
        if argument > 27:
            _refuse("has an indefinite or reserved length")
        width = 1 << (argument - 24)
        argument = int.from_bytes(data[at : at + width], "big")
        at += width
        if argument < _LEAST[width]:
            _refuse("is not in its shortest form")
    if major == _UNSIGNED:
        return argument, at
    if major in (_BYTES, _TEXT):
        end = at + argument
        if end > len(data):
            _refuse("is cut short")
        return data[at:end] if major == _BYTES else _text(data[at:end]), end
    if major == _NEGATIVE:
        return -1 - argument, at
    if depth == 0:
        _refuse("is nested too deeply")
    left[0] -= argument
    if left[0] < 0:
        _refuse("has too many items")
    if major == _ARRAY:
        return _array(data, at, argument, depth - 1, left)
    if major == _MAP:
        return _map(data, at, argument, depth - 1, left)
    _refuse("has a tag")


def _array(data: bytes, at: int, size: int, depth: int, left: list[int]) -> tuple[list[Item], int]:
    # Short strings and small numbers, which most members of most messages are, are read in place.
    items: list[Item] = []
    for _ in range(size):
        initial = data[at]
        if initial <= _LAST_SMALL:
            items.append(initial)
            at += 1
        elif _FIRST_SHORT_BYTES <= initial <= _LAST_SHORT_TEXT and initial & 31 <= _LAST_SMALL:
            start = at + 1
            at = start + (initial & 31)
            piece = data[start:at]
            items.append(piece if initial < _FIRST_SHORT_TEXT else _text(piece))
        else:
            item, at = _item(data, at, depth, left)
            items.append(item)
    if at > len(data):
        _refuse("is cut short")
    return items, at


def _map(data: bytes, at: int, size: int, depth: int, left: list[int]) -> tuple[dict[int | str, Item], int]:
    found: dict[int | str, Item] = {}
    last = b""
    kind: type[int | str] | None = None
    # As in arrays, what is short is read in place, and keys as they mostly are.
    for _ in range(size):
        start = at
        key: Item
        initial = data[at]
        if _FIRST_SHORT_TEXT <= initial <= _LAST_SHORT_TEXT:
            at += 1 + (initial & 31)
            key = _text(data[start + 1 : at])
        elif initial <= _LAST_SMALL:
            key, at = initial, at + 1
        elif initial == _LONG_NEGATIVE:
            key, at = -1 - int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
            if key >= -_LEAST[4]:
                _refuse("is not in its shortest form")
        else:
            key, at = _item(data, at, 0, left)
            if type(key) is not str and type(key) is not int:
                _refuse("has a map key that is neither text nor integer")
        if type(key) is not kind and kind is not None:
            _refuse("has map keys of text and integers")
        kind = type(key)
        # Strictly rising, so no key is there twice; in length too, as our writer does it (RFC 8949 4.2.3).
        encoded = data[start:at]
        if encoded <= last or len(encoded) < len(last):
            _refuse("has map keys out of order")
        last = encoded
        initial = data[at]
        if initial <= _LAST_SMALL:
            found[key] = initial
            at += 1
        elif initial == _NULL:
            found[key] = None
            at += 1
        elif _FIRST_SHORT_BYTES <= initial <= _LAST_SHORT_TEXT and initial & 31 <= _LAST_SMALL:
            start = at + 1
            at = start + (initial & 31)
            piece = data[start:at]
            found[key] = piece if initial < _FIRST_SHORT_TEXT else _text(piece)
        else:
            found[key], at = _item(data, at, depth, left)
    if at > len(data):
        _refuse("is cut short")
    return found, at


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("CBOR text is not UTF-8") from error
