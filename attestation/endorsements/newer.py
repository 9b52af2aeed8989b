"""Of two documents about the same: an older one takes no newer one's place. Pure."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from attestation.bundles.dated import Age, age_of, document_in
from attestation.bundles.subjects import Files, Subject
from attestation.endorsements.checks import NAMES, check
from attestation.endorsements.errors import EndorsementError
from attestation.errors import AttestationError


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that stays, because the one that came in its place is older."""

    subject: Subject
    held: Age
    came: Age

    @property
    def why(self) -> str:
        """Say how old both are."""
        return f"what came was {self.came}; what is there, {self.held}"

    def __str__(self) -> str:
        return f"{self.subject}: {self.why}"


def choose(
    subject: Subject, came: Files, held: Files, *, roots: Collection[str]
) -> tuple[Files, Kept | None]:
    """Return what came or, with the reason, what is held if that is the vendor's own and newer.

    `came` is checked; `held` is on nobody's word. It is checked as of the day on which it says that it was
    issued: expired, it still shows how far the vendor was. What is no vendor's, or of something else,
    outranks nothing, or whoever can write there once could keep all that follows from coming.
    """
    document = document_in(came)
    if document is None or not held.get(document):
        return came, None
    try:
        new, old = age_of(document, came[document]), age_of(document, held[document])
    except AttestationError:
        return came, None
    if not new.falls_behind(old):
        return came, None
    own = {name: held[name] for name in NAMES[subject.kind] & held.keys()}
    for files in (own, {**came, document: held[document]}):  # it may have lost its chain, or have another's
        with suppress(EndorsementError):
            check(subject, files, roots=roots, now=old.issued)
            return files, Kept(subject, old, new)
    return came, None
