"""What a person asks of stored endorsements: whose, how old, until when. Pure; believes nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from attestation.bundles.dated import read_dated
from attestation.errors import AttestationError
from attestation.missing import CODES
from attestation.sev_snp.certificate import HARDWARE_ID
from attestation.tdx.collateral import read_chain
from attestation.x509 import read_certificate, read_revocation_list, read_revoked
from schemas.toml_place import printable


@dataclass(frozen=True, slots=True)
class Fact:
    """One stored document; `issued` and `expires` are None where it can't be read, and `problem` says why."""

    name: str
    subject: str
    issued: datetime | None
    expires: datetime | None
    problem: str = ""


def facts_of(files: Mapping[str, bytes]) -> Iterator[Fact]:
    """Yield a fact of each file that verification would take, in the order in which it takes them."""
    for name in CODES:
        if name in files:
            try:
                yield _fact(name, files[name])
            except AttestationError as error:
                yield Fact(name, "unreadable", None, None, error.detail)


def _fact(name: str, data: bytes) -> Fact:
    if name.endswith("crl.der"):
        listing = read_revocation_list(data)
        return Fact(name, f"{len(read_revoked(listing))} revoked", listing.this_update, listing.next_update)
    if name.endswith(".der"):
        certificate = read_certificate(data)
        hardware = certificate.extensions.get(HARDWARE_ID)
        # As many digits as tell chips apart, and a table can hold.
        chip = f", chip {hardware.value.hex()[:16]}" if hardware is not None else ""
        subject = certificate.common_name + chip
        return Fact(name, subject, certificate.not_before, certificate.not_after)
    if name.endswith(".pem"):
        chain = read_chain(data, 2)
        issued, expires = max(c.not_before for c in chain), min(c.not_after for c in chain)
        return Fact(name, chain[0].common_name, issued, expires)
    dated = read_dated(data)
    of = printable(f"{dated.id} {dated.fmspc.lower()}".strip())
    subject = f"{of}, evaluation {dated.tcb_evaluation_data_number}"
    return Fact(name, subject, dated.issue_date, dated.next_update)
