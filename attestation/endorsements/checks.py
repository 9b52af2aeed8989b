"""One check for every kind of endorsement: what fails it is not cached, bundled or signed. Pure."""

from collections.abc import Callable, Collection
from datetime import datetime

from attestation.endorsements import amd, intel, subjects
from attestation.endorsements.errors import judged
from attestation.endorsements.subjects import Files, Subject, Validity

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


def check(subject: Subject, files: Files, *, roots: Collection[str], now: datetime) -> Validity:
    """Check that `files` are what `subject` names, at `now` and under `roots` (SHA-256 of DER, hexadecimal).

    Raises `WrongDocumentError`. Verification of evidence repeats all of it and trusts none of it: this only
    keeps what is of no use from being stored, and tells what is wrong while somebody is there to read it.
    """
    with judged(str(subject)):
        return _CHECKS[subject.kind](subject.of, files, roots, now)
