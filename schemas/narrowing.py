"""The JSON Schemas by which a rule narrows arguments: a bounded part of draft 2020-12, compiled once.

Pure. What is left out is left out for a reason: references could be remote or without end, `format` means
something else in every library, and patterns are the safe ones of `schemas.patterns`. A schema that says
anything else is refused when the policy is compiled, and again by whoever receives the grant; no keyword is
ever skipped. Numbers in a schema are whole, as everything that operators sign. A check takes at most
`MAX_NODES` steps for each value.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from schemas.patterns import PatternError, compile_pattern
from schemas.plain import NotPlainError
from schemas.toml_place import Path

MAX_NODES = 128  # schemas within one schema, itself among them
MAX_DEPTH = 8  # schemas within schemas; leaves room below the depth that CBOR is read to
MAX_NAMES = 256  # properties, required names and enumerated values, all together
MAX_TEXT = 256  # characters of a name, title or enumerated text

# Characters that the patterns of one check may look at: some tenths of a second. Each use costs some more.
PATTERN_BUDGET = 4_000_000
PATTERN_USE = 64

Check = Callable[[Any], str]  # of a plain value: "" if it fits, else the JSON Pointer of what it misses

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "null": lambda value: value is None,
    "number": lambda value: type(value) is int or type(value) is float,
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
}
_ANNOTATIONS = ("title", "description", "$comment")
_WHY = {
    "$ref": "references are not followed, local or remote: write what is meant in its place",
    "$dynamicRef": "references are not followed: write what is meant in its place",
    "$defs": "nothing can refer to it: write what is meant in its place",
    "$schema": "it is always draft 2020-12: leave it out",
    "$id": "nothing can refer to it: leave it out",
    "format": "formats are not checked: use `pattern`, `maxLength` or `enum`",
    "patternProperties": "name the properties one by one, or bound them with `additionalProperties`",
    "unevaluatedProperties": "use `additionalProperties`",
    "oneOf": "use `anyOf`",
    "if": "use `anyOf` of the cases",
}


class SchemaError(ValueError):
    """The schema is no schema, or outside what can be checked safely; `path` leads to the place within it."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.path = path


def compile_schema(schema: Any) -> Check:
    """Return the check that a schema stands for, or raise `SchemaError`.

    The check raises `NotPlainError` for a value on which its patterns would take too long.
    """
    compiler = _Compiler()
    check, left = compiler.schema((), schema, MAX_DEPTH), compiler.left

    def within_budget(value: Any) -> str:
        left[0] = PATTERN_BUDGET
        return check(value)

    return within_budget


