"""Keys: what one signs or opens, no other does, and none shows itself."""

import hashlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing import kdf
from sealing.binding import AGENT, COORDINATOR, NO_TRANSCRIPT, key_binding
from sealing.errors import NotAuthenticError, SignatureError
from sealing.keys import KemKey, PartyKeys, SigningKey, client_instance, instance, seal_to, verify
from tests.sealing.world import ALICE, BOB, MESH, OTHER_MESH, SIV_MESH, flipped

KEM = KemKey()
SEALED = seal_to(KEM.public, b"plaintext", b"info")
ENCAPSULATED = 1120  # ML-KEM-768 ciphertext 1088, X25519 share 32


def test_a_signature_is_one_keys_over_one_message() -> None:
    key, other = SigningKey(), SigningKey()
    signature = key.sign(b"message")
    verify(key.public, signature, b"message")
    for public, signed, message in (
        (other.public, signature, b"message"),
        (key.public, signature, b"messagf"),
        (key.public, other.sign(b"message"), b"message"),
        (key.public, bytes(64), b"message"),
        # Not even of the right length
        (key.public, signature[:-1], b"message"),
        (key.public, signature + b"\x00", b"message"),
        (key.public, b"", b"message"),
        (key.public[:-1], signature, b"message"),
        (b"", signature, b"message"),
        # Points of small order verify anything in some libraries
        (bytes(32), signature, b"message"),
        (b"\x01" + bytes(31), b"\x01" + bytes(63), b"message"),
    ):
        with pytest.raises(SignatureError):
            verify(public, signed, message)


@settings(max_examples=50)
@given(st.integers(0, 511))
def test_a_signature_with_one_bit_changed_refuses(bit: int) -> None:
    signature = ALICE.signing.sign(b"message")
    with pytest.raises(SignatureError):
        verify(ALICE.signing.public, flipped(signature, bit), b"message")


def test_a_seed_is_the_ed25519_key_of_every_library() -> None:
    seed = os.urandom(32)
    theirs = Ed25519PrivateKey.from_private_bytes(seed)
    ours = SigningKey(seed)
    assert ours.public == theirs.public_key().public_bytes_raw()
    assert ours.sign(b"m") == theirs.sign(b"m")
    # An empty seed is a mistake, not a wish for a random key.
    for wrong in (b"", seed[:-1]):
        with pytest.raises(ValueError, match="32 bytes"):
            SigningKey(wrong)


def test_what_is_sealed_opens_by_its_key_for_its_purpose_alone() -> None:
    assert KEM.open(SEALED, b"info") == b"plaintext"
    for key, info in ((KEM, b"inf"), (KEM, b""), (KemKey(), b"info")):
        with pytest.raises(NotAuthenticError):
            key.open(SEALED, info)


@pytest.mark.parametrize("size", [0, 1, 1087, 1088, ENCAPSULATED, ENCAPSULATED + 15, len(SEALED) - 1])
def test_a_truncated_seal_refuses(size: int) -> None:
    with pytest.raises(NotAuthenticError):
        KEM.open(SEALED[:size], b"info")


@settings(max_examples=60)
@given(st.integers(0, len(SEALED) * 8 - 1))
def test_a_seal_with_one_bit_changed_refuses(bit: int) -> None:
    with pytest.raises(NotAuthenticError):
        KEM.open(flipped(SEALED, bit), b"info")


@settings(max_examples=60)
@given(st.binary(max_size=1_300))
def test_any_bytes_are_not_a_seal(data: bytes) -> None:
    with pytest.raises(NotAuthenticError):
        KEM.open(data, b"info")


def test_a_share_of_low_order_refuses_on_both_sides() -> None:
    with pytest.raises(NotAuthenticError):
        seal_to(KEM.public[:1184] + bytes(32), b"plaintext", b"info")
    with pytest.raises(NotAuthenticError):
        KEM.open(SEALED[:1088] + bytes(32) + SEALED[ENCAPSULATED:], b"info")


