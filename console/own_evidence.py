"""Evidence of this machine over random report data, and whether a verifier would accept it."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from attestation import AttestationError, Attester, AttesterError, appraise
from attestation.appraise import CHALLENGE_SIZE, KEY_BINDING_SIZE, VERIFIERS
from schemas.errors import PeerError, Reason
from schemas.evidence import Endorsements, Evidence, ReferenceValues

# SHA-256 of the roots in DER: ARK of Milan, Genoa, Turin; Intel SGX Root CA; AWS Nitro Enclaves Root G1.
VENDOR_ROOTS = frozenset(
    {
        "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
        "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
        "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
        "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",
    }
)
STATUSES = ("", "UpToDate", "SWHardeningNeeded")  # "" where the platform knows no status

# What to do about the refusals that a machine's operator meets first.
ADVICE = {
    Reason.NO_COLLATERAL: "name a folder of collateral or certificates with --endorsements",
    Reason.DEBUG_ENABLED: "launch the machine without debug",
    Reason.MEASUREMENT_NOT_IN_POLICY: "have the operators sign what this machine measures",
    Reason.PLATFORM_NOT_IN_POLICY: "have the operators name this platform, or use another policy",
    Reason.ROOT_NOT_IN_POLICY: "use a policy that names this vendor's root",
    Reason.CHIP_NOT_IN_POLICY: "have the operators name this machine's chip",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the attempt; `reason` and `detail` say why where `accepted` is false."""

    obtained: bool
    accepted: bool
    reason: Reason | None = None
    detail: str = ""
    platform: str = ""
    workload: str = ""
    measurements: dict[str, str] = field(default_factory=dict)
    chip: str = ""
    status: str = ""

    @property
    def advice(self) -> str:
        """Return what to do next, or nothing."""
        return ADVICE.get(self.reason, "") if self.reason else ""


async def try_own_evidence(
    attester: Attester, policies: tuple[ReferenceValues, ...], *, now: datetime
) -> Verdict:
    """Take Evidence and judge it by any of the policies, or without one by what holds everywhere."""
    key_binding, challenge = secrets.token_bytes(KEY_BINDING_SIZE), secrets.token_bytes(CHALLENGE_SIZE)
    try:
        evidence, endorsements = await attester.evidence(key_binding, challenge)
    except AttesterError as error:
        return _refused(error, obtained=False)
    if not policies:
        return judge_without_policy(evidence, endorsements, now=now)
    refusals = []
    for policy in policies:
        try:
            result = appraise(
                evidence, endorsements, policy, key_binding=key_binding, challenge=challenge, now=now
            )
        except AttestationError as error:
            refusals.append(_refused(error, obtained=True))
        else:
            return Verdict(
                True,
                True,
                platform=result.platform,
                workload=result.workload,
                measurements=dict(result.measurements),
                chip=result.chip,
                status=result.status,
            )
    return refusals[0]


def judge_without_policy(evidence: Evidence, endorsements: Endorsements, *, now: datetime) -> Verdict:
    """Judge all but measurements: genuine, under a manufacturer's root, and neither debugged nor moved."""
    try:
        genuine = VERIFIERS[evidence.type](evidence.value, endorsements, now=now)
    except AttestationError as error:
        return _refused(error, obtained=True)
    findings = {
        Reason.ROOT_NOT_IN_POLICY: genuine.root not in VENDOR_ROOTS,
        Reason.DEBUG_ENABLED: genuine.debug,
        Reason.MIGRATABLE: genuine.migratable,
        Reason.TCB_NOT_ACCEPTED: genuine.status not in STATUSES,
    }
    reason = next((reason for reason, found in findings.items() if found), None)
    return Verdict(
        True,
        reason is None,
        reason,
        platform=genuine.platform,
        measurements=dict(genuine.measurements),
        chip=genuine.chip,
        status=genuine.status,
    )


def _refused(error: PeerError, *, obtained: bool) -> Verdict:
    return Verdict(obtained, False, error.reason, error.detail)