class _Compiler:
    """Compiles one schema and counts what it holds."""

    def __init__(self) -> None:
        self._nodes = MAX_NODES
        self._names = MAX_NAMES
        self.left = [PATTERN_BUDGET]

    def schema(self, at: Path, schema: Any, depth: int) -> Check:
        self._nodes -= 1
        if self._nodes < 0:
            raise SchemaError(at, f"a schema may hold {MAX_NODES} schemas")
        if depth == 0:
            raise SchemaError(at, f"a schema may be {MAX_DEPTH} schemas deep")
        if schema is True:
            return _fits
        if schema is False:
            return _misses(_pointer(at))
        if not isinstance(schema, dict):
            raise SchemaError(at, "a schema is a table, true or false")
        checks: list[Check] = []
        for keyword in schema:
            if keyword in _ANNOTATIONS:
                self._text((*at, keyword), schema[keyword])
            elif keyword in _OF_VALUES:
                checks.append(self._of_value((*at, keyword), keyword, schema[keyword]))
            elif keyword in ("anyOf", "allOf", "not"):
                checks.append(self._combined((*at, keyword), keyword, schema[keyword], depth - 1))
            elif keyword == "items":
                checks.append(_items(self.schema((*at, keyword), schema[keyword], depth - 1)))
            elif keyword not in ("properties", "additionalProperties"):
                hint = _WHY.get(str(keyword), "known are " + ", ".join(sorted(KEYWORDS)))
                raise SchemaError((*at, str(keyword)), f"`{keyword}` is not supported: {hint}")
        if "properties" in schema or "additionalProperties" in schema:
            checks.append(self._properties(at, schema, depth - 1))
        return _all(checks)

    def _of_value(self, at: Path, keyword: str, given: Any) -> Check:
        if keyword == "enum":
            if not isinstance(given, list | tuple) or not given:
                raise SchemaError(at, "`enum` is an array of at least one value")
            self._count(at, len(given))
        elif keyword == "required":
            if not isinstance(given, list | tuple):
                raise SchemaError(at, "`required` is an array of names")
            self._count(at, len(given))
            for index, name in enumerate(given):
                self._text((*at, index), name)
        elif keyword in ("enum", "const"):
            self._count(at, 1)
        test = _OF_VALUES[keyword](at, given)
        return _check(_pointer(at), _metered(test, self.left) if keyword == "pattern" else test)

    def _combined(self, at: Path, keyword: str, given: Any, depth: int) -> Check:
        if keyword == "not":
            inner = self.schema(at, given, depth)
            return _check(_pointer(at), lambda value: inner(value) != "")
        if not isinstance(given, list | tuple) or not given:
            raise SchemaError(at, f"`{keyword}` is an array of at least one schema")
        checks = [self.schema((*at, index), each, depth) for index, each in enumerate(given)]
        if keyword == "allOf":
            return _all(checks)
        return _check(_pointer(at), lambda value: any(check(value) == "" for check in checks))

    def _properties(self, at: Path, schema: Mapping[str, Any], depth: int) -> Check:
        given = schema.get("properties", {})
        if not isinstance(given, dict):
            raise SchemaError((*at, "properties"), "`properties` is a table of schemas")
        self._count((*at, "properties"), len(given))
        named: dict[str, Check] = {}
        for name, each in given.items():
            self._text((*at, "properties", name), name)
            named[name] = self.schema((*at, "properties", name), each, depth)
        rest = self.schema((*at, "additionalProperties"), schema.get("additionalProperties", True), depth)

        def check(value: Any) -> str:
            if type(value) is dict:
                for name, item in value.items():
                    if missed := named.get(name, rest)(item):
                        return missed
            return ""

        return check

    def _count(self, at: Path, number: int) -> None:
        self._names -= number
        if self._names < 0:
            raise SchemaError(at, f"a schema may hold {MAX_NAMES} names and values")

    def _text(self, at: Path, given: Any) -> None:
        if not isinstance(given, str) or len(given) > MAX_TEXT:
            raise SchemaError(at, f"a text of at most {MAX_TEXT} characters belongs here")


def _fits(_: Any) -> str:
    return ""


def _misses(pointer: str) -> Check:
    return lambda _: pointer


def _check(pointer: str, test: Callable[[Any], bool]) -> Check:
    return lambda value: "" if test(value) else pointer


def _all(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def check(value: Any) -> str:
        for each in checks:
            if missed := each(value):
                return missed
        return ""

    return check


def _items(inner: Check) -> Check:
    def check(value: Any) -> str:
        if type(value) is list:
            for item in value:
                if missed := inner(item):
                    return missed
        return ""

    return check


def _pointer(at: Path) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in at) or "/"


def _of_type(at: Path, given: Any) -> Callable[[Any], bool]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not names or not all(_is_type(name) for name in names):
        raise SchemaError(at, f"`type` is one or several of {', '.join(sorted(TYPES))}")
    tests = [TYPES[name] for name in names]
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _is_type(name: Any) -> bool:
    return isinstance(name, str) and name in TYPES


