"""Domain separation: every derivation, signature and seal names protocol, purpose, suite and mesh."""

import hashlib
from dataclasses import dataclass
from typing import Any

import cbor2

PROTOCOL = "sealbus/1 "
SUITE_GCM = 1
SUITE_GCM_SIV = 2
SUITES = (SUITE_GCM, SUITE_GCM_SIV)


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh as cryptography sees it: its id (SHA-256 of the anchor's bytes) and its one suite."""

    id: bytes
    suite: int

    def ctx(self, label: str, *values: Any) -> bytes:
        """Return `CBOR(["sealbus/1 " + label, suite, mesh, ...])`: injective, so no two uses collide."""
        return cbor2.dumps([PROTOCOL + label, self.suite, self.id, *values], canonical=True)

    def role_id(self, name: str) -> bytes:
        """Return a role's 16-byte id."""
        return hashlib.sha256(self.ctx("role", name)).digest()[:16]


def sha256(*parts: bytes) -> bytes:
    """Return the SHA-256 of the concatenation of `parts`, each of fixed length by protocol."""
    return hashlib.sha256(b"".join(parts)).digest()
