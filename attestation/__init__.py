"""Why a peer is trusted: Evidence of SEV-SNP, TDX and Nitro, verified and appraised behind one door."""

from attestation.appraise import appraise, workload_id
from attestation.attesters.attester import Attester, DescriptorAttester, Machine
from attestation.errors import (
    AttestationError,
    AttesterError,
    EvidenceMalformedError,
    NotAcceptableError,
    NotGenuineError,
)
from attestation.memory import Memory
from attestation.own_keys import report_own_keys

__all__ = [
    "AttestationError",
    "Attester",
    "AttesterError",
    "DescriptorAttester",
    "EvidenceMalformedError",
    "Machine",
    "Memory",
    "NotAcceptableError",
    "NotGenuineError",
    "appraise",
    "report_own_keys",
    "workload_id",
]