@pytest.mark.parametrize("public", [b"", KEM.public[:-1], KEM.public + b"\x00", b"\xff" * 1216])
def test_what_is_no_key_is_sealed_to_by_nobody(public: bytes) -> None:
    with pytest.raises(NotAuthenticError, match="X-Wing"):
        seal_to(public, b"plaintext", b"info")


def test_two_seals_of_one_plaintext_differ() -> None:
    assert seal_to(KEM.public, b"m", b"i") != seal_to(KEM.public, b"m", b"i")


def test_an_instance_is_its_keys_and_a_client_its_signing_key() -> None:
    assert ALICE.instance == instance(ALICE.signing.public, ALICE.kem.public)
    # CBOR by hand: an array of two byte strings.
    encoded = b"\x82\x58\x20" + ALICE.signing.public + b"\x59\x04\xc0" + ALICE.kem.public
    assert ALICE.instance == hashlib.sha256(encoded).digest()
    signing = SigningKey()
    one, restarted = PartyKeys(signing, client=True), PartyKeys(signing, client=True)
    assert one.instance == restarted.instance == client_instance(signing.public)
    assert one.kem.public != restarted.kem.public
    assert PartyKeys(signing).instance != PartyKeys(signing).instance


def test_evidence_binds_every_one_of_mesh_purpose_challenge_transcript_and_keys() -> None:
    signing, kem = ALICE.signing.public, ALICE.kem.public
    challenge, transcript = bytes(32), b"\x01" * 32
    bindings = [
        key_binding(MESH, AGENT, challenge, transcript, signing, kem),
        key_binding(OTHER_MESH, AGENT, challenge, transcript, signing, kem),
        key_binding(SIV_MESH, AGENT, challenge, transcript, signing, kem),
        key_binding(MESH, COORDINATOR, challenge, transcript, signing, kem),
        key_binding(MESH, AGENT, transcript, transcript, signing, kem),
        key_binding(MESH, AGENT, challenge, NO_TRANSCRIPT, signing, kem),
        key_binding(MESH, AGENT, challenge, transcript, BOB.signing.public, kem),
        key_binding(MESH, AGENT, challenge, transcript, signing, BOB.kem.public),
        key_binding(MESH, AGENT, transcript, challenge, signing, kem),
    ]
    assert len(set(bindings)) == len(bindings)
    assert {len(binding) for binding in bindings} == {64}
    assert bindings[0] == key_binding(MESH, AGENT, challenge, transcript, signing, kem)


def test_a_derivation_is_of_one_label_mesh_suite_and_list_of_values() -> None:
    secret = bytes(32)
    derived = [
        kdf.derive(secret, MESH, "reply", b"ab", b"c"),
        kdf.derive(secret, MESH, "reply", b"a", b"bc"),
        kdf.derive(secret, MESH, "reply", b"abc"),
        kdf.derive(secret, MESH, "reply", b"abc", b""),
        kdf.derive(secret, MESH, "reply", "abc"),
        kdf.derive(secret, MESH, "result", b"abc"),
        kdf.derive(secret, OTHER_MESH, "reply", b"abc"),
        kdf.derive(secret, SIV_MESH, "reply", b"abc"),
        kdf.derive(b"\x01" * 32, MESH, "reply", b"abc"),
    ]
    assert len(set(derived)) == len(derived)


def test_role_ids_differ_by_name_and_mesh() -> None:
    assert len({MESH.role_id("a"), MESH.role_id("b"), OTHER_MESH.role_id("a"), SIV_MESH.role_id("a")}) == 4


def test_no_key_shows_in_a_repr() -> None:
    seed = os.urandom(32)
    shown = repr(SigningKey(seed)) + repr(KEM) + repr(PartyKeys(SigningKey(seed)))
    assert seed.hex() not in shown
    assert repr(seed)[2:-1] not in shown
