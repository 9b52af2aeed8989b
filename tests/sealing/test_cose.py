"""COSE_Sign1 as RFC 9052 says, with a label that makes each use its own."""

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import MalformedError
from sealing import cose
from sealing.context import Mesh
from sealing.errors import SignatureError
from tests.sealing.world import ALICE, BOB, MESH, OTHER_MESH, SIV_MESH, flipped

PUBLIC = ALICE.signing.public
SIGNED = cose.sign(ALICE.signing, MESH, "view", b"payload")
PROTECTED = bytes.fromhex("a10127")  # {1: -8}, EdDSA


def test_the_signature_is_over_the_rfcs_structure() -> None:
    protected, unprotected, payload, signature = cbor2.loads(SIGNED)
    assert (protected, unprotected, payload) == (PROTECTED, {}, b"payload")
    # RFC 9052 section 4.4: context, protected header, external_aad, payload; ours names label, suite, mesh.
    external = b"".join((b"\x83", b"\x6esealbus/1 view", b"\x01", b"\x58\x20", MESH.id))
    to_be_signed = (b"\x84", b"\x6aSignature1", b"\x43", PROTECTED, b"\x58", bytes([len(external)]), external)
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(signature, b"".join((*to_be_signed, b"\x47payload")))


def test_what_was_signed_comes_back() -> None:
    assert cose.open_signed(SIGNED, PUBLIC, MESH, "view") == b"payload"
    assert cose.unverified_payload(SIGNED) == b"payload"


@pytest.mark.parametrize(
    ("public", "mesh", "label"),
    [
        (BOB.signing.public, MESH, "view"),
        (PUBLIC, OTHER_MESH, "view"),
        (PUBLIC, SIV_MESH, "view"),
        (PUBLIC, MESH, "beacon"),
        (PUBLIC, MESH, "vie"),
        (PUBLIC, MESH, ""),
        (PUBLIC, Mesh(MESH.id, 0), "view"),
        (PUBLIC[:-1], MESH, "view"),
    ],
    ids=["key", "mesh", "suite", "label", "shorter label", "no label", "suite 0", "no key"],
)
def test_another_key_mesh_suite_or_label_refuses(public: bytes, mesh: Mesh, label: str) -> None:
    with pytest.raises(SignatureError):
        cose.open_signed(SIGNED, public, mesh, label)


def encoded(*parts: object) -> bytes:
    return cbor2.dumps(list(parts))


SIGNATURE = SIGNED[-64:]
OTHER_FORMS = {
    "with the COSE tag": b"\xd2" + SIGNED,
    "with a trailing byte": SIGNED + b"\x00",
    "cut short": SIGNED[:-1],
    "of indefinite length": b"\x9f" + SIGNED[1:] + b"\xff",
    "with a long length": SIGNED.replace(b"\x47payload", b"\x58\x07payload"),
    "with five parts": encoded(PROTECTED, {}, b"payload", SIGNATURE, None),
    "with three parts": encoded(PROTECTED, b"payload", SIGNATURE),
    "with an unprotected header": encoded(PROTECTED, {4: b"kid"}, b"payload", SIGNATURE),
    "with no protected header": encoded(b"", {}, b"payload", SIGNATURE),
    "with another algorithm": encoded(bytes.fromhex("a10126"), {}, b"payload", SIGNATURE),
    "with a header more": encoded(bytes.fromhex("a20127044100"), {}, b"payload", SIGNATURE),
    "with a detached payload": encoded(PROTECTED, {}, None, SIGNATURE),
    "with a text for a payload": encoded(PROTECTED, {}, "payload", SIGNATURE),
    "with a short signature": encoded(PROTECTED, {}, b"payload", SIGNATURE[:-1]),
    "with a long signature": encoded(PROTECTED, {}, b"payload", SIGNATURE + b"\x00"),
    "as a map": cbor2.dumps({0: PROTECTED}),
    "as nothing": b"",
}


@pytest.mark.parametrize("data", OTHER_FORMS.values(), ids=OTHER_FORMS.keys())
def test_every_other_form_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        cose.open_signed(data, PUBLIC, MESH, "view")
    with pytest.raises(MalformedError):
        cose.unverified_payload(data)


@settings(max_examples=200)
@given(st.integers(0, len(SIGNED) * 8 - 1))
def test_one_bit_changed_anywhere_refuses(bit: int) -> None:
    with pytest.raises((MalformedError, SignatureError)):
        cose.open_signed(flipped(SIGNED, bit), PUBLIC, MESH, "view")


@given(st.binary(max_size=120))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises((MalformedError, SignatureError)):
        cose.open_signed(data, PUBLIC, MESH, "view")
