"""One check for every kind of endorsement: what fails it is not cached, bundled or signed. Pure."""

from collections.abc import Callable, Collection
from datetime import datetime

from attestation import amd_names
from attestation.bundles import subjects
from attestation.bundles.subjects import Files, Subject, Validity
from attestation.endorsements import amd, intel
from attestation.endorsements.errors import judged
from attestation.errors import EvidenceMalformedError
from attestation.tdx import collateral

Check = Callable[[tuple[str, ...], Files, Collection[str], datetime], Validity]

_CHECKS: dict[str, Check] = {
    subjects.VCEK: amd.check_vcek,
    subjects.CHAIN: amd.check_chain,
    subjects.CRL: amd.check_crl,
    subjects.TCB_INFO: intel.check_tcb_info,
    subjects.QE_IDENTITY: intel.check_qe_identity,
    subjects.PCK_CRL: intel.check_pck_crl,
    subjects.ROOT_CA_CRL: intel.check_root_ca_crl,
}

# No file more than the check looks at: another one would come along unchecked, under a name of its choice.
NAMES: dict[str, frozenset[str]] = {
    subjects.VCEK: frozenset({amd_names.VCEK_FILE, amd_names.ASK_FILE, amd_names.ARK_FILE}),
    subjects.CHAIN: frozenset({amd_names.ASK_FILE, amd_names.ARK_FILE}),
    subjects.CRL: frozenset({amd_names.CRL_FILE, amd_names.ASK_FILE, amd_names.ARK_FILE}),
    subjects.TCB_INFO: frozenset({collateral.TCB_INFO, collateral.TCB_INFO_CHAIN}),
    subjects.QE_IDENTITY: frozenset({collateral.QE_IDENTITY, collateral.QE_IDENTITY_CHAIN}),
    subjects.PCK_CRL: frozenset({collateral.PCK_CRL, collateral.PCK_CRL_CHAIN}),
    subjects.ROOT_CA_CRL: frozenset({collateral.ROOT_CA_CRL, collateral.PCK_CRL_CHAIN}),
}


def check(subject: Subject, files: Files, *, roots: Collection[str], now: datetime) -> Validity:
    """Check that `files` are what `subject` names, at `now` and under `roots` (SHA-256 of DER, hexadecimal).

    Raises `WrongDocumentError`. Verification of evidence repeats all of it and trusts none of it: this only
    keeps what is of no use from being stored, and tells what is wrong while somebody is there to read it.
    """
    with judged(str(subject)):
        if not files.keys() <= NAMES[subject.kind]:
            raise EvidenceMalformedError("there are files beside it that are no part of it")
        return _CHECKS[subject.kind](subject.of, files, roots, now)
