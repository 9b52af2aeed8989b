"""Redaction in one process: what the agents do together, without the mesh.

For tests, and the yardstick for what the mesh costs. The vault's key is an argument here.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from examples.redaction import replacing, slices
from examples.redaction.detection import detect, survey
from examples.redaction.lexicon import Lexicon
from examples.redaction.messages import PART, SEGMENT, Findings, PersonName, Slice
from examples.redaction.pseudonyms import pseudonym
from examples.redaction.reading import Document
from examples.redaction.replacing import Mark


class Redacted(NamedTuple):
    """A redacted document: its text and what was replaced in it."""

    text: str
    marks: list[Mark]


def survey_document(piece: Slice) -> set[PersonName]:
    """Return the names that a document declares, found part by part."""
    return {
        name
        for segment in slices.cut(piece, SEGMENT)
        for part in slices.cut(segment, PART)
        for name in survey(part)
    }


def redact_document(document: Document, lexicon: Lexicon, key: bytes) -> Redacted:
    """Redact a document part by part, as the agents do."""
    answers = [_answer(segment, lexicon, key) for segment in slices.cut(document.slice(), SEGMENT)]
    marks = replacing.resolved(answers)
    return Redacted(replacing.redacted(document.text, marks, document.syntax), marks)


def _answer(segment: Slice, lexicon: Lexicon, key: bytes) -> Findings:
    parts: list[Findings] = []
    for part in slices.cut(segment, PART):
        occurrences = detect(part, lexicon)
        identifiers = {occurrence.identifier for occurrence in occurrences}
        pseudonyms = {i: pseudonym(key, i.kind, i.value) for i in identifiers}
        parts.append(replacing.owned(replacing.findings(occurrences, pseudonyms), part))
    return replacing.merged(parts)


def redact(documents: Mapping[str, Document], key: bytes) -> dict[str, Redacted]:
    """Redact a job: names that one document declares are found in all."""
    lexicon = Lexicon(_names(documents.values()))
    return {name: redact_document(document, lexicon, key) for name, document in documents.items()}


def _names(documents: Iterable[Document]) -> set[PersonName]:
    return {name for document in documents for name in survey_document(document.slice())}
