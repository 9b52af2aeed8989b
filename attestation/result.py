"""An Attestation Result as data: flat for programs, an EAR beside it; unsigned, being a tool's output."""

from collections.abc import Mapping
from typing import Any

from attestation.assess import Assessment
from attestation.explain import explain_failure, explain_finding
from attestation.trust import Claim

PROFILE = "tag:sealbus.dev,2026:ear"


def as_json(assessment: Assessment, platform: str) -> dict[str, Any]:
    """Return an assessment as JSON data. `platform` is what the evidence was taken for."""
    claims, failure = assessment.claims, assessment.failure
    return {
        "platform": assessment.unsupported or platform,
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
        "root": claims.root if claims else None,
        "missing": list(claims.missing) if claims else [],
        "workload": assessment.judgement.workload.workload if assessment.judgement.workload else None,
        "failure": None
        if failure is None
        else {
            "reason": failure.reason.value,
            "detail": failure.detail,
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
            for each in assessment.judgement.findings
        ],
        "ear": {
            "eat_profile": PROFILE,
            "ear.status": assessment.status.value,
            "ear.trustworthiness-vector": _plain(assessment.vector),
        },
    }


def _plain(vector: Mapping[Claim, int]) -> dict[str, int]:
    return {claim.value: value for claim, value in vector.items()}
