"""Hypothesis strategies for any message, made from the type itself: what `schemas` may say, it must say."""

from datetime import UTC
from functools import cache
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

import schemas.audit
import schemas.documents
import schemas.evidence
import schemas.messages
import schemas.policy
import schemas.scheduling
from schemas.codec import Document, Message

MODULES = (
    schemas.audit,
    schemas.documents,
    schemas.evidence,
    schemas.messages,
    schemas.policy,
    schemas.scheduling,
)
KINDS: tuple[type[Message | Document], ...] = tuple(
    {
        kind: None
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, Message | Document)
        and kind.__module__ == module.__name__
    }
)

LONGEST = 8  # of what has no length of its own: sizes are not what these tests are about
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=8)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.dictionaries(st.integers(0, 2**32), inner, max_size=3)
    ),
    max_leaves=6,
)


# What TOML has too: a schema in a rule stands there as a table.
TABLES = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=4,
    ),
    max_size=3,
)


@cache  # a strategy is checked once, however often it is drawn from
def of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Return values of a message type, constraints and all."""
    return _of(inspect.type_info(kind))


def _of(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: _of(field.type) for field in fields})
        case inspect.UnionType(types=types):
            return st.one_of(*(_of(each) for each in types))
        case inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            return st.lists(_of(item), min_size=low or 0, max_size=_most(low, high)).map(tuple)
        case inspect.TupleType(item_types=items):
            return st.tuples(*(_of(item) for item in items))
        case inspect.DictType(value_type=inspect.AnyType()):
            return TABLES
        case inspect.DictType(key_type=key, value_type=value, min_length=low, max_length=high):
            return st.dictionaries(_of(key), _of(value), min_size=low or 0, max_size=min(_most(low, high), 3))
        case inspect.BytesType(min_length=low, max_length=high):
            return st.binary(min_size=low or 0, max_size=_most(low, high))
        case inspect.StrType(pattern=str() as pattern, min_length=low, max_length=high):
            fits = st.from_regex(pattern)
            return fits.filter(lambda text: (low or 0) <= len(text) <= (high or len(text)))
        case inspect.StrType(min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=_most(low, high))
        case inspect.IntType(ge=ge, le=le, lt=lt):
            highest = le if le is not None else lt - 1 if lt is not None else 2**64 - 1
            return st.integers(ge if ge is not None else -(2**64), highest)
        case inspect.DateTimeType(tz=True):
            return st.datetimes(timezones=st.just(UTC))
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.AnyType():
            return PLAIN
    raise AssertionError(f"no strategy for {info}")


def _most(low: int | None, high: int | None) -> int:
    return min(max(low or 0, LONGEST), high if high is not None else LONGEST + (low or 0))
