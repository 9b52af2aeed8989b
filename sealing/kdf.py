"""HKDF-SHA256 (RFC 5869) as the protocol uses it. A label has one purpose."""

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from sealing.context import Mesh


def derive(secret: bytes, mesh: Mesh, label: str, *values: Any) -> bytes:
    """Return the 32-byte `KEY(secret, label, ...)` of docs/protocol.md."""
    return HKDFExpand(hashes.SHA256(), 32, mesh.ctx(label, *values)).derive(secret)


def extract(salt: bytes, material: bytes) -> bytes:
    """Return HKDF-Extract(salt, material)."""
    return HKDF.extract(hashes.SHA256(), salt, material)


def token(secret: bytes, mesh: Mesh, label: str, *values: Any) -> bytes:
    """Return the 16-byte public token that only holders of `secret` can compute."""
    return derive(secret, mesh, label, *values)[:16]


def name_token(mesh_secret: bytes, mesh: Mesh, kind: str, name: bytes) -> bytes:
    """Return the pseudonym of `name` in subjects of `kind`, for one mesh epoch."""
    return token(mesh_secret, mesh, "name", kind, name)
