"""What binds keys to Evidence: the one function that Attester and Verifier both use."""

import hashlib

from sealing.context import Mesh

COORDINATOR = "coordinator"
AGENT = "agent"
NO_TRANSCRIPT = bytes(32)  # the coordinator's Evidence answers hellos, before any session exists


def key_binding(
    mesh: Mesh, purpose: str, challenge: bytes, transcript: bytes, signing_key: bytes, kem_key: bytes
) -> bytes:
    """Return the 64 bytes that Evidence must carry (SNP REPORT_DATA, TDX REPORTDATA, Nitro user_data)."""
    return hashlib.sha512(
        mesh.ctx("key binding", purpose, challenge, transcript, signing_key, kem_key)
    ).digest()
