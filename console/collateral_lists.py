"""AMD's revocation lists that a collateral file does not hold: one may name whom those in it do not.

A root signs two lists, that of VCEKs and that of VLEKs, and neither says which it is. A file has one of each
by the intermediate beside it, so that of more, or of older ones, none goes with it unsaid.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from attestation.amd_names import CRL_FILE
from attestation.endorsements.sort import Unfit
from attestation.errors import AttestationError
from attestation.x509 import read_revocation_list, read_revoked
from schemas.collateral import Entries
from schemas.words import count

# What such a list has beyond those in the file: nothing, or names, which is no small thing to lose.
OTHER_LIST, REVOKES_MORE = "other-list", "revokes-more"


class LeftList(NamedTuple):
    """A list that is not in the file, though it was there to be packed."""

    path: Path
    reason: str
    detail: str


def lists_of(entries: Entries) -> set[bytes]:
    """Return AMD's lists among documents."""
    return {each.files[CRL_FILE] for each in entries if CRL_FILE in each.files}


def left_lists(
    seen: Iterable[tuple[Path, bytes]], packed: Entries
) -> Iterator[LeftList | tuple[Path, Unfit]]:
    """Yield each list that was seen and not packed, with whether it names others than those of its root."""
    held = lists_of(packed)
    named = {each for data in held for each in _names(data)}
    for path, data in seen:
        if data in held:
            continue
        try:
            more = len(_names(data) - named)
        except AttestationError as error:
            yield path, Unfit(path.name, error)
            continue
        if not more:
            yield LeftList(
                path,
                OTHER_LIST,
                "a file has one list of a kind of key; this one names nobody that those packed do not",
            )
        else:
            text = f"it names {count(more, 'certificate')} that no packed list of its root names"
            yield LeftList(path, REVOKES_MORE, f"{text}: keep it beside the evidence, as crl_2.der")


def _names(data: bytes) -> set[tuple[bytes, int]]:
    listing = read_revocation_list(data)
    return {(listing.issuer, serial) for serial in read_revoked(listing)}
