"""What was asked of a device, and whether its answer is one to that.

A verifier would refuse an answer to somebody else's question just as well. The attester looks first, because
what it sends is then for certain its own, and because who runs the machine should read the true cause.
"""

import hmac

from attestation import nitro, sev_snp, tdx
from attestation.appraise import CHALLENGE_SIZE, KEY_BINDING_SIZE
from attestation.errors import AttesterError, EvidenceMalformedError
from attestation.tdx.parse import parse_quote
from schemas.errors import Reason, UsageError
from schemas.evidence import MAX_ENDORSEMENTS, Endorsements, Evidence


def check_question(key_binding: bytes, challenge: bytes) -> None:
    """Raise `UsageError` where somebody asks with anything but digests."""
    if len(key_binding) != KEY_BINDING_SIZE or len(challenge) != CHALLENGE_SIZE:
        raise UsageError("a key binding has 64 bytes and a challenge 32: hand in digests")


def check_answer(
    evidence: Evidence, endorsements: Endorsements, *, key_binding: bytes, challenge: bytes
) -> None:
    """Raise `AttesterError` unless Evidence binds what was asked, and the challenge where it has room."""
    if sum(map(len, endorsements.values())) > MAX_ENDORSEMENTS:
        raise AttesterError(Reason.TOO_LARGE, "the device's endorsements are too large")
    try:
        bound, nonce = _bound(evidence)
    except EvidenceMalformedError as error:
        raise AttesterError(error.reason, f"the device's answer is no evidence: {error.detail}") from error
    if not hmac.compare_digest(bound, key_binding):
        raise AttesterError(Reason.KEY_BINDING_MISMATCH, "the device answered another's question")
    if nonce is not None and not hmac.compare_digest(nonce, challenge):
        raise AttesterError(Reason.CHALLENGE_UNKNOWN, "the device answered another's challenge")


def _bound(evidence: Evidence) -> tuple[bytes, bytes | None]:
    if evidence.type == sev_snp.MEDIA_TYPE:
        return sev_snp.parse(evidence.value).report_data, None
    if evidence.type == tdx.MEDIA_TYPE:
        return parse_quote(evidence.value).report.report_data, None
    payload = nitro.parse(evidence.value).payload
    return payload.user_data or b"", payload.nonce or b""
