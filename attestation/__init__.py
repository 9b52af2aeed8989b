"""Why a peer is trusted: Evidence of SEV-SNP, TDX and Nitro, verified and appraised behind one door."""

from attestation.appraise import appraise, workload_id
from attestation.attester import Attester, DescriptorAttester
from attestation.errors import (
    AttestationError,
    AttesterError,
    EvidenceMalformedError,
    NotAcceptableError,
    NotGenuineError,
)

__all__ = [
    "AttestationError",
    "Attester",
    "AttesterError",
    "DescriptorAttester",
    "EvidenceMalformedError",
    "NotAcceptableError",
    "NotGenuineError",
    "appraise",
    "workload_id",
]
