"""Verify that a Nitro document is genuine: signed under a chain to AWS's root, just now. Knows no policy."""

from datetime import datetime, timedelta

from attestation import x509
from attestation.claims import Genuine
from attestation.errors import NotGenuineError
from attestation.nitro.parse import parse
from schemas.errors import Reason
from schemas.evidence import NITRO, Endorsements

# The challenge is what proves freshness; these bound what a module's clock may say beside it.
MAX_AGE = timedelta(minutes=5)
MAX_SKEW = timedelta(minutes=1)


def verify(value: bytes, endorsements: Endorsements, *, now: datetime) -> Genuine:
    """Verify a document, which carries its own chain; there are no other endorsements.

    1. It is a COSE_Sign1 with ES384 over the fields of an enclave's document.
    2. Its certificate chains through the bundle to a self-signed root, all valid at `now`, and is one for
       signatures.
    3. Its signature is that certificate's key's, over the payload as received.
    4. Its time is now, within bounds.
    The caller compares root, user data, nonce, PCRs and all else with its policy.
    """
    del endorsements
    # 1.
    document = parse(value)
    payload = document.payload
    # 2. The bundle is root first.
    chain = [x509.read_certificate(each) for each in (payload.certificate, *reversed(payload.cabundle))]
    key = x509.verify_chain(chain, now=now)
    if not (x509.key_usage(chain[0]) or 0) & x509.DIGITAL_SIGNATURE:
        raise NotGenuineError(Reason.CHAIN_INVALID, "the leaf certificate is not one for signatures")
    # 3.
    x509.verify_p384(key, document.r, document.s, document.signed)
    # 4.
    if not now - MAX_AGE <= document.timestamp <= now + MAX_SKEW:
        raise NotGenuineError(Reason.EVIDENCE_TOO_OLD, "document is not of this time")
    return Genuine(
        platform=NITRO,
        root=chain[-1].fingerprint,
        report_data=payload.user_data or b"",
        nonce=payload.nonce,
        public_key_absent=payload.public_key is None,
        measurements={f"pcr{index}": digest.hex() for index, digest in sorted(payload.pcrs.items())},
        tcb={},
        chip=document.instance_id,
        debug=document.debug,
    )
