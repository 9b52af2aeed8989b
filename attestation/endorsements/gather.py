"""What was fetched, gathered for a bundle: merged with what is there, checked before anybody signs. Pure."""

from collections.abc import Collection, Iterable
from datetime import datetime

from attestation.bundles.subjects import Subject
from attestation.endorsements.checks import check
from attestation.endorsements.errors import WrongDocumentError
from attestation.endorsements.fetcher import Fetched
from attestation.endorsements.newer import Kept, choose
from schemas.collateral import CollateralEntry, Entries
from schemas.errors import Reason


def entry_of(fetched: Fetched) -> CollateralEntry:
    """Return a document that was fetched as an entry of a collateral file."""
    when = int(fetched.fetched.timestamp())
    return CollateralEntry(subject=str(fetched.subject), files=fetched.files, fetched=when)


def merge(
    entries: Entries, came: Iterable[CollateralEntry], *, roots: Collection[str]
) -> tuple[Entries, tuple[Kept, ...]]:
    """Return the entries with those that came, but for what is older than what is there; and which are.

    An entry stays or goes whole: a document and the chain of another need not belong together.
    """
    by_subject, kept = {entry.subject: entry for entry in entries}, []
    for entry in came:
        held = by_subject.get(entry.subject)
        if held is not None:
            files, why = choose(Subject.read(entry.subject), entry.files, held.files, roots=roots)
            if why is not None:
                kept.append(why)
                entry = CollateralEntry(subject=entry.subject, files=files, fetched=held.fetched)
        by_subject[entry.subject] = entry
    return tuple(by_subject[subject] for subject in sorted(by_subject)), tuple(kept)


def check_entries(entries: Entries, *, roots: Collection[str], now: datetime) -> None:
    """Check each entry like what is fetched, before anybody signs it, or raise `WrongDocumentError`."""
    for entry in entries:
        check(Subject.read(entry.subject), entry.files, roots=roots, now=now)


def refuse_older(entries: Entries, previous: Entries, *, roots: Collection[str]) -> None:
    """Raise `WrongDocumentError` if an entry is older than the one about the same in `previous`."""
    _, older = merge(previous, entries, roots=roots)
    if older:
        raise WrongDocumentError(
            Reason.VERSION_NOT_NEWER,
            f"{len(older)} older than in the bundle before: {'; '.join(map(str, older))}",
        )
