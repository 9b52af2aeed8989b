"""Reading TOML into a type, with errors for the person who wrote it: line, column, and what was meant.

Pure. msgspec says what is wrong and names a path in which keys of tables are elided; here the path is
found in the text again.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from schemas.errors import UsageError
from schemas.placeholders import MARK
from schemas.toml_place import Path, Place, dotted, nearest, places, printable

T = TypeVar("T")

# A thousand rules with all that one can have are 330 KiB. Ten times as much would be refused in a minute.
MAX_TEXT = 512 * 1024
MAX_PARTS = 32  # of one key; nothing that is read here is nested half as deep
# tomllib takes time by the square of a key's parts, or worse, and what it makes of 1,000 nobody can walk.
_LONG_KEY = re.compile(
    rf"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_PARTS}}}"""
)

# Python reads no longer number; the C types of all that is read here end after twenty digits.
_LONG_NUMBER = re.compile(rf"(?<![\w\"'])[+-]?[0-9](?:_?[0-9]){{{sys.int_info.default_max_str_digits}}}")

ANY_KEY = "..."  # how msgspec writes a key of a table that is no struct

_AT = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>[^`]*)`")
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]*)`")
_CLOCK = "[01][0-9]|2[0-3]"  # in the pattern of hours
_CHOICES = re.compile(r"\^\(([a-z]+(?:\|[a-z]+)+)\)")

# What people most often mean by what tomllib says.
_SYNTAX = {
    "Invalid value": 'text stands in "quotes", dates are written as 2026-01-31T12:00:00Z',
    "Cannot overwrite a value": "each key may stand only once: remove one of the two",
    "Cannot declare": "each [table] may stand only once: join the two",
    "Expected '=' after a key": "write: key = value",
    "Unclosed": "close the bracket",
    "Unterminated string": "close the quotes",
    "Illegal character '\\n'": "close the quotes on the same line",
}


class ContradictionError(UsageError):
    """Well-formed data that contradicts itself at `path`, which a reader of its text can find there."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.path = path


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean `that`?" if something known is near, else what is known if that is little."""
    names = sorted(set(known))
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; there is {', '.join(names)}" if 0 < len(names) <= 8 else ""


def read_toml(text: str, kind: type[T], name: str) -> T:
    """Read TOML as `kind`, or raise `UsageError` that begins with `name` and says what is wrong where."""
    if len(text) > MAX_TEXT:
        raise UsageError(f"{name} has over {MAX_TEXT // 1024} KiB, more than is read: make it shorter")
    if text.startswith("\ufeff"):
        raise UsageError(f"{name} begins with a byte order mark, which TOML has not: save it without one")
    if match := _LONG_KEY.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise UsageError(f"{name} is not valid: line {line}: a key has more than {MAX_PARTS} parts")
    try:
        return msgspec.toml.decode(text.encode(), type=kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{name} is not valid: {printable(_explain(text, kind, str(error)))}") from error
    except RecursionError as error:
        raise UsageError(f"{name} is not TOML: nested too deeply to be read") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise UsageError(f"{name} is not TOML: {printable(_explain_syntax(text, str(error)))}") from error


def place_of(text: str, path: Path) -> Place:
    """Return where `path` stands in valid TOML, or the closest that it lies in."""
    return nearest(places_in(text), path)


def places_in(text: str) -> dict[Path, Place]:
    """Return where each key of valid TOML stands; nothing for text that is too odd to be looked through."""
    try:
        return places(text)
    except (ValueError, IndexError, RecursionError):
        return {}


def placed(text: str, name: str, error: ContradictionError) -> UsageError:
    """Return a contradiction as an error that points into the text."""
    return UsageError(f"{name} is not valid: {place_of(text, error.path)}: {printable(str(error))}")


def _explain_syntax(text: str, message: str) -> str:
    if message.endswith("(at end of document)"):
        lines = text.split("\n")
        message = f"{message}, line {len(lines)}, column {len(lines[-1]) + 1}"
    if message.startswith("Exceeds the limit") and (match := _LONG_NUMBER.search(text)):
        begun = text[: match.start()].split("\n")
        return f"a number has more digits than are read (at {Place(len(begun), len(begun[-1]) + 1)})"
    hint = next((hint for start, hint in _SYNTAX.items() if message.startswith(start)), "")
    return f"{message}; {hint}" if hint else message


def _explain(text: str, kind: type[Any], message: str) -> str:
    path, key = find(tomllib.loads(text), kind, message)
    what, hint = message, ""
    if match := _UNKNOWN.match(message):
        path, name = (*path, match["name"]), match["name"]
        hint = did_you_mean(name, _fields(kind, path[:-1]))
    elif match := _MISSING.match(message):
        hint = f"; add {match['name']} = ..." + (f" to [{dotted(path)}]" if path else " at the top")
    elif not key and (wish := _placeholder(tomllib.loads(text), path)):
        return f"{place_of(text, path)}: {dotted(path)} is still to be filled in: {wish}"
    elif not key:
        hint = _about_value(tomllib.loads(text), path, message)
    # Where msgspec names the whole path, once is enough.
    whole = f"{dotted(path)}: " if ANY_KEY in what or key else ""
    return f"{place_of(text, path)}: {whole}{what}{hint}"


def find(data: Any, kind: type[Any], message: str) -> tuple[Path, bool]:
    """Return the path that a msgspec error means in the data, and whether its last key itself is wrong."""
    match = _AT.search(message)
    if match is None:
        return (), False
    path: Path = ()
    steps = [name or index for name, index in _STEP.findall(match["path"])]
    if match["key"]:
        steps.append(ANY_KEY)
    for step in steps:
        here = _at(data, path)
        if step == ANY_KEY:
            if not isinstance(here, dict) or not here:
                break
            data, path = _the_one(data, path, kind, message)
        else:
            path = (*path, int(step) if step.isdecimal() else step)
    return path, bool(match["key"])


def _the_one(data: Any, path: Path, kind: type[Any], message: str) -> tuple[Any, Path]:
    """Halve the table at `path` until one key is left with which the same error comes."""
    keys = list(_at(data, path))
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        keys = half if _error(_only(data, path, half), kind) == message else keys[len(half) :]
    return _only(data, path, keys), (*path, keys[0])


def _only(data: Any, path: Path, keys: list[str]) -> Any:
    """Return `data` with nothing but `keys` in the table at `path`."""
    if not path:
        return {key: data[key] for key in keys}
    inner = _only(data[path[0]], path[1:], keys)
    if isinstance(data, list):
        return [*data[: int(path[0])], inner, *data[int(path[0]) + 1 :]]
    return {**data, path[0]: inner}


def _error(data: Any, kind: type[Any]) -> str:
    try:
        msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _value(data: Any, path: Path) -> Any:
    try:
        return _at(data, path)
    except (KeyError, IndexError, TypeError):
        return None


def _placeholder(data: Any, path: Path) -> str:
    value = _value(data, path)
    return value.removeprefix(MARK) if isinstance(value, str) and value.startswith(MARK) else ""


def _about_value(data: Any, path: Path, message: str) -> str:
    value = _value(data, path)
    if isinstance(value, str) and (choices := _CHOICES.search(message)):
        return did_you_mean(value, choices[1].split("|"))
    if isinstance(value, str) and "0-9a-f" in message:
        return "; write it in lower-case hexadecimal of the right length"
    if "Expected `datetime" in message:
        day = str(value)[:10] if isinstance(value, date) else "2026-01-31"
        return f"; write day, time and zone, without quotes: {day}T00:00:00Z"
    if isinstance(value, str) and _CLOCK in message:
        return '; write it as in "08:00-18:00" or, over midnight, "22:00-06:00"'
    return ""


def _fields(kind: type[Any], path: Path) -> tuple[str, ...]:
    """Name the fields that a table at `path` may have."""
    infos: list[inspect.Type] = [inspect.type_info(kind)]
    for part in path:
        infos = [inner for info in infos for inner in _inner(info, part)]
    structs = [each for info in infos for each in _flat(info) if isinstance(each, inspect.StructType)]
    return tuple(field.encode_name for struct in structs for field in struct.fields)


def _flat(info: inspect.Type) -> Iterable[inspect.Type]:
    return info.types if isinstance(info, inspect.UnionType) else (info,)


def _inner(info: inspect.Type, part: str | int) -> Iterable[inspect.Type]:
    for each in _flat(info):
        match each:
            case inspect.StructType(fields=fields):
                yield from (field.type for field in fields if field.encode_name == part)
            case inspect.DictType(value_type=value):
                yield value
            case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
                yield item
