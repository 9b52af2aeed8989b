"""The patterns that a rule's schema may have: a sequence of characters and classes, matched in linear time.

Pure. Not a general regular expression: no groups, no alternation, no look-around, nothing that can backtrack
over what it matched. What may repeat a varying number of times must not share a character with what may come
next, so that each character of a text has one place in the pattern. The text is read here and written anew
for `re`; nothing of it gets there by itself.
"""

import re
from typing import NamedTuple

MAX_PATTERN = 256  # characters; an identifier's form has some twenty
MAX_ITEMS = 64  # a match takes at most so many steps for each character of the text
MAX_REPEAT = 1_000

_LAST = 0x10FFFF
_CLASSES = {"d": ((0x30, 0x39),), "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))}
_LITERAL = frozenset("\\^$.|?*+()[]{}-/")  # what a backslash may stand before, to mean itself
_SPECIAL = frozenset("^$.|?*+()[]{}")
_COUNT = re.compile(r"\{([0-9]{1,4})(?:(,)([0-9]{1,4})?)?\}")
_SIMPLE_COUNTS: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}

Ranges = tuple[tuple[int, int], ...]  # of code points, both ends in it, rising


class _Item(NamedTuple):
    ranges: Ranges
    low: int
    high: int | None


class PatternError(ValueError):
    """The pattern is outside what can be matched safely; the text says what to write instead."""


def compile_pattern(text: str) -> re.Pattern[str]:
    """Return a pattern of the supported form for `fullmatch`, or raise `PatternError`."""
    if len(text) > MAX_PATTERN:
        raise PatternError(f"a pattern may have {MAX_PATTERN} characters")
    if len(text) < 2 or text[0] != "^" or text[-1] != "$":
        raise PatternError("a pattern begins with ^ and ends with $, so that it is about the whole text")
    items = _Reader(text[1:-1]).items()
    if len(items) > MAX_ITEMS:
        raise PatternError(f"a pattern may have {MAX_ITEMS} parts")
    _check_one_way(items)
    return re.compile("".join(_written(item) for item in items))


def _check_one_way(items: list[_Item]) -> None:
    for number, item in enumerate(items):
        if item.low == item.high:
            continue
        for other in items[number + 1 :]:
            if _overlap(item.ranges, other.ranges):
                raise PatternError(
                    f"part {number + 1} repeats what may come after it, so that a text could match in many "
                    "ways: let them share no character, or count exactly"
                )
            if other.low:
                break


def _overlap(one: Ranges, other: Ranges) -> bool:
    return any(a <= d and c <= b for a, b in one for c, d in other)


def _written(item: _Item) -> str:
    ranges = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in item.ranges)
    high = "" if item.high is None else str(item.high)
    return f"[{ranges}]{{{item.low},{high}}}"


class _Reader:
    """One pass over the inside of one pattern."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def items(self) -> list[_Item]:
        found = []
        while self._at < len(self._text):
            ranges = self._set()
            found.append(_Item(ranges, *self._count()))
        return found

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise PatternError("the pattern ends in the middle of something")
        self._at += 1
        return self._text[self._at - 1]

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _set(self) -> Ranges:
        character = self._next()
        if character == "\\":
            return self._escaped()
        if character == "[":
            return self._class()
        if character in _SPECIAL:
            raise PatternError(
                f"`{character}` is not supported in a pattern here: only characters, classes like [a-z] or "
                "\\d and counts like {1,8} are; several patterns go into `anyOf`"
            )
        return ((ord(character), ord(character)),)

    def _escaped(self) -> Ranges:
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character not in _LITERAL:
            raise PatternError(
                f"`\\{character}` is not supported in a pattern: only \\d, \\w and punctuation"
            )
        return ((ord(character), ord(character)),)

    def _class(self) -> Ranges:
        negated = self._peek() == "^"
        self._at += negated
        found: list[tuple[int, int]] = []
        while self._peek() != "]":
            low = self._member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._member()
                if len(low) != 1 or len(high) != 1 or low[0][0] != low[0][1] or low[0][0] > high[0][1]:
                    raise PatternError("a range in a class goes from a lower character to a higher one")
                found.append((low[0][0], high[0][1]))
            else:
                found += low
        self._at += 1
        ranges = _joined(found)
        if negated:
            ranges = _complement(ranges)
        if not ranges:
            raise PatternError("a class without a character matches nothing")
        return ranges

    def _member(self) -> Ranges:
        character = self._next()
        if character == "\\":
            return self._escaped()
        if character == "[":
            raise PatternError("write `\\[` in a class")
        return ((ord(character), ord(character)),)

    def _count(self) -> tuple[int, int | None]:
        sign = self._peek()
        if sign in _SIMPLE_COUNTS:
            self._at += 1
            counts = _SIMPLE_COUNTS[sign]
        elif match := _COUNT.match(self._text, self._at):
            self._at = match.end()
            low = int(match[1])
            high = int(match[3]) if match[3] else None
            counts = (low, low) if not match[2] else (low, high)
        else:
            return 1, 1
        low, most = counts
        if low > MAX_REPEAT or (most is not None and not low <= most <= MAX_REPEAT):
            raise PatternError(f"a count goes from less to more, to {MAX_REPEAT} at most")
        if self._peek() in ("?", "+", "*", "{"):
            raise PatternError("a count stands once")
        return counts


def _joined(found: list[tuple[int, int]]) -> Ranges:
    ranges: list[tuple[int, int]] = []
    for low, high in sorted(found):
        if ranges and low <= ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], high)
        else:
            ranges.append((low, high))
    return tuple(ranges)


def _complement(ranges: Ranges) -> Ranges:
    rest, start = [], 0
    for low, high in ranges:
        if start < low:
            rest.append((start, low - 1))
        start = high + 1
    if start <= _LAST:
        rest.append((start, _LAST))
    return tuple(rest)
