"""How good the findings are, against a truth.

Recall counts leaks: an identifier is found only if every character of it was replaced as its kind.
Precision counts needless losses: a replacement is right if it overlaps an identifier of its kind.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from examples.redaction.messages import Kind
from examples.redaction.replacing import Mark
from examples.redaction.truth import Entry, Truth


class Score(NamedTuple):
    """Counts over all documents; precision and recall follow from them."""

    right: int  # replacements that overlap an identifier of their kind
    replaced: int
    found: int  # identifiers that were replaced whole
    true: int

    @property
    def precision(self) -> float | None:
        """The share of replacements that are right, None without any."""
        return self.right / self.replaced if self.replaced else None

    @property
    def recall(self) -> float | None:
        """The share of identifiers that were replaced, None without any."""
        return self.found / self.true if self.true else None


def score(marks: Mapping[str, Iterable[Mark]], truth: Truth) -> dict[Kind, Score]:
    """Score the marks of documents against the truth, by kind. Files without a truth do not count."""
    right: Counter[Kind] = Counter()
    replaced: Counter[Kind] = Counter()
    found: Counter[Kind] = Counter()
    true: Counter[Kind] = Counter()
    for name, entries in truth.items():
        ours = list(marks.get(name, ()))
        for kind in Kind:
            spans = [(mark.start, mark.end) for mark in ours if mark.token.kind is kind]
            expected = list(_spans(entries, kind))
            replaced[kind] += len(spans)
            true[kind] += len(expected)
            right[kind] += sum(any(s < high and low < e for low, high in expected) for s, e in spans)
            found[kind] += sum(any(s <= low and high <= e for s, e in spans) for low, high in expected)
    return {kind: Score(right[kind], replaced[kind], found[kind], true[kind]) for kind in Kind}


def total(scores: Mapping[Kind, Score]) -> Score:
    """Return the score over all kinds."""
    return Score(*(sum(column) for column in zip(*scores.values(), strict=True)))


def _spans(entries: Iterable[Entry], kind: Kind) -> Iterable[tuple[int, int]]:
    for entry in entries:
        if entry.kind is kind:
            yield from ((offset, offset + len(entry.value)) for offset in entry.offsets)
