"""From findings to the redacted text: overlaps resolved, formats kept whole.

Where findings overlap, the whole stretch is replaced, never a part of it, and the kind that comes
first in `Kind` names it: a half-replaced identifier would be a leak.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from examples.redaction.detection import Occurrence, precedence
from examples.redaction.messages import Findings, Identifier, Kind, Slice, Span, Syntax, Token
from examples.redaction.pseudonyms import placeholder
from schemas.errors import MalformedError


class Mark(NamedTuple):
    """A stretch [start, end) of the document to be replaced, and by what."""

    start: int
    end: int
    token: Token


def findings(occurrences: Iterable[Occurrence], pseudonyms: dict[Identifier, str]) -> Findings:
    """Return what a redactor answers: positions and pseudonyms, without the identifiers."""
    spans: list[Span] = []
    tokens: dict[Token, int] = {}
    for start, end, identifier in occurrences:
        token = Token(identifier.kind, pseudonyms[identifier])
        spans.append(Span(start, end - start, tokens.setdefault(token, len(tokens))))
    return Findings(tuple(tokens), tuple(spans))


def merged(answers: Iterable[Findings]) -> Findings:
    """Return the answers for a segment's parts as one, whatever their order."""
    marks = sorted({mark for answer in answers for mark in _marks(answer)})
    tokens: dict[Token, int] = {}
    spans = [Span(m.start, m.end - m.start, tokens.setdefault(m.token, len(tokens))) for m in marks]
    return Findings(tuple(tokens), tuple(spans))


def owned(answer: Findings, piece: Slice) -> Findings:
    """Return an answer to `piece` as it came, or raise `MalformedError` if it is about something else."""
    end = piece.origin + len(piece.text)
    for span in answer.spans:
        if not piece.low <= span.start < piece.high or span.start + span.length > end:
            raise MalformedError("a finding outside its slice")
        if span.token >= len(answer.tokens):
            raise MalformedError("a finding without a token")
    return answer


def resolved(answers: Iterable[Findings]) -> list[Mark]:
    """Return disjoint marks in order, each as wide as the findings that overlap in it."""
    marks: list[Mark] = []
    best: Mark | None = None
    for mark in sorted({mark for answer in answers for mark in _marks(answer)}):
        if best is None or mark.start >= marks[-1].end:
            marks.append(mark)
            best = mark
            continue
        best = min(best, mark, key=_precedence)
        marks[-1] = Mark(marks[-1].start, max(marks[-1].end, mark.end), best.token)
    return marks


def _precedence(mark: Mark) -> tuple[int, int, int, Token]:
    return *precedence(mark.token.kind, mark.start, mark.end), mark.token


def _marks(answer: Findings) -> Iterator[Mark]:
    for span in answer.spans:
        yield Mark(span.start, span.start + span.length, answer.tokens[span.token])


def redacted(text: str, marks: list[Mark], syntax: Syntax) -> str:
    """Return the text with every mark replaced. Valid JSON stays valid; csv keeps its cells."""
    pieces: list[str] = []
    done = 0
    bare = _bare(text, marks) if syntax is Syntax.JSON and marks else {}
    for mark in marks:
        start, end = bare.get(mark.start, (mark.start, mark.end))
        if start < done:
            continue  # another identifier of a number that is replaced already
        replacement = placeholder(mark.token.kind, mark.token.pseudonym)
        pieces += (text[done:start], f'"{replacement}"' if mark.start in bare else replacement)
        done = end
    pieces.append(text[done:])
    return "".join(pieces)


def counted(marks: Iterable[Mark]) -> Counter[Kind]:
    """Return how many identifiers of each kind were replaced."""
    return Counter(mark.token.kind for mark in marks)


_STRING_OR_BARE = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[^\s,:{}\[\]"]++', re.DOTALL)


def _bare(text: str, marks: list[Mark]) -> dict[int, tuple[int, int]]:
    """Return the marks that stand in no string, by their start: the whole literal must become a string."""
    found: dict[int, tuple[int, int]] = {}
    rest = iter(marks)
    mark = next(rest, None)
    for token in _STRING_OR_BARE.finditer(text):
        while mark is not None and mark.start < token.end():
            if mark.start >= token.start() and not token[0].startswith('"'):
                found[mark.start] = token.start(), max(token.end(), mark.end)
            mark = next(rest, None)
        if mark is None:
            break
    return found
