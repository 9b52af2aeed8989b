"""What was fetched, gathered for a bundle: merged with what is there, checked before anybody signs. Pure."""

from collections.abc import Collection, Iterable
from datetime import datetime

from attestation.endorsements.checks import check
from attestation.endorsements.fetcher import Fetched
from attestation.subjects import Subject
from schemas.collateral import CollateralEntry, Entries


def merge(entries: Entries, fetched: Iterable[Fetched]) -> Entries:
    """Return the entries with these documents added, or put in place of older ones of the same subject."""
    by_subject = {entry.subject: entry for entry in entries}
    for each in fetched:
        subject = str(each.subject)
        when = int(each.fetched.timestamp())
        by_subject[subject] = CollateralEntry(subject=subject, files=each.files, fetched=when)
    return tuple(by_subject[subject] for subject in sorted(by_subject))


def check_entries(entries: Entries, *, roots: Collection[str], now: datetime) -> None:
    """Check each entry like what is fetched, before anybody signs it, or raise `WrongDocumentError`."""
    for entry in entries:
        check(Subject.read(entry.subject), entry.files, roots=roots, now=now)
