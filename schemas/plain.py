"""A decoded value as the JSON that a schema speaks of, every field with the value that it has.

Pure. What is checked has to be what runs: a field that its sender left out is here with its default, also
where its type would leave it out again when written. Nothing is guessed: a value that JSON has no form for
can't be checked, and who asks refuses it. Nor may a part whose type nobody stated be anything but JSON: the
schema's author thought of a text, and as base64 bytes would pass by each word that it denies.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import inspect

MAX_VALUES = 10_000  # a schema of the largest size takes some tenths of a second over so many
MAX_DEPTH = 32

Form = inspect.Type  # what a part was decoded to, as its type says

_BYTES = (inspect.BytesType, inspect.ByteArrayType, inspect.MemoryViewType)
_UNTYPED = (inspect.AnyType, inspect.CustomType)
_RECORDS = (inspect.StructType, inspect.DataclassType, inspect.NamedTupleType)
_LISTS = (
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.VarTupleType,
    inspect.CollectionType,
)


class NotPlainError(ValueError):
    """The value has no form in JSON, or is too large to be checked."""


def form_of(kind: Any) -> Form:
    """Return what a type says of the parts of its values; what cannot be looked into says nothing."""
    try:
        return inspect.type_info(kind)
    except TypeError:
        return inspect.AnyType()


def plain(value: Any, form: Form | None = None) -> Any:
    """Return a decoded value as plain data, or raise `NotPlainError`.

    `form` is that of the type it was decoded to. Without one nobody is about to run it: every part counts as
    typed.
    """
    return _plain(value, form, MAX_DEPTH, [MAX_VALUES])


def _plain(value: Any, form: Form | None, depth: int, left: list[int]) -> Any:
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
        return _object(value, form, depth - 1, left)
    if isinstance(value, msgspec.Struct):
        return _struct(value, _record(value, form), depth - 1, left)
    if isinstance(value, list | tuple | set | frozenset):
        return [
            _plain(item, within, depth - 1, left)
            for item, within in zip(value, _items(value, form), strict=True)
        ]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return _fields(fields, _record(value, form), depth - 1, left)
    if isinstance(value, msgspec.Raw | msgspec.msgpack.Ext | memoryview):
        raise NotPlainError("has a part that was not decoded")
    return _leaf(value, form, depth, left)


def _leaf(value: Any, form: Form | None, depth: int, left: list[int]) -> Any:
    if form is not None and not _is_typed(value, form):
        what = "bytes" if isinstance(value, bytes | bytearray) else "something that is not JSON"
        raise NotPlainError(f"has {what} where no type says so")
    try:
        leaf = msgspec.to_builtins(value)
    except (TypeError, ValueError) as error:
        raise NotPlainError("has a part that JSON has no form for") from error
    # A date, an enum's member, bytes: msgspec writes each in JSON as this, and its schema says so.
    if isinstance(leaf, str | int | float) and not isinstance(value, str | int | float):
        return _plain(leaf, form, depth, left)
    if type(leaf) in (str, int, float):
        return leaf
    raise NotPlainError("has a part that JSON has no form for")


def _is_typed(value: Any, form: Form) -> bool:
    stated = [each for each in _members(form) if not isinstance(each, _UNTYPED)]
    if isinstance(value, bytes | bytearray):
        return any(isinstance(each, _BYTES) for each in stated)
    return bool(stated)


def _members(form: Form) -> tuple[Form, ...]:
    if isinstance(form, inspect.Metadata):
        return _members(form.type)
    if isinstance(form, inspect.UnionType):
        return tuple(each for member in form.types for each in _members(member))
    return (form,)


def _object(value: dict[Any, Any], form: Form | None, depth: int, left: list[int]) -> dict[str, Any]:
    if not all(type(key) is str for key in value):
        raise NotPlainError("has a key that is no text")
    if form is None:
        return {key: _plain(item, None, depth, left) for key, item in value.items()}
    for each in _members(form):
        if isinstance(each, inspect.TypedDictType):
            stated = {field.encode_name: field.type for field in each.fields}
            return _fields(value, stated, depth, left)
        if isinstance(each, inspect.DictType):
            return {key: _plain(item, each.value_type, depth, left) for key, item in value.items()}
    return {key: _plain(item, inspect.AnyType(), depth, left) for key, item in value.items()}


def _items(value: Any, form: Form | None) -> Iterable[Form | None]:
    if form is None:
        return [None] * len(value)
    for each in _members(form):
        if isinstance(each, inspect.TupleType) and len(each.item_types) == len(value):
            return each.item_types
        if isinstance(each, inspect.NamedTupleType) and len(each.fields) == len(value):
            return [field.type for field in each.fields]
        if isinstance(each, _LISTS):
            return [each.item_type] * len(value)
    return [inspect.AnyType()] * len(value)


def _record(value: Any, form: Form | None) -> dict[str, Form] | None:
    """Return the forms of a record's fields by the names that they have in JSON; None if nobody asks."""
    if form is None:
        return None
    known = [each for each in _members(form) if isinstance(each, _RECORDS)]
    kind = type(value)
    found = next((each for each in known if getattr(each.cls, "__origin__", each.cls) is kind), None)
    record = found or form_of(kind)
    if not isinstance(record, _RECORDS):
        return {}
    return {field.encode_name: field.type for field in record.fields}


def _fields(
    values: dict[str, Any], forms: dict[str, Form] | None, depth: int, left: list[int]
) -> dict[str, Any]:
    return {
        name: _plain(item, _named(name, forms), depth, left)
        for name, item in values.items()
        if item is not msgspec.UNSET
    }


def _named(name: str, forms: dict[str, Form] | None) -> Form | None:
    return None if forms is None else forms.get(name, inspect.AnyType())


def _struct(value: msgspec.Struct, forms: dict[str, Form] | None, depth: int, left: list[int]) -> Any:
    config = value.__struct_config__
    names = value.__struct_encode_fields__
    items = [getattr(value, name) for name in value.__struct_fields__]
    if config.array_like:
        tagged = [config.tag] if config.tag is not None else []
        named = zip(names, items, strict=True)
        return [*tagged, *(_plain(item, _named(name, forms), depth, left) for name, item in named)]
    found = _fields(dict(zip(names, items, strict=True)), forms, depth, left)
    if config.tag is not None and config.tag_field is not None:
        found[config.tag_field] = config.tag
    return found
