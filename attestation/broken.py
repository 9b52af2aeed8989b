"""Which endorsement can't be read: verifiers are given bytes, a person mends files."""

from attestation.errors import AttestationError
from attestation.missing import CODES
from attestation.tdx.collateral import check_form
from attestation.x509 import read_certificate, read_revocation_list, read_revoked
from schemas.evidence import Endorsements


def broken(endorsements: Endorsements, problem: str) -> str:
    """Name the first endorsement that has this very `problem`, "" if none has. Empty ones are absent."""
    for name in CODES:
        data = endorsements.get(name)
        if data:
            try:
                _read(name, data)
            except AttestationError as error:
                if error.detail == problem:
                    return name
    return ""


def _read(name: str, data: bytes) -> None:
    if name.endswith("crl.der"):
        read_revoked(read_revocation_list(data))
    elif name.endswith(".der"):
        read_certificate(data)
    else:
        check_form(name, data)
