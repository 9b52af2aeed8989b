"""The certificate table that a host puts beside a SEV-SNP report (GHCB specification, cert_table).

Entries of 24 bytes (GUID in RFC 4122 order, offset, length, both u32 little-endian), ended by one of zeros,
then the certificates. The host wrote it, so it is bounded, and believed in nothing.
"""

import binascii
import re
import struct
from uuid import UUID

from attestation.amd_names import ARK_FILE, ASK_FILE, VCEK_FILE, VLEK_FILE
from attestation.errors import EvidenceMalformedError
from schemas.errors import Reason
from schemas.evidence import Endorsements

MAX_TABLE = 64 * 1024  # the SEV driver passes on 16 KiB; three certificates in PEM are 7
MAX_ENTRIES = 32
MAX_CERTIFICATE = 8 * 1024  # an ARK in PEM is 2.3 KiB

ENTRY = struct.Struct("<16sII")
END = bytes(ENTRY.size)

NAMES = {
    UUID("63da758d-e664-4564-adc5-f4b93be8accd"): VCEK_FILE,
    UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"): VLEK_FILE,
    UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"): ASK_FILE,  # the ASVK too, where a VLEK signed
    UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"): ARK_FILE,
}

_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----[\r\n\0]*\Z"
)
_PEM_START = b"-----BEGIN"


def read_table(table: bytes) -> Endorsements:
    """Return the certificates in DER by their conventional names, or raise `EvidenceMalformedError`.

    Entries of other GUIDs are skipped, once their bounds are checked. No bytes at all are no certificates.
    """
    if not table:
        return {}
    if len(table) > MAX_TABLE:
        raise EvidenceMalformedError("the certificate table is too large", Reason.TOO_LARGE)
    entries, directory = _entries(table)
    found: Endorsements = {}
    behind = directory
    for guid, offset, length in sorted(entries, key=lambda entry: entry[1]):
        if offset < behind or length > len(table) - offset:
            raise EvidenceMalformedError("the certificate table has entries that overlap or leave it")
        behind = offset + length
        name = NAMES.get(guid)
        if name is not None and name in found:
            raise EvidenceMalformedError("the certificate table has one kind of certificate twice")
        if name is not None:
            found[name] = _der(table[offset:behind])
    return found


def _entries(table: bytes) -> tuple[list[tuple[UUID, int, int]], int]:
    entries: list[tuple[UUID, int, int]] = []
    for index in range(MAX_ENTRIES + 1):
        raw = table[index * ENTRY.size : (index + 1) * ENTRY.size]
        if raw == END:
            return entries, (index + 1) * ENTRY.size
        if len(raw) < ENTRY.size:
            break
        guid, offset, length = ENTRY.unpack(raw)
        entries.append((UUID(bytes=guid), offset, length))
    raise EvidenceMalformedError("the certificate table has no end")


def _der(blob: bytes) -> bytes:
    if not 0 < len(blob) <= MAX_CERTIFICATE:
        raise EvidenceMalformedError("the certificate table has a certificate that is empty or too large")
    if not blob.startswith(_PEM_START):
        return blob
    armoured = _PEM.match(blob)
    if armoured is None:
        raise EvidenceMalformedError("the certificate table has PEM that is not one certificate")
    try:
        return binascii.a2b_base64(armoured[1].replace(b"\r", b"").replace(b"\n", b""), strict_mode=True)
    except binascii.Error as error:
        raise EvidenceMalformedError("the certificate table has PEM that is not base64") from error