def _one_of(at: Path, values: Iterable[Any]) -> Callable[[Any], bool]:
    allowed = set()
    for value in values:
        if type(value) not in (str, int, bool) or (type(value) is str and len(value) > MAX_TEXT):
            raise SchemaError(at, "a text, a whole number or a boolean belongs here")
        if type(value) is int and not -(2**63) <= value < 2**64:
            raise SchemaError(at, "a whole number of at most 64 bits belongs here")
        allowed.add((type(value) is bool, value))
    # True equals 1 in Python and not in JSON; 1.0 equals 1 in both.
    scalars = (str, int, float, bool)
    return lambda value: type(value) in scalars and (type(value) is bool, value) in allowed


def _enum(at: Path, given: Any) -> Callable[[Any], bool]:
    return _one_of(at, given)


def _const(at: Path, given: Any) -> Callable[[Any], bool]:
    return _one_of(at, (given,))


def _whole(at: Path, given: Any, least: int = -(2**53)) -> int:
    if type(given) is not int or not least <= given <= 2**53:
        raise SchemaError(at, f"a whole number from {'0' if least == 0 else str(least)} on belongs here")
    return given


def _number(test: Callable[[Any, int], bool]) -> Callable[[Path, Any], Callable[[Any], bool]]:
    def compiled(at: Path, given: Any) -> Callable[[Any], bool]:
        bound = _whole(at, given)
        return lambda value: (type(value) is not int and type(value) is not float) or test(value, bound)

    return compiled


def _sized(
    kind: type[str] | type[list[Any]] | type[dict[str, Any]], test: Callable[[int, int], bool]
) -> Callable[[Path, Any], Callable[[Any], bool]]:
    def compiled(at: Path, given: Any) -> Callable[[Any], bool]:
        bound = _whole(at, given, 0)
        return lambda value: type(value) is not kind or test(len(value), bound)

    return compiled


def _multiple(at: Path, given: Any) -> Callable[[Any], bool]:
    step = _whole(at, given, 1)
    return lambda value: (type(value) is not int and type(value) is not float) or value % step == 0


def _pattern(at: Path, given: Any) -> Callable[[Any], bool]:
    if not isinstance(given, str):
        raise SchemaError(at, "`pattern` is a text")
    try:
        fullmatch = compile_pattern(given).fullmatch
    except PatternError as error:
        raise SchemaError(at, str(error)) from error
    return lambda value: type(value) is not str or fullmatch(value) is not None


def _metered(test: Callable[[Any], bool], left: list[int]) -> Callable[[Any], bool]:
    # Raised, not missed: within `not`, and for a rule that denies, what misses is let pass.
    def metered(value: Any) -> bool:
        if type(value) is str:
            left[0] -= len(value) + PATTERN_USE
            if left[0] < 0:
                raise NotPlainError("has too much text for the patterns of its schema")
        return test(value)

    return metered


def _required(_: Path, given: Any) -> Callable[[Any], bool]:
    names = frozenset(given)
    return lambda value: type(value) is not dict or names <= value.keys()


_OF_VALUES: dict[str, Callable[[Path, Any], Callable[[Any], bool]]] = {
    "type": _of_type,
    "enum": _enum,
    "const": _const,
    "minimum": _number(lambda value, bound: value >= bound),
    "maximum": _number(lambda value, bound: value <= bound),
    "exclusiveMinimum": _number(lambda value, bound: value > bound),
    "exclusiveMaximum": _number(lambda value, bound: value < bound),
    "multipleOf": _multiple,
    "minLength": _sized(str, lambda size, bound: size >= bound),
    "maxLength": _sized(str, lambda size, bound: size <= bound),
    "pattern": _pattern,
    "minItems": _sized(list, lambda size, bound: size >= bound),
    "maxItems": _sized(list, lambda size, bound: size <= bound),
    "minProperties": _sized(dict, lambda size, bound: size >= bound),
    "maxProperties": _sized(dict, lambda size, bound: size <= bound),
    "required": _required,
}
KEYWORDS = frozenset(
    {*_OF_VALUES, *_ANNOTATIONS, "anyOf", "allOf", "not", "items", "properties", "additionalProperties"}
)
