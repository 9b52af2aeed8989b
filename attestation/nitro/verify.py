"""Verify that a Nitro document is genuine: signed under a chain to AWS's root. Knows no policy."""

from datetime import datetime, timedelta

from attestation import x509
from attestation.claims import Genuine
from attestation.errors import NotGenuineError
from attestation.memory import FORGETFUL, Remembers
from attestation.moments import rfc3339
from attestation.nitro.parse import Payload, parse
from schemas.errors import Reason
from schemas.evidence import NITRO, Endorsements

# The challenge is what proves freshness; how old a document may be by its module's clock is the policy's.
SIGNER_PCR = 8
MAX_SKEW = timedelta(minutes=1)


def verify(
    value: bytes, endorsements: Endorsements, *, now: datetime, memory: Remembers = FORGETFUL
) -> Genuine:
    """Verify a document, which carries its own chain; there are no other endorsements.

    1. It is a COSE_Sign1 with ES384 over the fields of an enclave's document.
    2. Its certificate chains through the bundle to a self-signed root, all valid when it says that it was
       signed, and still valid at `now`; and is one for signatures.
    3. Its signature is that certificate's key's, over the payload as received.
    4. It was signed at a time that has come, by a clock that may be a little behind the module's.
    The caller compares root, user data, nonce, PCRs, age and all else with its policy.
    """
    del endorsements
    # 1.
    document = parse(value)
    payload = document.payload
    # 2. The bundle is root first.
    encoded = (payload.certificate, *reversed(payload.cabundle))
    chain = [x509.read_certificate(each, memory) for each in encoded]
    key = x509.verify_chain(chain, now=document.timestamp, memory=memory)
    # A new certificate begins seconds before the document: who is behind by more has not seen it begin.
    # Differences, because a sum would have no date at the end of time, where anybody may sign.
    ahead = document.timestamp - now
    if not timedelta(0) <= ahead <= MAX_SKEW:
        x509.check_current(chain, now=now)
    if not (x509.key_usage(chain[0]) or 0) & x509.DIGITAL_SIGNATURE:
        raise NotGenuineError(Reason.CHAIN_INVALID, "the leaf certificate is not one for signatures")
    # 3.
    x509.verify_p384(key, document.r, document.s, document.signed)
    # 4.
    if ahead > MAX_SKEW:
        raise NotGenuineError(
            Reason.NOT_YET_VALID,
            "document is of a later time than this",
            seen=f"signed at {rfc3339(document.timestamp)}",
            wanted=f"not after {rfc3339(now)}",
        )
    return Genuine(
        platform=NITRO,
        root=chain[-1].fingerprint,
        report_data=payload.user_data or b"",
        nonce=payload.nonce,
        public_key_absent=payload.public_key is None,
        measurements={f"pcr{index}": digest.hex() for index, digest in sorted(payload.pcrs.items())},
        tcb={},
        publishers=_publishers(payload),
        time=document.timestamp,
        chip=document.instance_id,
        debug=document.debug,
    )


def _publishers(payload: Payload) -> tuple[str, ...]:
    # PCR 8 is the digest of the certificate that signed the image file; zeros mean that none did.
    signer = payload.pcrs.get(SIGNER_PCR, b"")
    return (signer.hex(),) if any(signer) else ()
