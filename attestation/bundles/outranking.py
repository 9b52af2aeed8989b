"""What an earlier bundle had newer than a later one: no old list comes back by a new signature. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from attestation.bundles.dated import age_of, document_in, expires_of
from attestation.errors import AttestationError
from schemas.collateral import CollateralEntry, Entries


class Outranking(NamedTuple):
    """An entry of an earlier bundle that goes before the later one's, and until when."""

    entry: CollateralEntry
    expires: datetime


def outranking(before: Iterable[CollateralEntry], entries: Entries) -> tuple[Outranking, ...]:
    """Return what of the entries before is newer than what these say of the same, or is missing there.

    Of several of the same the first goes before the others, each of which has its turn when those before it
    have expired. Where these entries are no step back from the first, they are none from what has stood.
    Certificates don't get old. What can't be read outranks nothing: operators' tools do not sign it.
    """
    by_subject = {entry.subject: entry.files for entry in entries}
    found: list[Outranking] = []
    overtaken: set[str] = set()
    last: dict[str, datetime] = {}
    for entry in before:
        document = document_in(entry.files)
        if document is None or entry.subject in overtaken:
            continue
        data, other = entry.files[document], by_subject.get(entry.subject, {}).get(document)
        try:
            expires = expires_of(document, data)
            if other is not None and not age_of(document, other).falls_behind(age_of(document, data)):
                overtaken.add(entry.subject)
            elif entry.subject not in last or last[entry.subject] < expires:
                found.append(Outranking(entry, expires))
                last[entry.subject] = expires
        except AttestationError:
            continue
    return tuple(found)


def standing(entries: Entries, above: Sequence[Outranking], *, now: datetime) -> Entries:
    """Return the entries, each with the first that outranks it and has not expired in its place.

    To judge by what has expired is to refuse: then what operators signed since is the best there is.
    """
    by_subject = {entry.subject: entry for entry in entries}
    by_subject |= {each.entry.subject: each.entry for each in reversed(above) if now <= each.expires}
    return tuple(by_subject[subject] for subject in sorted(by_subject))
