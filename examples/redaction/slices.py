"""Cutting a document into slices that can be worked apart: first segments, then parts of a segment.

The contract: every identifier is found in exactly the slice that owns its first character, and is
found there as it would be in the whole text. It holds because whether something is found depends on
at most `REACH` characters to either side, and every slice carries those as context.
"""

from collections.abc import Iterator

from examples.redaction import tables
from examples.redaction.messages import Slice, Syntax

REACH = 512  # in characters as read: the longest identifier (an address, 320) and its context
# Characters as written for one as read: in JSON "\ud83d\ude00" is one character. A letter of a name
# may carry two marks, each an escape of its own, but names look no further than a third of REACH.
SPREAD = {Syntax.TEXT: 3, Syntax.CSV_LINES: 3, Syntax.JSON: 12}
MAX_RECORD = 16 * 1024  # a longer record is not one that a person would call a row


def whole(text: str, syntax: Syntax = Syntax.TEXT) -> Slice:
    """Return the slice that is the whole document."""
    if syntax is not Syntax.CSV:
        return Slice(text, 0, 0, len(text), syntax)
    delimiter = tables.sniff(text)
    if len(text) <= MAX_RECORD:
        first = next(tables.record_ends(text, delimiter), 0)
        return Slice(text, 0, 0, len(text), syntax, delimiter, text[:first])
    start, header = 0, ""
    for end in tables.record_ends(text, delimiter):
        if end - start > MAX_RECORD:
            return Slice(text, 0, 0, len(text), Syntax.CSV_LINES, delimiter)
        header = header or text[:end]
        start = end
    return Slice(text, 0, 0, len(text), syntax, delimiter, header)


def cut(piece: Slice, size: int) -> Iterator[Slice]:
    """Cut a slice into slices that own at most `size` characters each (a record more for csv)."""
    if piece.high - piece.low <= size:
        yield piece
        return
    bounds = _record_bounds(piece, size) if piece.syntax is Syntax.CSV else _even_bounds(piece, size)
    for low, high in bounds:
        start, end = low, high
        if piece.syntax is not Syntax.CSV:
            reach = REACH * SPREAD[piece.syntax]
            start = max(piece.origin, low - reach)
            end = min(piece.origin + len(piece.text), high + reach)
        if piece.syntax is Syntax.JSON:
            start -= _open_escape(piece.text, start - piece.origin)
        yield Slice(
            piece.text[start - piece.origin : end - piece.origin],
            start,
            low,
            high,
            piece.syntax,
            piece.delimiter,
            piece.header,
        )


def _even_bounds(piece: Slice, size: int) -> Iterator[tuple[int, int]]:
    for low in range(piece.low, piece.high, size):
        yield low, min(low + size, piece.high)


def _record_bounds(piece: Slice, size: int) -> Iterator[tuple[int, int]]:
    low = last = piece.low
    for end in tables.record_ends(piece.text, piece.delimiter):
        high = piece.origin + end
        if high - low > size and last > low:
            yield low, last
            low = last
        last = high
    if last > low:
        yield low, last


def _open_escape(text: str, position: int) -> int:
    """Return 1 if the character at `position` is escaped by the one before it, else 0."""
    start = position
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    return (position - start) % 2
