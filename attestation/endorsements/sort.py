"""Endorsements that lie in folders, sorted by what each is about, so that evidence finds its own. Pure."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from attestation import amd_names
from attestation.bundles import subjects
from attestation.bundles.dated import read_dated
from attestation.bundles.subjects import Files, Subject
from attestation.endorsements.checks import NAMES, check
from attestation.endorsements.errors import EndorsementError
from attestation.errors import AttestationError, EvidenceMalformedError
from attestation.missing import refuse_without
from attestation.needs import PCK_AUTHORITIES
from attestation.sev_snp.certificate import pack_tcb, read_endorsed
from attestation.tdx import collateral
from attestation.tdx.collateral import read_chain
from attestation.x509 import read_certificate
from schemas.evidence import Endorsements

# By what a document of each kind is recognised.
_MARKS = {
    subjects.VCEK: amd_names.VCEK_FILE,
    subjects.CHAIN: amd_names.ASK_FILE,
    subjects.CRL: amd_names.CRL_FILE,
    subjects.TCB_INFO: collateral.TCB_INFO,
    subjects.QE_IDENTITY: collateral.QE_IDENTITY,
    subjects.PCK_CRL: collateral.PCK_CRL,
    subjects.ROOT_CA_CRL: collateral.ROOT_CA_CRL,
}


class Unfit(NamedTuple):
    """A document that is not for a collateral file, and why."""

    name: str
    error: AttestationError | EndorsementError


def sort(
    files: Endorsements, *, roots: Collection[str], now: datetime
) -> Iterator[tuple[Subject, Files] | Unfit]:
    """Yield each document in a folder with its subject, checked like one that is fetched."""
    for kind, mark in _MARKS.items():
        if mark not in files:
            continue
        chosen = {name: files[name] for name in NAMES[kind] & files.keys()}
        try:
            subject = Subject(kind, _of(kind, chosen))
            check(subject, chosen, roots=roots, now=now)
        except (AttestationError, EndorsementError) as error:
            yield Unfit(mark, error)
        else:
            yield subject, chosen


def _of(kind: str, files: Files) -> tuple[str, ...]:
    """Say of what a document is, by its own word."""
    if kind == subjects.VCEK:
        endorsed = read_endorsed(read_certificate(files[amd_names.VCEK_FILE]))
        chip = (endorsed.hardware_id or b"").hex()
        return endorsed.product_name, chip, pack_tcb(endorsed.tcb, endorsed.product).hex()
    if kind in (subjects.CHAIN, subjects.CRL):
        refuse_without((amd_names.ASK_FILE,), files)
        return _line(read_certificate(files[amd_names.ASK_FILE]).common_name)
    if kind == subjects.TCB_INFO:
        return (read_dated(files[collateral.TCB_INFO]).fmspc.lower(),)
    if kind == subjects.PCK_CRL:
        refuse_without((collateral.PCK_CRL_CHAIN,), files)
        name = read_chain(files[collateral.PCK_CRL_CHAIN], 2)[0].common_name
        with suppress(StopIteration):
            return (next(which for which, ending in PCK_AUTHORITIES.items() if name.endswith(ending)),)
        raise EvidenceMalformedError("its chain is of no PCK authority")
    return ()


def _line(authority: str) -> tuple[str, str]:
    # The longer beginning first: each is one of the shorter as well.
    for key, start in sorted(amd_names.AUTHORITY.items(), key=lambda each: -len(each[1])):
        if authority.startswith(start):
            return authority.removeprefix(start), key
    raise EvidenceMalformedError("its intermediate is none of AMD's")
