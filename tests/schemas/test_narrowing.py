"""The schemas that narrow arguments: what fits is what another implementation says, and bombs are refused."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Generic, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.narrowing import MAX_DEPTH, MAX_NAMES, MAX_NODES, SchemaError, compile_schema
from schemas.patterns import PatternError, compile_pattern
from schemas.plain import MAX_VALUES, NotPlainError, form_of, plain

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.sampled_from((0.5, 1.0, 2.0))
    | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
_SMALL, _SIZE = st.integers(-2, 4), st.integers(0, 3)
_SCALARS = st.text("ab1", max_size=2) | st.integers(-1, 2) | st.booleans()
_TYPES = st.sampled_from(("object", "array", "string", "boolean", "null", "number", "integer"))
_KEYWORDS: dict[str, st.SearchStrategy[Any]] = {
    "type": _TYPES | st.lists(_TYPES, min_size=1, max_size=3, unique=True),
    "enum": st.lists(_SCALARS, min_size=1, max_size=4),
    "const": _SCALARS,
    "minimum": _SMALL,
    "maximum": _SMALL,
    "exclusiveMinimum": _SMALL,
    "exclusiveMaximum": _SMALL,
    "multipleOf": st.integers(1, 3),
    "minLength": _SIZE,
    "maxLength": _SIZE,
    "pattern": st.sampled_from(("^a+b*$", "^[ab]{2}$", "^\\d?a$", "^[^1]+$")),
    "minItems": _SIZE,
    "maxItems": _SIZE,
    "minProperties": _SIZE,
    "maxProperties": _SIZE,
    "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
}


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = inner | st.booleans()
    nested = {
        "properties": st.dictionaries(st.sampled_from("ab"), some, max_size=2),
        "additionalProperties": some,
        "items": some,
        "anyOf": st.lists(some, min_size=1, max_size=3),
        "allOf": st.lists(some, min_size=1, max_size=3),
        "not": some,
    }
    return st.fixed_dictionaries({}, optional={**_KEYWORDS, **nested}).map(dict)


SCHEMAS = st.recursive(st.fixed_dictionaries({}, optional=_KEYWORDS), schemas, max_leaves=4)


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, VALUES)
def test_what_fits_is_what_another_implementation_says(schema: dict[str, Any], value: Any) -> None:
    assert (compile_schema(schema)(value) == "") == Draft202012Validator(schema).is_valid(value)


def test_what_does_not_fit_is_told_by_the_place_in_the_schema_and_not_by_the_value() -> None:
    check = compile_schema({"properties": {"a/b": {"items": {"maximum": 3}}}, "required": ["c"]})
    assert check({"a/b": [1, 4], "c": 0}) == "/properties/a~1b/items/maximum"
    assert check({"a/b": []}) == "/required"


def nested(depth: int) -> dict[str, Any]:
    return {} if depth == 0 else {"items": nested(depth - 1)}


BOMBS: dict[str, tuple[Any, tuple[str | int, ...]]] = {
    "a remote reference": (
        {"properties": {"a": {"$ref": "https://x.example/s"}}},
        ("properties", "a", "$ref"),
    ),
    "a reference to itself": ({"$ref": "#"}, ("$ref",)),
    "a dynamic reference": ({"$dynamicRef": "#x"}, ("$dynamicRef",)),
    "too deep": (nested(MAX_DEPTH), ("items",) * MAX_DEPTH),
    "too many schemas": ({"anyOf": [{}] * MAX_NODES}, ("anyOf", MAX_NODES - 1)),
    "too many values": ({"enum": list(range(MAX_NAMES + 1))}, ("enum",)),
    "too many names": ({"required": [f"n{n}" for n in range(MAX_NAMES + 1)]}, ("required",)),
    "a keyword that is none": ({"maxlength": 3}, ("maxlength",)),
    "a format": ({"format": "email"}, ("format",)),
    "properties by pattern": ({"patternProperties": {"(a+)+": {}}}, ("patternProperties",)),
    "a pattern that backtracks": ({"pattern": "^(a+)+$"}, ("pattern",)),
    "a part of a number": ({"maximum": 0.5}, ("maximum",)),
    "a truth as a bound": ({"maximum": True}, ("maximum",)),
    "a type that is none": ({"type": "int"}, ("type",)),
    "an enumeration of objects": ({"enum": [{}]}, ("enum",)),
    "a size below nothing": ({"minLength": -1}, ("minLength",)),
    "a schema that is none": ({"items": 3}, ("items",)),
    "properties that are none": ({"properties": []}, ("properties",)),
    "a name that is none": ({"required": [1]}, ("required", 0)),
    "nothing to choose from": ({"anyOf": []}, ("anyOf",)),
    "a date": ({"const": datetime(2027, 1, 1, tzinfo=UTC)}, ("const",)),
}


@pytest.mark.parametrize(("schema", "path"), BOMBS.values(), ids=BOMBS.keys())
def test_what_is_not_supported_is_refused_at_its_place(schema: Any, path: tuple[str | int, ...]) -> None:
    with pytest.raises(SchemaError) as refusal:
        compile_schema(schema)
    assert refusal.value.path == path


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([*_KEYWORDS, "$ref", "items", "anyOf", "properties"]), VALUES))
def test_any_plain_data_compiles_or_is_refused(schema: dict[str, Any]) -> None:
    try:
        check = compile_schema(schema)
    except SchemaError:
        return
    assert isinstance(check([]), str)


UNSAFE = (
    "a*",
    "^a",
    "a$",
    "^(a)$",
    "^a|b$",
    "^a.b$",
    "^a*a$",
    "^a*b?a$",
    "^[a-c]+[c-e]$",
    "^a{2,1}$",
    "^a{1001}$",
    "^a**$",
    "^a*?$",
    "^\\s$",
    "^\\1$",
    "^[b-a]$",
    "^[]$",
    "^[a$",
    "^\\$",
    "^(?=a)$",
    "^a{2,}{3}$",
    "^[[:a:]]$",
    "^" + "a" * 65 + "$",
    "^" + "a" * 300 + "$",
    "^\\w+\\d$",
)


@pytest.mark.parametrize("pattern", UNSAFE)
def test_a_pattern_that_could_match_in_many_ways_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


SAFE = (
    "^a*b$",
    "^[a-z0-9.]+@[a-z0-9-]+$",
    "^\\d{4}-\\d{2}$",
    "^[^b]*b[ab]*$",
    "^\\w+$",
    "^a?b?1*$",
    "^[a-]+b$",
)


@settings(max_examples=300)
@given(st.sampled_from(SAFE), st.text("ab1-.@\n", max_size=8))
def test_a_safe_pattern_matches_as_everywhere(pattern: str, text: str) -> None:
    expected = re.compile(pattern[1:-1], re.ASCII).fullmatch(text) is not None
    assert (compile_pattern(pattern).fullmatch(text) is not None) == expected


class Colour(Enum):
    RED = "red"


class Point(msgspec.Struct, omit_defaults=True, rename="camel"):
    the_x: int
    limit: int = 100


class Row(msgspec.Struct, array_like=True, tag=True):
    a: int


class Shape(msgspec.Struct, tag_field="kind", tag="shape"):
    side: int


@dataclass
class Plain:
    side: int


def test_a_default_that_its_sender_left_out_is_checked_with_the_value_that_runs() -> None:
    value = msgspec.msgpack.decode(msgspec.msgpack.encode({"theX": 1}), type=Point)
    assert plain(value) == {"theX": 1, "limit": 100}
    assert compile_schema({"properties": {"limit": {"maximum": 10}}})(plain(value)) != ""


def test_every_kind_of_argument_has_the_form_that_its_schema_speaks_of() -> None:
    assert plain(Row(1)) == ["Row", 1]
    assert plain(Shape(2)) == {"kind": "shape", "side": 2}
    assert plain(Plain(3)) == {"side": 3}
    assert plain(Colour.RED) == "red"
    assert plain(b"\x00") == "AA=="
    assert plain(datetime(2027, 1, 1, tzinfo=UTC)) == "2027-01-01T00:00:00Z"
    assert plain({"a": (1, None, True, 0.5)}) == {"a": [1, None, True, 0.5]}


NOT_PLAIN = {
    "no number": float("nan"),
    "without end": float("inf"),
    "keys that are numbers": {1: 2},
    "not decoded": msgspec.Raw(b"1"),
    "an extension": msgspec.msgpack.Ext(1, b""),
    "too many": [0] * MAX_VALUES,
    "another object": object(),
    "too deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],
}


@pytest.mark.parametrize("value", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_what_cannot_be_checked_is_said_to_be_so(value: Any) -> None:
    with pytest.raises(NotPlainError):
        plain(value)


@given(VALUES)
def test_plain_data_is_itself(value: Any) -> None:
    assert plain(value) == value


def test_patterns_look_at_so_much_text_and_what_has_more_is_refused_by_permit_and_deny() -> None:
    one = {"type": "string", "pattern": "^[^a]*a$"}
    for schema, value in (
        ({"anyOf": [one] * 100}, "b" * 900_000),
        ({"items": {"allOf": [one] * 100}}, ["a"] * 9_000),
    ):
        check = compile_schema(schema)
        with pytest.raises(NotPlainError, match="too much text"):
            check(value)
        with pytest.raises(NotPlainError, match="too much text"):
            compile_schema({"not": schema})(value)
        # Each check has all of it.
        assert check("a" if "anyOf" in schema else ["a"]) == ""


class Loose(msgspec.Struct):
    any: Any


class Tree(msgspec.Struct):
    raw: bytes
    more: "list[Tree]"


T = TypeVar("T")


class Boxed(msgspec.Struct, Generic[T]):
    held: T


class Named(TypedDict):
    raw: bytes


class Pair(NamedTuple):
    number: int
    raw: bytes


NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
UNTYPED: dict[str, tuple[Any, Any]] = {
    "bytes by name": ({"place": b"archive"}, dict),
    "bytes deep in lists": ({"a": {"place": [[bytearray(b"archive")]]}}, Any),
    "bytes alone": (b"archive", Any),
    "bytes in a list": ([b"archive"], list),
    "a time": ([NEW_YEAR], list[Any]),
    "in a typed object": ({"place": b"archive"}, dict[str, Any]),
    "beside what is typed": ({"place": [b"archive"]}, dict[str, bytes | list[Any]]),
    "in a field of any type": (Loose(b"archive"), Loose),
    "in what nobody can look into": (b"archive", object),
}


@pytest.mark.parametrize(("value", "kind"), UNTYPED.values(), ids=UNTYPED.keys())
def test_where_no_type_says_so_nothing_passes_for_json_that_is_none(value: Any, kind: Any) -> None:
    with pytest.raises(NotPlainError, match="where no type says so"):
        plain(value, form_of(kind))


TYPED: dict[str, tuple[Any, Any, Any]] = {
    "bytes by name": ({"a": b"\0"}, dict[str, bytes], {"a": "AA=="}),
    "bytes in lists by name": ({"a": [b"\0"]}, dict[str, list[bytes]], {"a": ["AA=="]}),
    "bytes alone": (b"\0", bytes, "AA=="),
    "one of several types": ({"a": b"\0", "b": 1}, dict[str, bytes | int], {"a": "AA==", "b": 1}),
    "within bounds": ({"a": b"\0"}, dict[str, Annotated[bytes, msgspec.Meta(max_length=1)]], {"a": "AA=="}),
    "a tuple": ((1, b"\0"), tuple[int, bytes], [1, "AA=="]),
    "many": ((b"\0", b"\0"), tuple[bytes, ...], ["AA==", "AA=="]),
    "a typed dict": ({"raw": b"\0"}, Named, {"raw": "AA=="}),
    "a named tuple": (Pair(1, b"\0"), Pair, [1, "AA=="]),
    "a dataclass": (Plain(3), Plain, {"side": 3}),
    "a struct in its own kind": (
        Tree(b"\0", [Tree(b"\0", [])]),
        Tree,
        {"raw": "AA==", "more": [{"raw": "AA==", "more": []}]},
    ),
    "a generic struct": (Boxed(b"\0"), Boxed[bytes], {"held": "AA=="}),
    "a time": (NEW_YEAR, datetime, "2027-01-01T00:00:00Z"),
}


@pytest.mark.parametrize(("value", "kind", "expected"), TYPED.values(), ids=TYPED.keys())
def test_what_a_type_says_has_its_form(value: Any, kind: Any, expected: Any) -> None:
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)
    assert plain(decoded, form_of(kind)) == expected


def test_whoever_sends_does_not_know_the_types_and_leaves_it_to_the_receiver() -> None:
    assert plain({"a": b"\0"}) == {"a": "AA=="}


@pytest.mark.parametrize("kind", [Any, list, None])
def test_every_value_counts_however_it_is_nested(kind: Any) -> None:
    with pytest.raises(NotPlainError, match="too many values"):
        plain({"a": [[0] * 100] * 100}, None if kind is None else form_of(kind))
