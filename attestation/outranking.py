"""What an earlier bundle had newer than a later one: no old list comes back by a new signature. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from attestation.dated import age_of, document_in, expires_of
from attestation.errors import AttestationError
from schemas.collateral import CollateralEntry, Entries


class Outranking(NamedTuple):
    """An entry of an earlier bundle that goes before the later one's, and until when."""

    entry: CollateralEntry
    expires: datetime


def outranking(before: Iterable[CollateralEntry], entries: Entries) -> tuple[Outranking, ...]:
    """Return what of the entries before is newer than what these say of the same, or is missing there.

    Certificates don't get old. What can't be read outranks nothing: operators' tools do not sign it.
    """
    by_subject = {entry.subject: entry.files for entry in entries}
    found = []
    for entry in before:
        document = document_in(entry.files)
        if document is None:
            continue
        data, other = entry.files[document], by_subject.get(entry.subject, {}).get(document)
        try:
            if other is None or age_of(document, other).falls_behind(age_of(document, data)):
                found.append(Outranking(entry, expires_of(document, data)))
        except AttestationError:
            continue
    return tuple(found)


def standing(entries: Entries, above: Iterable[Outranking], *, now: datetime) -> Entries:
    """Return the entries with those that outrank them in their place, as long as these have not expired.

    To judge by what has expired is to refuse: then what operators signed since is the best there is.
    """
    by_subject = {entry.subject: entry for entry in entries}
    by_subject |= {each.entry.subject: each.entry for each in above if now <= each.expires}
    return tuple(by_subject[subject] for subject in sorted(by_subject))
