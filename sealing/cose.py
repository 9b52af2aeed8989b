"""COSE_Sign1 (RFC 9052 section 4.2) with Ed25519, over deterministic CBOR.

Our own small module because pycose does not work with cbor2 6. Protected header {1: -8}, an empty
unprotected one, and a label of its own for each use in `external_aad`, so that no signature made for
one purpose verifies for another.
"""

from functools import lru_cache

import cbor2

from schemas import codec
from schemas.errors import MalformedError
from sealing.context import Mesh
from sealing.keys import SigningKey, verify

SIGNATURE_SIZE = 64
_PROTECTED = cbor2.dumps({1: -8}, canonical=True)  # alg: EdDSA
_HEAD = b"\x84" + cbor2.dumps(_PROTECTED) + cbor2.dumps({})  # an array of four, and its first two
_TAIL = cbor2.dumps(bytes(SIGNATURE_SIZE))[:-SIGNATURE_SIZE]  # what says how long the signature is
_AFTER = len(_TAIL) + SIGNATURE_SIZE  # bytes behind the payload


def sign(key: SigningKey, mesh: Mesh, label: str, payload: bytes, *values: bytes) -> bytes:
    """Return the protocol's `SIGN(label, values...; payload)`."""
    signature = key.sign(_to_be_signed(mesh, label, payload, *values))
    return cbor2.dumps([_PROTECTED, {}, payload, signature], canonical=True)


def sign_detached(key: SigningKey, mesh: Mesh, label: str, payload: bytes) -> bytes:
    """Return the signature alone of `SIGN(label; payload)`."""
    return key.sign(_to_be_signed(mesh, label, payload))


def check_detached(public: bytes, signature: bytes, mesh: Mesh, label: str, payload: bytes) -> None:
    """Raise `SignatureError` unless `public` made this signature of `SIGN(label; payload)`."""
    verify(public, signature, _to_be_signed(mesh, label, payload))


def open_signed(data: bytes, public: bytes, mesh: Mesh, label: str, *values: bytes) -> bytes:
    """Return the payload that `public` signed for `label` and values of it, or raise.

    `MalformedError` for what is no signed text, `SignatureError` for one by another, or for something else.
    """
    encoded, payload, signature = _parts(data)
    verify(public, signature, _start(mesh, label, *values) + encoded)
    return payload


def unverified_payload(data: bytes) -> bytes:
    """Return the payload before anything is known of its signer: only to find out whose key to ask for."""
    return _parts(data)[1]


def _parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the payload as it is encoded, the payload, and the signature.

    In the one encoding that there is all else stands fast, so it is compared and not decoded.
    """
    if data.startswith(_HEAD) and data[-_AFTER:-SIGNATURE_SIZE] == _TAIL:
        encoded = data[len(_HEAD) : -_AFTER]
        payload = codec.decode_any(encoded, "COSE_Sign1")
        if isinstance(payload, bytes):
            return encoded, payload, data[-SIGNATURE_SIZE:]
    raise MalformedError("not a COSE_Sign1 with EdDSA")


def _to_be_signed(mesh: Mesh, label: str, payload: bytes, *values: bytes) -> bytes:
    # An array of four: what one label's have in common, then the payload.
    return _start(mesh, label, *values) + cbor2.dumps(payload)


@lru_cache(maxsize=64)
def _start(mesh: Mesh, label: str, *values: bytes) -> bytes:
    parts = ("Signature1", _PROTECTED, mesh.ctx(label, *values))
    return b"\x84" + b"".join(cbor2.dumps(part, canonical=True) for part in parts)
