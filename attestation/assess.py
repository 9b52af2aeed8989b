"""An Attestation Result for people and programs, in the shape of EAR: what was found, good or bad.

Unlike the door (`appraise`), which accepts or raises, this tells all: it is what the tool prints.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from attestation.acceptable import Judgement, judge, judge_nonce, judge_root, judge_without_workloads
from attestation.appraise import VERIFIERS, verify
from attestation.broken import broken
from attestation.claims import Genuine
from attestation.errors import AttestationError, EvidenceMalformedError, UnsupportedPlatformError
from attestation.hints import Hint
from attestation.missing import hint_of
from attestation.trust import Claim, Tier, Value, of_failure, status_of, vector_of
from attestation.vendors import built_in_for
from schemas.errors import Reason
from schemas.evidence import Endorsements, Evidence, PlatformValues, ReferenceValues
from schemas.toml_place import printable

_UNREADABLE = (Reason.MALFORMED, Reason.TOO_LARGE, Reason.UNSUPPORTED_VERSION)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What was found: `claims` of evidence that verified, else `failure`; the judgement if it was judged."""

    genuine: bool  # signatures and chain hold to a root that the policy names
    vector: dict[Claim, int]
    judgement: Judgement
    claims: Genuine | None = None
    failure: AttestationError | None = None

    @property
    def status(self) -> Tier:
        """Return the worst tier of the vector."""
        return status_of(self.vector)

    @property
    def accepted(self) -> bool:
        """Say whether nothing refuses the evidence."""
        return self.failure is None and self.status is not Tier.CONTRAINDICATED

    @property
    def readable(self) -> bool:
        """Say whether the bytes are evidence at all: of some platform, and of a version that is known."""
        failure = self.failure
        return not isinstance(failure, EvidenceMalformedError) or failure.reason not in _UNREADABLE

    @property
    def unsupported(self) -> str:
        """Name the platform if it is none that is judged, "unknown" if the bytes don't tell; else ""."""
        failure = self.failure
        return failure.platform or "unknown" if isinstance(failure, UnsupportedPlatformError) else ""

    @property
    def chip_is_proven(self) -> bool:
        """Say whether more than the evidence's own word vouches for the chip."""
        return self.genuine and self.claims is not None and self.claims.chip_is_proven

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Return why the evidence is refused, most important first; then what it was warned of."""
        if self.failure is not None:
            return (self.failure.reason, *self.failure.also)
        found = (*(each.reason for each in self.judgement.refusals), *self.judgement.warnings)
        return tuple(dict.fromkeys(found))


def assess(
    evidence: Evidence,
    endorsements: Endorsements,
    *,
    now: datetime,
    root: str | None = None,
    nonce: bytes | None = None,
) -> Assessment:
    """Assess evidence by the built-in policy: all but measurements, under the manufacturer's root or `root`.

    `nonce` is compared if it is given: on Nitro with the document's, elsewhere with the report data.
    """
    claims = _verified(evidence, endorsements, now)
    if isinstance(claims, AttestationError):
        return _failed(claims)
    values = built_in_for(claims.platform, root)
    binding = () if nonce is None else judge_nonce(claims, nonce)
    judgement = judge_without_workloads(claims, values, binding=binding, now=now)
    vector = vector_of(judgement.findings)
    if vector[Claim.EXECUTABLES] == Value.AFFIRMED:
        # Nobody said which code is good, so nothing is said of it.
        vector[Claim.EXECUTABLES] = int(Value.NONE)
    return _assessed(_has_root(claims, values), vector, judgement, claims)


def assess_by_policy(
    evidence: Evidence,
    endorsements: Endorsements,
    reference_values: ReferenceValues,
    *,
    now: datetime,
    nonce: bytes | None = None,
) -> Assessment:
    """Assess evidence by an operator's policy, except that the keys it binds are nobody's to compare here."""
    claims = _verified(evidence, endorsements, now)
    if isinstance(claims, AttestationError):
        return _failed(claims)
    binding = () if nonce is None else judge_nonce(claims, nonce)
    judgement = judge(claims, reference_values, binding=binding, now=now)
    values = reference_values.platforms.get(claims.platform)
    if values is None:
        # The policy has no word on this platform, so of nothing but that is anything said.
        vector = dict.fromkeys(Claim, int(Value.NONE)) | {
            Claim.INSTANCE_IDENTITY: int(Value.INSTANCE_UNKNOWN)
        }
        return _assessed(_is_genuine(claims, None), vector, judgement, claims)
    return _assessed(_is_genuine(claims, values), vector_of(judgement.findings), judgement, claims)


def hinted(assessment: Assessment, reason: Reason, hint: Hint) -> Assessment:
    """Return an assessment that tells more of this reason, wherever it has no more to tell yet."""
    failure, judgement = assessment.failure, assessment.judgement
    if failure is not None and failure.reason is reason and failure.hint is None:
        failure.hint = hint
    findings = tuple(
        replace(each, hint=hint) if each.reason is reason and each.hint is None else each
        for each in judgement.findings
    )
    return replace(assessment, judgement=replace(judgement, findings=findings))


def _assessed(genuine: bool, vector: dict[Claim, int], judgement: Judgement, claims: Genuine) -> Assessment:
    if genuine:
        return Assessment(True, vector, judgement, claims)
    # A chain that ends in nobody's root proves nothing: whoever made it wrote all that the evidence says.
    return Assessment(False, of_failure(), Judgement(judgement.findings), claims)


def _verified(evidence: Evidence, endorsements: Endorsements, now: datetime) -> Genuine | AttestationError:
    try:
        return verify(evidence, endorsements, now=now)
    except UnsupportedPlatformError as failure:
        if evidence.type in VERIFIERS:
            return failure
        # The door repeats nothing of a stranger's; a person has to see what it is.
        wanted = f"one of {', '.join(VERIFIERS)}"
        return UnsupportedPlatformError(failure.detail, seen=printable(evidence.type), wanted=wanted)
    except EvidenceMalformedError as failure:
        # The verifier knows bytes; a person mends files. At the door nobody reads a stranger's bytes twice.
        name = broken(endorsements, failure.detail)
        if not name:
            return failure
        named = EvidenceMalformedError(f"{name}: {failure.detail}", failure.reason)
        named.hint = hint_of(name)
        return named
    except AttestationError as failure:
        return failure


def _failed(failure: AttestationError) -> Assessment:
    return Assessment(False, of_failure(), Judgement(()), failure=failure)


def _is_genuine(claims: Genuine, values: PlatformValues | None) -> bool:
    # Up to a manufacturer's root, whatever the policy makes of it, or to one that only the policy names.
    held = (built_in_for(claims.platform, None), values)
    return any(each is not None and _has_root(claims, each) for each in held)


def _has_root(claims: Genuine, values: PlatformValues) -> bool:
    return not any(judge_root(claims, values))
