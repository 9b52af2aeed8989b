"""Certificate tables as hosts lay them out (GHCB specification, cert_table)."""

from collections.abc import Mapping
from uuid import UUID

from attestation.sev_snp.table import NAMES

GUIDS = {name: guid for guid, name in NAMES.items()}


def table_of(certificates: Mapping[str, bytes], others: Mapping[str, bytes] | None = None) -> bytes:
    """Lay out certificates by their conventional names, and others by GUID."""
    blobs = [(GUIDS[name], blob) for name, blob in certificates.items()]
    blobs += [(UUID(guid), blob) for guid, blob in (others or {}).items()]
    offset = 24 * (len(blobs) + 1)
    directory = b""
    for guid, blob in blobs:
        directory += entry(guid, offset, len(blob))
        offset += len(blob)
    return directory + bytes(24) + b"".join(blob for _, blob in blobs)


def entry(guid: UUID, offset: int, length: int) -> bytes:
    """Lay out one entry."""
    return guid.bytes + offset.to_bytes(4, "little") + length.to_bytes(4, "little")
