"""A decoded value as the JSON that a schema speaks of, every field with the value that it has.

Pure. What is checked has to be what runs: a field that its sender left out is here with its default, also
where its type would leave it out again when written. Nothing is guessed: a value that JSON has no form for
can't be checked, and who asks refuses it.
"""

import dataclasses
import math
from typing import Any

import msgspec

MAX_VALUES = 10_000  # a schema of the largest size takes some tenths of a second over so many
MAX_DEPTH = 32


class NotPlainError(ValueError):
    """The value has no form in JSON, or is too large to be checked."""


def plain(value: Any) -> Any:
    """Return a decoded value as plain data, or raise `NotPlainError`."""
    return _plain(value, MAX_DEPTH, [MAX_VALUES])


def _has_bytes(value: Any) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return any(_has_bytes(item) for item in value)
    return isinstance(value, bytes | bytearray)


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth == 0:
        raise NotPlainError("has too many values to be checked" if depth else "is nested too deeply")
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise NotPlainError("has a number that JSON does not know")
        return value
    if isinstance(value, dict):
        # The schema's author thought of a text: as base64, bytes would pass by each word that it denies.
        if any(_has_bytes(item) for item in value.values()):
            raise NotPlainError("has bytes where no field's type says so")
        return _object(value, depth - 1, left)
    if isinstance(value, msgspec.Struct):
        return _struct(value, depth - 1, left)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1, left) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return _object(fields, depth - 1, left)
    if isinstance(value, msgspec.Raw | msgspec.msgpack.Ext | memoryview):
        raise NotPlainError("has a part that was not decoded")
    try:
        leaf = msgspec.to_builtins(value)
    except (TypeError, ValueError) as error:
        raise NotPlainError("has a part that JSON has no form for") from error
    # A date, an enum's member, bytes: msgspec writes each in JSON as this, and its schema says so.
    if isinstance(leaf, str | int | float) and not isinstance(value, str | int | float):
        return _plain(leaf, depth, left)
    if type(leaf) in (str, int, float):
        return leaf
    raise NotPlainError("has a part that JSON has no form for")


def _object(value: dict[Any, Any], depth: int, left: list[int]) -> dict[str, Any]:
    if not all(type(key) is str for key in value):
        raise NotPlainError("has a key that is no text")
    return {key: _plain(item, depth, left) for key, item in value.items() if item is not msgspec.UNSET}


def _struct(value: msgspec.Struct, depth: int, left: list[int]) -> Any:
    config = value.__struct_config__
    items = [getattr(value, name) for name in value.__struct_fields__]
    if config.array_like:
        tagged = [config.tag] if config.tag is not None else []
        return [_plain(item, depth, left) for item in (*tagged, *items)]
    found = _object(dict(zip(value.__struct_encode_fields__, items, strict=True)), depth, left)
    if config.tag is not None and config.tag_field is not None:
        found[config.tag_field] = config.tag
    return found
