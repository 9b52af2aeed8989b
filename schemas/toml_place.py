"""Where things stand in a TOML text: line and column of every key and array element.

Pure. It reads only text that `tomllib` has accepted, and looks for places alone: what a key means is
tomllib's to say, so nothing is decided by this reading but what an error points at.
"""

import re
import tomllib
from typing import NamedTuple

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}\n#]*")
# The closing quotes of a multi-line string may have one or two more of its own before them.
_STRINGS = (
    re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)


class Place(NamedTuple):
    """Line and column, both from 1, the column in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


def places(text: str) -> dict[Path, Place]:
    """Return where each key and element of valid TOML stands; a table's place is its header's if it has one.

    Raise `RecursionError` for values nested deeper than the interpreter goes.
    """
    return _Reader(text.replace("\r\n", "\n")).read()


def nearest(found: dict[Path, Place], path: Path) -> Place:
    """Return the place of `path`, or of the closest that it lies in; else that of the text's beginning."""
    for length in range(len(path), 0, -1):
        if path[:length] in found:
            return found[path[:length]]
    return Place(1, 1)


# Letters, marks and symbols that nobody sees: Unicode's Default_Ignorable_Code_Point, and a blank.
_IGNORABLE = (
    ("\u034f", "\u034f"),
    ("\u115f", "\u1160"),
    ("\u17b4", "\u17b5"),
    ("\u180b", "\u180f"),
    ("\u2800", "\u2800"),
    ("\u3164", "\u3164"),
    ("\ufe00", "\ufe0f"),
    ("\uffa0", "\uffa0"),
    ("\U000e0100", "\U000e01ef"),
)


def dotted(path: Path) -> str:
    """Write a path as keys are written in TOML, with elements of arrays counted from 0 as msgspec does."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = (
                part if _BARE.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            )
            text += f".{key}" if text else key
    return text


def printable(text: str) -> str:
    """Return `text` with what moves a cursor, hides or reverses other text written as escapes.

    Who reviews a policy of somebody else reads its names in errors and differences.
    """
    return "".join(
        character if _is_seen(character) else character.encode("unicode_escape").decode()
        for character in text
    )


def hidden(text: str) -> list[tuple[Place, str]]:
    """Return place and name of each character of a text that a reader can't see, or sees elsewhere."""
    return [
        (Place(row, column), f"U+{ord(character):04X}")
        for row, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1)
        for column, character in enumerate(line, 1)
        if not _is_seen(character) and character != "\t"
    ]


def _is_seen(character: str) -> bool:
    return character.isprintable() and not any(first <= character <= last for first, last in _IGNORABLE)


class _Reader:
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._found: dict[Path, int] = {}
        self._lengths: dict[Path, int] = {}  # of arrays of tables, as far as they were read

    def read(self) -> dict[Path, Place]:
        table: Path = ()
        self._skip(_BETWEEN)
        while self._at < len(self._text):
            table = self._header() if self._text[self._at] == "[" else self._pair(table)
            self._skip(_BETWEEN)
        return self._as_places()

    def _as_places(self) -> dict[Path, Place]:
        starts = [0, *(match.end() for match in re.finditer("\n", self._text))]
        line = 0
        result: dict[Path, Place] = {}
        for path, offset in sorted(self._found.items(), key=lambda each: each[1]):
            while line + 1 < len(starts) and starts[line + 1] <= offset:
                line += 1
            result[path] = Place(line + 1, offset - starts[line] + 1)
        return result

    def _header(self) -> Path:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        path: Path = ()
        for key, _ in self._keys():
            path = (*self._within(path), key)
            self._found.setdefault(path, start)
        self._at += 2 if is_array else 1
        if is_array:
            index = self._lengths.get(path, 0)
            self._lengths[path] = index + 1
            path = (*path, index)
        # A table may have been mentioned before as the parent of another: its own header is its place.
        self._found[path] = start
        return path

    def _within(self, path: Path) -> Path:
        # A name in a header that is an array of tables means the last of them.
        return (*path, self._lengths[path] - 1) if path in self._lengths else path

    def _pair(self, table: Path) -> Path:
        path = table
        for key, offset in self._keys():
            path = (*path, key)
            self._found.setdefault(path, offset)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)
        return table

    def _keys(self) -> list[tuple[str, int]]:
        keys = []
        while True:
            self._skip(_BLANK)
            offset = self._at
            keys.append((self._key(), offset))
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _key(self) -> str:
        if self._text[self._at] in "\"'":
            raw = self._string()
            return next(iter(tomllib.loads(f"{raw} = 0")))
        match = _BARE.match(self._text, self._at)
        if match is None:  # text that tomllib did not accept
            raise ValueError("not TOML")
        self._at = match.end()
        return match.group()

    def _string(self) -> str:
        for pattern in _STRINGS:
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                return match.group()
        raise ValueError("not TOML")

    def _value(self, path: Path) -> None:
        first = self._text[self._at : self._at + 1]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in ('"', "'"):
            self._string()
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_BETWEEN)
            if self._text[self._at] == "]":
                break
            self._found[(*path, index)] = self._at
            self._value((*path, index))
            index += 1
            self._skip(_BETWEEN)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while True:
            self._skip(_BETWEEN)
            if self._text[self._at] == "}":
                break
            self._pair(path)
            self._skip(_BETWEEN)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
