"""An Attestation Result as data: flat for programs, an EAR beside it; unsigned, being a tool's output."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from attestation.assess import Assessment
from attestation.explain import explain_failure, explain_finding, worst_first
from attestation.moments import rfc3339
from attestation.trust import Claim

PROFILE = "tag:sealbus.dev,2026:ear"


@dataclass(frozen=True, slots=True)
class Basis:
    """What evidence was judged by: when, and by whose word."""

    at: datetime
    issued: datetime  # when this result was made, whatever time was judged at
    build: str  # which version judged
    policy: str = ""  # name of the policy's file; "": the built-in one
    policy_digest: str = ""  # SHA-256 of its text
    root: str = ""  # fingerprint of a root given in place of the manufacturer's
    nonce: bytes | None = None  # that the evidence had to carry
    collateral: tuple[str, ...] = ()  # endorsements that did not lie beside the evidence

    @property
    def policy_id(self) -> str:
        """Name the policy as an EAR does."""
        digest = f"sha-256:{self.policy_digest}" if self.policy_digest else "sealbus:built-in"
        return f"{digest}, root sha-256:{self.root}" if self.root else digest

    def plain(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "at": rfc3339(self.at),
            "policy": self.policy or None,
            "policy_sha256": self.policy_digest or None,
            "root": self.root or None,
            "nonce": None if self.nonce is None else self.nonce.hex(),
            "collateral": list(self.collateral),
        }


def as_json(assessment: Assessment, platform: str, basis: Basis) -> dict[str, Any]:
    """Return an assessment as JSON data. `platform` is what the evidence was taken for."""
    claims, failure = assessment.claims, assessment.failure
    return {
        "platform": assessment.unsupported or platform,
        "judged": basis.plain(),
        "genuine": assessment.genuine,
        "status": assessment.status.value,
        "reasons": [reason.value for reason in assessment.reasons],
        "advisories": list(claims.advisories) if claims else [],
        "tcb_status": claims.status or None if claims else None,
        "measurements": dict(claims.measurements) if claims else {},
        "report_data": claims.report_data.hex() if claims else None,
        "tcb": dict(claims.tcb) if claims else {},
        "committed_tcb": dict(claims.committed_tcb) if claims else {},
        "product": claims.product or None if claims else None,
        "debug": claims.debug if claims else None,
        "service_td": claims.service_td if claims else None,
        "unstated": list(claims.unstated) if claims else [],
        "publisher": list(claims.publishers) if claims else [],
        "svn": claims.svn if claims else None,
        "chip": claims.chip or None if claims else None,
        "chip_proven": assessment.chip_is_proven if claims else None,
        "key": claims.key or None if claims else None,
        "cloud": claims.cloud or None if claims else None,
        "root": claims.root if claims else None,
        "missing": list(claims.missing) if claims else [],
        "workload": assessment.judgement.workload.workload if assessment.judgement.workload else None,
        "failure": None
        if failure is None
        else {
            "reason": failure.reason.value,
            "detail": failure.detail,
            "seen": failure.seen,
            "wanted": failure.wanted,
            "explanation": explain_failure(failure),
        },
        "findings": [
            {
                "claim": each.claim.value,
                "tier": each.tier.value,
                "reason": each.reason.value,
                "seen": each.seen,
                "wanted": each.wanted,
                "explanation": explain_finding(each),
            }
            for each in worst_first(assessment.judgement.findings)
        ],
        "ear": _ear(assessment, platform, basis),
    }


def _ear(assessment: Assessment, platform: str, basis: Basis) -> dict[str, Any]:
    """Return an EAR (draft-ietf-rats-ear), with the labels that its implementations read in JSON."""
    return {
        "eat_profile": PROFILE,
        "iat": int(basis.issued.timestamp()),
        "ear.verifier-id": {"developer": "sealbus", "build": basis.build},
        "submods": {
            assessment.unsupported or platform: {
                "ear.status": assessment.status.value,
                "ear.trustworthiness-vector": _plain(assessment.vector),
                "ear.appraisal-policy-id": basis.policy_id,
            }
        },
    }


def _plain(vector: Mapping[Claim, int]) -> dict[str, int]:
    return {claim.value: value for claim, value in vector.items()}
