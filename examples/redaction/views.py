"""How a slice reads: escapes undone and cells bounded, with the way back to the text as written."""

import re
from array import array
from bisect import bisect_right
from functools import cached_property

from examples.redaction import tables
from examples.redaction.messages import Slice, Syntax
from examples.redaction.tables import Cell

CONTEXT = 48  # how far before a number a word such as "Tel." may stand to explain it

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^u])", re.DOTALL
)
_KEY = re.compile(r"\"[^\"\n]{1,40}\"\s?:")
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class View:
    """The text of a slice as a reader of its format sees it."""

    def __init__(self, piece: Slice) -> None:
        self.piece = piece
        self._offsets: array[int] | None = None
        match piece.syntax:
            case Syntax.JSON:
                self.text = self._unescape(piece.text)
            case Syntax.CSV:
                self.text = tables.bounded(piece.text, piece.delimiter)
            case Syntax.CSV_LINES:
                self.text = piece.text.translate(tables.EVERY_BOUND)
            case Syntax.TEXT:
                self.text = piece.text

    def written(self, start: int, end: int) -> tuple[int, int]:
        """Return where [start, end) of the view stands in the document."""
        if self._offsets is not None:
            start, end = self._offsets[start], self._offsets[end]
        return self.piece.origin + start, self.piece.origin + end

    def before(self, position: int) -> str:
        """Return what explains a value at `position`: the heading of its column, the text before it."""
        context = self.text[max(0, position - CONTEXT) : position]
        if self.piece.syntax is Syntax.JSON:
            # The key of another value explains nothing.
            keys = list(_KEY.finditer(context))
            return context[keys[-1].start() :] if keys else context
        if not self.headings:
            return context
        index = bisect_right(self._cell_starts, position) - 1
        column = self.cells[index].column if index >= 0 else len(self.headings)
        # A neighbouring cell explains nothing.
        own = context.rpartition(tables.BARRIER)[2]
        return f"{self.headings[column]}: {own}" if column < len(self.headings) else own

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells of a csv slice; none for any other."""
        if self.piece.syntax is not Syntax.CSV:
            return []
        return list(tables.cells(self.piece.text, self.piece.delimiter))

    @cached_property
    def headings(self) -> list[str]:
        """The column headings of a csv slice; none for any other."""
        if self.piece.syntax is not Syntax.CSV:
            return []
        header = self.piece.header
        # What a heading explains it says briefly; it is read again for every number below it.
        return [
            header[cell.start : min(cell.end, cell.start + CONTEXT)]
            for cell in tables.cells(header, self.piece.delimiter)
        ]

    @cached_property
    def _cell_starts(self) -> list[int]:
        return [cell.start for cell in self.cells]

    def _unescape(self, text: str) -> str:
        if "\\" not in text:
            return text
        pieces: list[str] = []
        offsets = array("L")
        done = 0
        for match in _ESCAPE.finditer(text):
            pieces += (text[done : match.start()], unescaped(match[0]))
            offsets.extend(range(done, match.start() + 1))
            done = match.end()
        pieces.append(text[done:])
        offsets.extend(range(done, len(text) + 1))
        self._offsets = offsets
        return "".join(pieces)


def unescaped(escape: str) -> str:
    """Return the one character that a JSON escape (RFC 8259 section 7) stands for."""
    if escape[1] != "u":
        return _SHORT.get(escape[1], escape[1])
    first = int(escape[2:6], 16)
    if len(escape) == 12:
        return chr(0x10000 + ((first & 0x3FF) << 10) + (int(escape[8:12], 16) & 0x3FF))
    # A lone surrogate is no character; it can be in no identifier.
    return "\ufffd" if 0xD800 <= first <= 0xDFFF else chr(first)
