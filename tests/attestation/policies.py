"""Genuine claims of every platform and a policy that accepts them; a test changes one part of either."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from attestation.acceptable import Judgement, judge, judge_without_workloads
from attestation.claims import Genuine
from attestation.trust import Tier
from schemas.errors import Reason
from schemas.evidence import (
    MEASURED,
    NITRO,
    SEV_SNP,
    TDX,
    PlatformValues,
    ProductValues,
    ReferenceValues,
    WorkloadValues,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROOT = "cc" * 32
CHIP = "ab" * 8
KEY = "0f" * 48  # of the publisher that signed what runs

SNP_TCB = {"boot_loader": 4, "tee": 0, "snp": 24, "microcode": 219}

_CLAIMS: dict[str, dict[str, Any]] = {
    SEV_SNP: {
        "tcb": SNP_TCB,
        "committed_tcb": SNP_TCB,
        "product": "Genoa",
        "key": "vcek",
        "chip": CHIP,
        "svn": 3,
        "features": frozenset({"ecc", "tsme"}),
    },
    TDX: {
        "tcb": {"PCESVN": 13, "TCB_EVALUATION_DATA_NUMBER": 19},
        "chip": CHIP,
        "status": "UpToDate",
        "collateral_time": NOW - timedelta(days=3),
    },
    NITRO: {"tcb": {}, "chip": "i-0123456789abcdef0", "time": NOW - timedelta(seconds=10)},
}


def genuine(platform: str, **changes: Any) -> Genuine:
    """Make claims that `policy` accepts, but for these changes."""
    claims: dict[str, Any] = {
        "platform": platform,
        "root": ROOT,
        "report_data": bytes(64),
        "measurements": dict.fromkeys(MEASURED[platform], "aa" * 48),
        "publishers": (KEY,),
    }
    return Genuine(**(claims | _CLAIMS[platform] | changes))


def workload(platform: str, name: str = "redactor", **changes: Any) -> WorkloadValues:
    """Name the workload that `genuine` is."""
    pinned = WorkloadValues(
        workload=name, platform=platform, measurements=dict.fromkeys(MEASURED[platform], "aa" * 48)
    )
    return msgspec.structs.replace(pinned, **changes)


def policy(
    platform: str, *workloads: WorkloadValues, roots: tuple[str, ...] = (ROOT,), **demands: Any
) -> ReferenceValues:
    """Make a policy that accepts `genuine`, with these demands of its platform."""
    return ReferenceValues(
        platforms={platform: PlatformValues(roots=roots, **demands)},
        workloads=workloads or (workload(platform),),
    )


def judged(claims: Genuine, values: ReferenceValues, *, now: datetime = NOW) -> Judgement:
    """Judge claims whose binding is not in question."""
    return judge(claims, values, binding=(), now=now)


def refused_for(
    claims: Genuine, values: ReferenceValues | None = None, *, now: datetime = NOW
) -> tuple[Reason, ...]:
    """Return why claims are refused, in order; none if they are accepted."""
    judgement = judged(claims, values or policy(claims.platform), now=now)
    assert (judgement.workload is not None) or judgement.refusals
    return tuple(dict.fromkeys(each.reason for each in judgement.refusals))


def warned_of(claims: Genuine, values: ReferenceValues | None = None) -> tuple[Reason, ...]:
    """Return what accepted claims are warned of."""
    judgement = judged(claims, values or policy(claims.platform))
    assert not judgement.refusals
    return judgement.warnings


def tiers(judgement: Judgement) -> dict[Reason, Tier]:
    """Return how bad each finding is."""
    return {each.reason: each.tier for each in judgement.findings}


def refused_without_workloads(claims: Genuine, values: PlatformValues) -> tuple[Reason, ...]:
    """Return why claims are refused where no workload is named."""
    judgement = judge_without_workloads(claims, values, binding=(), now=NOW)
    return tuple(each.reason for each in judgement.refusals)


def milan(**changes: Any) -> Genuine:
    """Make claims of a processor line whose keys have leaked."""
    return replace(genuine(SEV_SNP), product="Milan", advisories=("milan-vcek-extractable",), **changes)


LINES = {"Milan": ProductValues(any_chip=True), "Genoa": ProductValues(), "Turin": ProductValues()}
