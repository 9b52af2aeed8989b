"""The one door for Evidence of every platform: parse, verify, then judge by Reference Values.

Pure and synchronous; RSA and ECDSA cost milliseconds, so services call it in a thread. A simulator's
evidence takes the same steps as a vendor's: only the policy's own word `lab` is carried through.
"""

import hmac
from datetime import datetime
from hashlib import sha256

from attestation import nitro, sev_snp, tdx
from attestation.claims import Genuine
from attestation.errors import EvidenceMalformedError, NotAcceptableError
from schemas.codec import encode
from schemas.errors import Reason, UsageError
from schemas.evidence import (
    MAX_ENDORSEMENTS,
    MAX_EVIDENCE,
    MEASURED,
    NITRO,
    TDX,
    AttestationResult,
    Endorsements,
    Evidence,
    PlatformValues,
    ReferenceValues,
    WorkloadValues,
)

KEY_BINDING_SIZE = 64
CHALLENGE_SIZE = 32

VERIFIERS = {
    sev_snp.MEDIA_TYPE: sev_snp.verify,
    tdx.MEDIA_TYPE: tdx.verify,
    nitro.MEDIA_TYPE: nitro.verify,
}


def appraise(
    evidence: Evidence,
    endorsements: Endorsements,
    reference_values: ReferenceValues,
    *,
    key_binding: bytes,
    challenge: bytes,
    now: datetime,
) -> AttestationResult:
    """Accept Evidence that is genuine at `now`, binds exactly these keys, and is what the policy names.

    Raise an `AttestationError` otherwise: `EvidenceMalformedError`, `NotGenuineError` or
    `NotAcceptableError`, in this order. That the challenge is one's own, unused and fresh is the
    caller's to know; so is whether `key_binding` covers the keys that it was sent.
    """
    if len(key_binding) != KEY_BINDING_SIZE or len(challenge) != CHALLENGE_SIZE:
        raise UsageError("a key binding has 64 bytes and a challenge 32: hand in digests, not their inputs")
    if len(evidence.value) > MAX_EVIDENCE or sum(map(len, endorsements.values())) > MAX_ENDORSEMENTS:
        raise EvidenceMalformedError("Evidence or Endorsements are too large", Reason.TOO_LARGE)
    verify = VERIFIERS.get(evidence.type)
    if verify is None:
        raise EvidenceMalformedError("no verifier for this media type", Reason.UNSUPPORTED_PLATFORM)
    genuine = verify(evidence.value, endorsements, now=now)
    return judge(genuine, reference_values, key_binding=key_binding, challenge=challenge)


def judge(
    genuine: Genuine, reference_values: ReferenceValues, *, key_binding: bytes, challenge: bytes
) -> AttestationResult:
    """Judge genuine claims by policy, where what is not named is refused.

    1. The policy names the platform.
    2. It names the root: until here any root was good.
    3. The evidence binds these keys, and on Nitro the challenge, and no other key.
    4. The guest's memory and keys are its own: not debuggable unless some matching workload is named so,
       not migratable, most privileged level.
    5. The platform's TCB is at or above every floor, its status accepted, its revocation list seen, and
       nothing about it is unsafe by itself.
    6. All measurements are those of one workload.
    7. The chip is one of that workload's.
    """
    # 1.
    values = reference_values.platforms.get(genuine.platform)
    if values is None:
        raise NotAcceptableError(Reason.PLATFORM_NOT_IN_POLICY)
    # 2.
    if genuine.root not in values.roots:
        raise NotAcceptableError(Reason.ROOT_NOT_IN_POLICY)
    # 3.
    _check_binding(genuine, key_binding, challenge)
    # 4.
    named = [each for each in reference_values.workloads if each.platform == genuine.platform]
    measured = [each for each in named if _measures(each, genuine)]
    admissible = [each for each in measured if each.debuggable or not genuine.debug]
    if genuine.debug and not admissible:
        raise NotAcceptableError(Reason.DEBUG_ENABLED)
    if genuine.migratable:
        raise NotAcceptableError(Reason.MIGRATABLE)
    if genuine.privilege != 0:
        raise NotAcceptableError(Reason.PRIVILEGE_LEVEL)
    # 5.
    _check_tcb(genuine, values)
    # 6.
    if not admissible:
        raise NotAcceptableError(Reason.MEASUREMENT_NOT_IN_POLICY, _explain(named))
    # 7. Two workloads may differ in nothing but their chips; a masked chip is none of them.
    for workload in admissible:
        if workload.chips is None or (genuine.chip and genuine.chip in workload.chips):
            return _result(genuine, values, workload)
    raise NotAcceptableError(Reason.CHIP_NOT_IN_POLICY)


def workload_id(values: WorkloadValues) -> bytes:
    """Name a workload by its platform and every measurement that the policy pins."""
    return sha256(encode([values.platform, sorted(values.measurements.items())])).digest()


def _check_binding(genuine: Genuine, key_binding: bytes, challenge: bytes) -> None:
    if genuine.platform == NITRO and not hmac.compare_digest(genuine.nonce or b"", challenge):
        raise NotAcceptableError(Reason.CHALLENGE_UNKNOWN)
    if not hmac.compare_digest(genuine.report_data, key_binding):
        raise NotAcceptableError(Reason.KEY_BINDING_MISMATCH)
    if not genuine.public_key_absent:
        raise NotAcceptableError(Reason.KEY_BINDING_MISMATCH, "the document carries a key of its own")


def _check_tcb(genuine: Genuine, values: PlatformValues) -> None:
    for component, floor in values.minimum_tcb.items():
        # A floor for a component that this platform does not have is a check that could not be made.
        if genuine.tcb.get(component, -1) < floor:
            raise NotAcceptableError(Reason.TCB_NOT_ACCEPTED, f"{component} is below its floor")
    if genuine.platform == TDX and genuine.status not in values.statuses:
        raise NotAcceptableError(Reason.TCB_NOT_ACCEPTED, "the platform's status is not accepted")
    if values.require_crl and not genuine.crl_checked:
        raise NotAcceptableError(Reason.NO_COLLATERAL, "the policy requires a revocation list")
    if genuine.warnings:
        raise NotAcceptableError(Reason.TCB_NOT_ACCEPTED, "; ".join(genuine.warnings))


def _is_complete(workload: WorkloadValues) -> bool:
    return all(workload.measurements.get(name) for name in MEASURED[workload.platform])


def _measures(workload: WorkloadValues, genuine: Genuine) -> bool:
    # Values that leave out a required measurement would match whatever has the rest: they match nothing.
    return _is_complete(workload) and all(
        genuine.measurements.get(name) == value for name, value in workload.measurements.items()
    )


def _explain(named: list[WorkloadValues]) -> str:
    if any(not _is_complete(each) for each in named):
        return "the policy's Reference Values for this platform are incomplete"
    return "no workload of the policy measures like this"


def _result(genuine: Genuine, values: PlatformValues, workload: WorkloadValues) -> AttestationResult:
    return AttestationResult(
        platform=genuine.platform,
        workload=workload.workload,
        workload_id=workload_id(workload),
        measurements=genuine.measurements,
        chip=genuine.chip,
        debug=genuine.debug,
        lab=values.lab,
        status=genuine.status,
        advisories=genuine.advisories,
    )
