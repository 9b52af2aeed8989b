"""The Nitro attestation document: COSE_Sign1 (RFC 9052) over a map that AWS documents.

Fields that are not known refuse: the same PKI signs documents of other things (NitroTPM, sandboxes),
and what tells them apart is a field.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

import cbor2
import msgspec
from msgspec import Meta

from attestation.errors import EvidenceMalformedError, UnsupportedPlatformError
from attestation.nitro import cbor
from schemas.codec import convert
from schemas.errors import MalformedError, Reason

MAX_DOCUMENT = 16 * 1024  # what AWS states for a document
SIGN1_TAG = b"\xd2"  # tag 18, optional
ES384 = bytes.fromhex("a1013822")  # protected header {1: -35}; any other algorithm refuses
SIGNATURE_SIZE = 96
LAST_TIMESTAMP = 253_402_300_799_999  # year 9999 in milliseconds

# An enclave of an instance; NitroTPM and sandbox documents have other forms.
MODULE_ID = re.compile(r"(i-[0-9a-f]{8,32})-enc[0-9a-f]{8,32}")

Digest = Annotated[bytes, Meta(min_length=48, max_length=48)]
Der = Annotated[bytes, Meta(min_length=1, max_length=4096)]
MAX_NONCE = 1024
Optional1K = Annotated[bytes, Meta(max_length=MAX_NONCE)] | None


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signed map."""

    module_id: Annotated[str, Meta(max_length=128)]
    digest: Literal["SHA384"]
    timestamp: Annotated[int, Meta(ge=0, le=LAST_TIMESTAMP)]
    pcrs: Annotated[dict[Annotated[int, Meta(ge=0, le=31)], Digest], Meta(min_length=3, max_length=32)]
    certificate: Der
    cabundle: Annotated[tuple[Der, ...], Meta(min_length=1, max_length=8)]
    public_key: Optional1K = None
    user_data: Optional1K = None
    nonce: Optional1K = None


@dataclass(frozen=True, slots=True)
class Document:
    """One attestation document, not yet believed."""

    payload: Payload
    instance_id: str
    timestamp: datetime
    signed: bytes  # the COSE Sig_structure over the payload as received
    r: int
    s: int

    @property
    def debug(self) -> bool:
        """Say whether the console can be read: then the module reports zeros for PCR 0 to 2."""
        return any(not any(self.payload.pcrs[index]) for index in (0, 1, 2))


def parse(value: bytes) -> Document:
    """Read a document, or raise `EvidenceMalformedError`."""
    if len(value) > MAX_DOCUMENT:
        raise EvidenceMalformedError("Nitro document is too large", Reason.TOO_LARGE)
    # Deployed agents pass the module's reply on with a trailer of their own: it is outside the signature,
    # so it is never read. (Inside the signature everything is.)
    frame, _trailer = cbor.read_first(value.removeprefix(SIGN1_TAG))
    match frame:
        case [bytes() as protected, dict() as unprotected, bytes() as body, bytes() as signature]:
            pass
        case _:
            raise EvidenceMalformedError("Nitro document is not a COSE_Sign1")
    if protected != ES384 or unprotected or len(signature) != SIGNATURE_SIZE:
        raise EvidenceMalformedError("Nitro document is not signed with ES384", Reason.SIGNATURE_INVALID)
    payload = _payload(body)
    module = MODULE_ID.fullmatch(payload.module_id)
    if module is None:
        raise UnsupportedPlatformError("document is not of a Nitro enclave")
    return Document(
        payload=payload,
        instance_id=module[1],
        timestamp=datetime.fromtimestamp(payload.timestamp / 1000, UTC),
        # RFC 9052 section 4.4. The payload is signed as it was sent, never as we would write it.
        signed=cbor2.dumps(["Signature1", protected, b"", body]),
        r=int.from_bytes(signature[:48]),
        s=int.from_bytes(signature[48:]),
    )


def _payload(body: bytes) -> Payload:
    fields = cbor.read(body)
    if isinstance(fields, dict) and "nitrotpm_pcrs" in fields:
        raise UnsupportedPlatformError("document is of a NitroTPM", "nitrotpm")
    try:
        payload = convert(fields, Payload)
    except MalformedError as error:
        raise EvidenceMalformedError("Nitro document's fields are not those of an enclave") from error
    if not {0, 1, 2} <= payload.pcrs.keys():
        raise EvidenceMalformedError("Nitro document lacks PCR 0, 1 or 2")
    return payload
