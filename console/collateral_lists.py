"""AMD's revocation lists that a collateral file does not hold: one may name whom those in it do not.

A root signs two lists, that of VCEKs and that of VLEKs, and neither says which it is. A file has one of each
by the intermediate beside it, so that of more, or of older ones, none goes with it unsaid. Like verification
this goes by lists that a root signed, expired ones too: what anybody else wrote names nobody.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from attestation.amd_names import ARK_FILE, CRL_FILE
from attestation.endorsements.authority import check_listing, check_root
from attestation.endorsements.sort import Unfit
from attestation.errors import AttestationError, NotGenuineError
from attestation.x509 import Certificate, read_certificate, read_revocation_list, read_revoked
from schemas.collateral import Entries
from schemas.errors import Reason
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


def authorities_in(folders: Iterable[Mapping[str, bytes]]) -> tuple[Certificate, ...]:
    """Return the roots among endorsements, on nobody's word; what is no certificate is told elsewhere."""
    found: dict[str, Certificate] = {}
    for files in folders:
        with suppress(AttestationError):
            if ARK_FILE in files:
                authority = read_certificate(files[ARK_FILE])
                found[authority.fingerprint] = authority
    return tuple(found.values())


def left_lists(
    seen: Iterable[tuple[Path, bytes]],
    packed: Entries,
    authorities: Collection[Certificate],
    *,
    roots: Collection[str],
) -> Iterator[LeftList | tuple[Path, Unfit]]:
    """Yield each list that was seen and not packed, with whether it names others than those of its root.

    One that is signed by none of the `authorities` that are `roots` is unfit, whomever it names.
    """
    held = lists_of(packed)
    named: set[tuple[str, int]] = set()
    for data in held:
        with suppress(AttestationError):
            named |= _names(data, authorities, roots)
    for path, data in seen:
        if data in held:
            continue
        try:
            more = len(_names(data, authorities, roots) - named)
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


def _names(data: bytes, authorities: Collection[Certificate], roots: Collection[str]) -> set[tuple[str, int]]:
    listing = read_revocation_list(data)
    signers: list[Certificate] = []
    for authority in authorities:
        with suppress(AttestationError):
            check_listing(listing, authority, listing.this_update)
            signers.append(authority)
    if not signers:
        raise NotGenuineError(Reason.SIGNATURE_INVALID, "CRL is not signed by a root that is there")
    # Two roots may have one name, and whoever copies a root's key into another certificate is not that root.
    root = next((each for each in signers if each.fingerprint in roots), signers[0])
    check_root(root, roots)
    return {(root.fingerprint, serial) for serial in read_revoked(listing)}
