"""The one door for Evidence of every platform: parse, verify, then judge by Reference Values.

Pure and synchronous; RSA and ECDSA cost milliseconds, so services call it in a thread. A simulator's
evidence takes the same steps as a vendor's: only which kind of root the policy names is carried through.
"""

from datetime import datetime
from hashlib import sha256

from attestation import nitro, sev_snp, tdx
from attestation.acceptable import Judgement, judge, judge_binding
from attestation.claims import Genuine
from attestation.errors import EvidenceMalformedError, NotAcceptableError, UnsupportedPlatformError
from attestation.memory import FORGETFUL, Memory, Remembers
from schemas.codec import encode
from schemas.errors import Reason, UsageError
from schemas.evidence import (
    MAX_ENDORSEMENTS,
    MAX_EVIDENCE,
    AttestationResult,
    Endorsements,
    Evidence,
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
    memory: Memory | None = None,
) -> AttestationResult:
    """Accept Evidence that is genuine at `now`, binds exactly these keys, and is what the policy names.

    Raise an `AttestationError` otherwise: `EvidenceMalformedError`, `NotGenuineError` or
    `NotAcceptableError`, in this order. That the challenge is one's own, unused and fresh is the
    caller's to know; so is whether `key_binding` covers the keys that it was sent.
    """
    if len(key_binding) != KEY_BINDING_SIZE or len(challenge) != CHALLENGE_SIZE:
        raise UsageError("a key binding has 64 bytes and a challenge 32: hand in digests, not their inputs")
    trial = None if memory is None else memory.trial()
    genuine = verify(evidence, endorsements, now=now, memory=trial or FORGETFUL)
    binding = judge_binding(genuine, key_binding, challenge)
    judgement = judge(genuine, reference_values, binding=binding, now=now)
    result = accepted(genuine, judgement, reference_values)
    if trial is not None:
        trial.keep()
    return result


def verify(
    evidence: Evidence, endorsements: Endorsements, *, now: datetime, memory: Remembers = FORGETFUL
) -> Genuine:
    """Verify Evidence of any platform by its media type; raise an `AttestationError` if it is not genuine."""
    if len(evidence.value) > MAX_EVIDENCE or sum(map(len, endorsements.values())) > MAX_ENDORSEMENTS:
        raise EvidenceMalformedError("Evidence or Endorsements are too large", Reason.TOO_LARGE)
    verifier = VERIFIERS.get(evidence.type)
    if verifier is None:
        raise UnsupportedPlatformError("no verifier for this media type")
    return verifier(evidence.value, endorsements, now=now, memory=memory)


def accepted(genuine: Genuine, judgement: Judgement, reference_values: ReferenceValues) -> AttestationResult:
    """Return the result of a judgement that refuses nothing, or raise `NotAcceptableError`."""
    if judgement.refusals or judgement.workload is None:
        first, *others = judgement.refusals
        detail = f"{first.seen}; the policy wants {first.wanted}" if first.wanted else first.seen
        also = tuple(dict.fromkeys(each.reason for each in others if each.reason is not first.reason))
        raise NotAcceptableError(first.reason, detail, also)
    workload = judgement.workload
    return AttestationResult(
        platform=genuine.platform,
        workload=workload.workload,
        workload_id=workload_id(workload),
        measurements=genuine.measurements,
        chip=genuine.chip,
        debug=genuine.debug,
        lab=genuine.root in reference_values.platforms[genuine.platform].lab_roots,
        status=genuine.status,
        advisories=genuine.advisories,
        warnings=tuple(judgement.warnings),
    )


def workload_id(values: WorkloadValues) -> bytes:
    """Name a workload by its platform, every measurement that the policy pins, and its publisher."""
    named: list[object] = [values.platform, sorted(values.measurements.items())]
    if values.publisher is not None:
        named.append([values.publisher.key, values.publisher.minimum_svn])
    return sha256(encode(named)).digest()
