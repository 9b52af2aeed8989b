"""What a PCK certificate says of its platform (Intel SGX PCK Certificate and CRL Profile, section 1.3.5).

The extension is a SEQUENCE of SEQUENCE {OID, value}. Read strictly: each item once, none missing that
the TCB evaluation needs; items that are not known here are skipped, as the profile asks.
"""

from dataclasses import dataclass

from attestation import der
from attestation.errors import EvidenceMalformedError, NotGenuineError
from attestation.x509 import Certificate
from schemas.errors import Reason

SGX_EXTENSION = "1.2.840.113741.1.13.1"
PPID = f"{SGX_EXTENSION}.1"
TCB = f"{SGX_EXTENSION}.2"
PCE_ID = f"{SGX_EXTENSION}.3"
FMSPC = f"{SGX_EXTENSION}.4"
COMPONENTS = tuple(f"{TCB}.{number}" for number in range(1, 17))
PCESVN = f"{TCB}.17"
CPUSVN = f"{TCB}.18"

MAX_ITEMS = 32  # 18 in the TCB, 7 above it


@dataclass(frozen=True, slots=True)
class PckIdentity:
    """The platform that Intel certified, and the patch level it certified it at."""

    ppid: bytes
    components: tuple[int, ...]  # 16 SGX TCB component SVNs
    pcesvn: int
    pce_id: bytes
    fmspc: bytes


def read_pck(certificate: Certificate) -> PckIdentity:
    """Read the SGX extension of a PCK certificate."""
    extension = certificate.extensions.get(SGX_EXTENSION)
    if extension is None:
        raise NotGenuineError(Reason.CHAIN_INVALID, "the quote's certificate is not a PCK")
    items = _read_items(der.read_only(extension.value, der.SEQUENCE))
    tcb = _read_items(_open(items, TCB).enter(der.SEQUENCE))
    return PckIdentity(
        ppid=_octets(items, PPID, 16),
        components=tuple(_svn(tcb, name, 0xFF) for name in COMPONENTS),
        pcesvn=_svn(tcb, PCESVN, 0xFFFF),
        pce_id=_octets(items, PCE_ID, 2),
        fmspc=_octets(items, FMSPC, 6),
    )


def _read_items(listed: der.Reader) -> dict[str, bytes]:
    items: dict[str, bytes] = {}
    while not listed.at_end():
        pair = listed.content(der.SEQUENCE)
        reader = der.Reader(pair)
        name = der.read_oid(reader)
        if name in items or len(items) == MAX_ITEMS:
            raise EvidenceMalformedError("PCK extension items are repeated or too many")
        # `read_oid` refuses OIDs of more than 32 bytes, hence the header before this one's is two.
        items[name] = pair[2 + pair[1] :]
    return items


def _open(items: dict[str, bytes], name: str) -> der.Reader:
    if name not in items:
        raise EvidenceMalformedError("PCK extension lacks an item")
    return der.Reader(items[name])


def _octets(items: dict[str, bytes], name: str, size: int) -> bytes:
    reader = _open(items, name)
    value = reader.content(der.OCTET_STRING)
    reader.finish()
    if len(value) != size:
        raise EvidenceMalformedError("PCK extension item is of another size")
    return value


def _svn(items: dict[str, bytes], name: str, limit: int) -> int:
    reader = _open(items, name)
    value = der.read_integer(reader)
    reader.finish()
    if value > limit:
        raise EvidenceMalformedError("SVN is out of range")
    return value
