"""A cloud's key in place of a chip's: the VLEK of a simulated AMD, and the authority that issues it."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import der
from attestation.x509 import PSS_PADDING, PSS_SHA384
from lab.simulate import certificates
from lab.simulate.sev_snp import PRODUCT, TCB, SevSnpChip
from schemas.evidence import Endorsements

CLOUD = "hsm.cloud.example"
SIGNED_BY_VLEK = {0x048: b"\x04"}  # SIGNING_KEY of a report's key information

_AMD = "1.3.6.1.4.1.3704.1"
_SPLS = (("3.1", 0), ("3.2", 1), ("3.4", 2), ("3.5", 3), ("3.6", 4), ("3.7", 5), ("3.3", 6), ("3.8", 7))
_CSP_ID = f"{_AMD}.5"


def ia5(text: str) -> bytes:
    """Encode CSP_ID as AMD does."""
    return der.item(der.IA5_STRING, text.encode())


def cloud_chain(
    amd: Mapping[str, bytes], chip: SevSnpChip, *, born: datetime, csp_id: bytes | None = None
) -> Endorsements:
    """Return what stands in the place of `vcek.der` and `ask.der` where the chip's key is a cloud's.

    `csp_id` is the value of that extension, b"" to leave it out.
    """
    issuer_key = certificates.load_rsa_key(amd, "ask.pem")
    issuer = certificates.make_ca(
        f"SEV-VLEK-{PRODUCT}",
        issuer_key,
        serial=0x20001,
        not_before=born,
        lifetime=timedelta(days=900),
        path_length=0,
        issuer=(certificates.load_certificate(amd, "ark.der"), certificates.load_rsa_key(amd, "ark.pem")),
    )
    csp_id = ia5(CLOUD) if csp_id is None else csp_id
    extensions = [
        (f"{_AMD}.1", der.integer(0)),
        (f"{_AMD}.2", der.item(der.IA5_STRING, PRODUCT.encode())),
        *((f"{_AMD}.{suffix}", der.integer(TCB[position])) for suffix, position in _SPLS),
        *([(_CSP_ID, csp_id)] if csp_id else []),
    ]
    body = der.item(
        der.SEQUENCE,
        der.item(der.context(0), der.integer(2)),
        der.integer(0),
        PSS_SHA384,
        issuer.subject.public_bytes(),
        der.item(der.SEQUENCE, der.time(born), der.time(born + timedelta(days=365))),
        certificates.distinguished_name("SEV-VLEK").public_bytes(),
        chip.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        der.item(
            der.context(3),
            der.item(
                der.SEQUENCE,
                *(
                    der.item(der.SEQUENCE, der.oid(name), der.item(der.OCTET_STRING, value))
                    for name, value in extensions
                ),
            ),
        ),
    )
    signature = issuer_key.sign(body, PSS_PADDING, SHA384())
    vlek = der.item(der.SEQUENCE, body, PSS_SHA384, der.bits(signature))
    return {"vlek.der": vlek, "ask.der": certificates.der(issuer)}
