"""What a redactor does with a slice: pass 1 finds declared names, pass 2 finds every identifier."""

from collections.abc import Iterator
from typing import NamedTuple

from examples.redaction.addresses import emails, phones
from examples.redaction.declarations import declarations
from examples.redaction.lexicon import Lexicon
from examples.redaction.messages import Identifier, Kind, PersonName, Slice
from examples.redaction.numbers import Candidate, cards, ibans, national_ids
from examples.redaction.views import View

_RANK = {kind: rank for rank, kind in enumerate(Kind)}


class Occurrence(NamedTuple):
    """An identifier at [start, end) of the document."""

    start: int
    end: int
    identifier: Identifier


def survey(piece: Slice) -> tuple[PersonName, ...]:
    """Return the names that a slice declares, sorted; a given name alone declares nobody."""
    view = View(piece)
    return tuple(
        sorted(
            {
                declared.name
                for declared in declarations(view)
                if declared.name.family and _owns(piece, view.written(declared.start, declared.end)[0])
            }
        )
    )


def detect(piece: Slice, lexicon: Lexicon) -> tuple[Occurrence, ...]:
    """Return the identifiers that start in what the slice owns, in order.

    They may overlap; what lies within a more telling one (a name in an address) is left out.
    """
    view = View(piece)
    kept: list[Occurrence] = []
    open_: list[Occurrence] = []
    for found in sorted(set(_occurrences(view, lexicon)), key=_outer_first):
        open_ = [other for other in open_ if other.end > found.start]
        if any(other.end >= found.end and _telling(other) < _telling(found) for other in open_):
            continue
        open_.append(found)
        kept.append(found)
    return tuple(sorted(found for found in kept if _owns(piece, found.start)))


def precedence(kind: Kind, start: int, end: int) -> tuple[int, int, int]:
    """Return what sorts the more telling of two overlapping findings first."""
    return _RANK[kind], start - end, start


def _telling(found: Occurrence) -> tuple[int, int, int, str]:
    return *precedence(found.identifier.kind, found.start, found.end), found.identifier.value


def _outer_first(found: Occurrence) -> tuple[int, int, tuple[int, int, int, str]]:
    return found.start, -found.end, _telling(found)


def _occurrences(view: View, lexicon: Lexicon) -> Iterator[Occurrence]:
    for kind, start, end, value in _candidates(view, lexicon):
        yield Occurrence(*view.written(start, end), Identifier(kind, value))


def _owns(piece: Slice, start: int) -> bool:
    return piece.low <= start < piece.high


def _candidates(view: View, lexicon: Lexicon) -> Iterator[Candidate]:
    yield from ibans(view)
    yield from cards(view)
    yield from national_ids(view)
    yield from emails(view)
    yield from phones(view)
    yield from lexicon.find(view.text)
    for declared in declarations(view):
        if not declared.probable or lexicon.knows_given(declared.name.given):
            yield Candidate(Kind.NAME, declared.start, declared.end, lexicon.value(declared.name))
