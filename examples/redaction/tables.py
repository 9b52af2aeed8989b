"""The lexical structure of delimited text (RFC 4180): cells, records, delimiter.

Positions only; nothing is unquoted or changed. A quote opens a cell only at its start, as Python's
csv module reads it, and an unclosed one runs to the end of the text.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

DELIMITERS = ",;\t|"
BARRIER = "\x1f"  # "unit separator": in no identifier, so nothing is ever found across it


class Cell(NamedTuple):
    """A cell: [start, end) is its content without quotes, [end_of_cell, next) what ends it."""

    row: int
    column: int
    start: int
    end: int
    end_of_cell: int
    next: int


@cache
def _pattern(delimiter: str) -> re.Pattern[str]:
    separator = re.escape(delimiter)
    # Possessive throughout: one way to read each character, so linear in any input.
    return re.compile(rf'(?:"((?:[^"]++|"")*+)(?:"|\Z))?+([^{separator}\r\n]*+)({separator}|\r\n|\r|\n|\Z)')


def cells(text: str, delimiter: str) -> Iterator[Cell]:
    """Yield the cells of `text`, which starts at the start of a record."""
    row = column = 0
    for match in _pattern(delimiter).finditer(text):
        if match.start() == len(text):
            return
        content = 1 if match.start(1) >= 0 and not match[2] else 2
        # Text after a closing quote is malformed: then the whole cell is its content.
        start = match.start(1) if content == 1 else match.start()
        yield Cell(row, column, start, match.end(content), match.start(3), match.end())
        if match[3] == delimiter:
            column += 1
        else:
            row, column = row + 1, 0


def record_ends(text: str, delimiter: str) -> Iterator[int]:
    """Yield the offset just past each record."""
    for match in _pattern(delimiter).finditer(text):
        if match.start() == len(text):
            return
        if match[3] != delimiter:
            yield match.end()


def sniff(text: str) -> str:
    """Return the delimiter that the first line uses most; a comma if it uses none."""
    end = re.search(r"[\r\n]|\Z", text)
    first = text[: end.start() if end else 0]
    return max(DELIMITERS, key=first.count)


def bounded(text: str, delimiter: str) -> str:
    """Return `text` with a barrier for every delimiter and newline that is outside quotes."""
    if '"' not in text:
        return text.translate(dict.fromkeys(map(ord, f"{delimiter}\r\n"), BARRIER))
    pieces: list[str] = []
    done = 0
    for cell in cells(text, delimiter):
        pieces += (text[done : cell.end_of_cell], BARRIER * (cell.next - cell.end_of_cell))
        done = cell.next
    return "".join(pieces)


EVERY_BOUND = dict.fromkeys(map(ord, f'{DELIMITERS}\r\n"'), BARRIER)
