"""The standards' own vectors against what the protocol stands on. Each file says where it is from."""

import json
from typing import Any

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.errors import MalformedError
from sealing import cose
from sealing.context import Mesh
from sealing.errors import SignatureError
from sealing.keys import SigningKey, verify
from tests.vectors import independent
from tests.vectors.world import PUBLISHED, Kem, published

XWING = published("xwing.json")
HPKE_XWING = published("hpke_xwing.json")
RFC9180 = published("rfc9180.json")
SIGN1 = {vector["name"].split("/")[1]: vector for vector in published("cose_sign1.json")}

KEMS = {0x20: hpke.KEM.X25519, 0x10: hpke.KEM.P256, 0x12: hpke.KEM.P521, 0x647A: hpke.KEM.MLKEM768_X25519}
CURVES: dict[int, ec.EllipticCurve] = {0x10: ec.SECP256R1(), 0x12: ec.SECP521R1()}
KDFS = {1: hpke.KDF.HKDF_SHA256, 3: hpke.KDF.HKDF_SHA512, 0x11: hpke.KDF.SHAKE256}
AEADS = {1: hpke.AEAD.AES_128_GCM, 2: hpke.AEAD.AES_256_GCM, 3: hpke.AEAD.CHACHA20_POLY1305}


def raw(vector: dict[str, Any]) -> dict[str, Any]:
    return {name: bytes.fromhex(each) if isinstance(each, str) else each for name, each in vector.items()}


def named(vector: dict[str, Any]) -> str:
    return f"{vector['kem_id']:#x}-{vector['kdf_id']}-{vector['aead_id']}"


def private_key(kem: int, secret: bytes) -> Any:
    if kem == 0x20:
        return X25519PrivateKey.from_private_bytes(secret)
    if kem in CURVES:
        return ec.derive_private_key(int.from_bytes(secret, "big"), CURVES[kem])
    mlkem, x25519, _ = independent.kem_parts(secret)
    return hpke.MLKEM768X25519PrivateKey(mlkem, x25519)


@pytest.mark.parametrize("vector", RFC9180 + HPKE_XWING, ids=named)
def test_hpke_opens_what_the_standard_sealed(vector: dict[str, Any]) -> None:
    given = raw(vector)
    suite = hpke.Suite(KEMS[given["kem_id"]], KDFS[given["kdf_id"]], AEADS[given["aead_id"]])
    key, sealed = private_key(given["kem_id"], given["skRm"]), given["enc"] + given["ct"]
    # The public functions take no AAD, and every vector has one. Only this test may use the private one.
    opened = openssl.hpke._decrypt_with_aad(suite, sealed, key, given["info"], given["aad"])
    assert opened == given["pt"]
    for aad, info in ((given["aad"] + b"x", given["info"]), (given["aad"], given["info"] + b"x")):
        with pytest.raises(InvalidTag):
            openssl.hpke._decrypt_with_aad(suite, sealed, key, info, aad)


def test_the_suites_are_all_that_both_the_standard_and_the_library_have() -> None:
    assert {(v["kem_id"], v["kdf_id"], v["aead_id"]) for v in RFC9180} == {
        (kem, kdf, aead) for kem in (0x20, 0x10, 0x12) for kdf in (1, 3) for aead in (1, 2, 3)
    }
    assert {v["kem_id"] for v in HPKE_XWING} == {0x647A}


@pytest.mark.parametrize("number", range(3))
def test_x_wing_is_the_drafts(number: int) -> None:
    given = raw(XWING[number])
    kem = Kem(XWING[number]["seed"], XWING[number]["ct"], XWING[number]["eseed"])
    assert kem.public == given["pk"]
    assert kem.shared_secret() == given["ss"]
    # The X25519 half of the encapsulation; `cryptography` cannot repeat the half of ML-KEM.
    share = X25519PrivateKey.from_private_bytes(given["eseed"][32:]).public_key().public_bytes_raw()
    assert share == given["ct"][1088:]
    # What the library's HPKE makes of the same key and encapsulation is what the key schedule says.
    assert kem.open(kem.seal(b"message", b"info"), b"info")


@pytest.mark.parametrize("vector", HPKE_XWING, ids=named)
def test_x_wing_within_hpke_is_the_drafts(vector: dict[str, Any]) -> None:
    given = raw(vector)
    kem = Kem(vector["skRm"], vector["enc"], vector["ikmE"])
    assert (kem.public, kem.shared_secret()) == (given["pkRm"], given["shared_secret"])


def test_a_key_of_this_project_is_an_x_wing_key() -> None:
    mlkem, x25519, public = independent.kem_parts(bytes.fromhex(XWING[0]["seed"]))
    assert isinstance(mlkem, MLKEM768PrivateKey)
    assert public == mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    assert public.hex() == XWING[0]["pk"]


# COSE_Sign1


class Outside(Mesh):
    """A context that is the `external_aad` of somebody else's vector, to see our Sig_structure over it."""

    def ctx(self, label: str, *values: Any) -> bytes:
        return bytes.fromhex(label)


def parts(vector: dict[str, Any]) -> list[Any]:
    tagged = cbor2.loads(bytes.fromhex(vector["cbor"]))
    found: list[Any] = tagged.value if isinstance(tagged, cbor2.CBORTag) else tagged
    return found


def structure(vector: dict[str, Any]) -> bytes:
    protected, _, payload, _ = parts(vector)
    # RFC 9052 section 4.4: a protected header that is empty is signed as an empty byte string.
    header = b"" if protected == b"\xa0" else protected
    return cbor2.dumps(["Signature1", header, bytes.fromhex(vector["external"]), payload], canonical=True)


def holds(vector: dict[str, Any]) -> bool:
    key, signature, signed = bytes.fromhex(vector["key"]), parts(vector)[3], structure(vector)
    try:
        match vector["algorithm"]:
            case "Ed25519":
                verify(key, signature, signed)
            case "Ed448":
                ed448.Ed448PublicKey.from_public_bytes(key).verify(signature, signed)
            case _:
                r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
                public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
                public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, SignatureError):
        return False
    return True


@pytest.mark.parametrize("vector", SIGN1.values(), ids=SIGN1)
def test_a_signature_is_over_the_sig_structure_of_the_standard(vector: dict[str, Any]) -> None:
    assert holds(vector) is vector["valid"]
    if vector["valid"] and vector["to_be_signed"]:
        assert structure(vector) == bytes.fromhex(vector["to_be_signed"])


def test_our_sig_structure_is_the_standards_to_the_byte() -> None:
    vector = SIGN1["eddsa-sig-02"]  # the one with exactly our protected header
    ours = cose._to_be_signed(Outside(b"", 1), vector["external"], b"This is the content.")
    assert ours == bytes.fromhex(vector["to_be_signed"])
    outside = SIGN1["sign-pass-02"]["to_be_signed"].lower().replace("43a10126", "43a10127")
    ours = cose._to_be_signed(Outside(b"", 1), SIGN1["sign-pass-02"]["external"], b"This is the content.")
    assert ours.hex() == outside


def test_our_key_makes_the_standards_signature() -> None:
    vector = SIGN1["eddsa-sig-01"]
    key = SigningKey(bytes.fromhex(vector["private"]))
    assert key.public.hex() == vector["key"]
    assert key.sign(structure(vector)) == parts(vector)[3]


@pytest.mark.parametrize("vector", SIGN1.values(), ids=SIGN1)
def test_every_other_profile_of_cose_sign1_is_malformed_here(vector: dict[str, Any]) -> None:
    # Tagged, with another algorithm, with more headers: section 1.2 of docs/protocol.md has one form.
    for data in (bytes.fromhex(vector["cbor"]), cbor2.dumps(parts(vector), canonical=True)):
        with pytest.raises(MalformedError):
            cose.open_signed(data, bytes.fromhex(vector["key"]), Mesh(bytes(32), 1), "view")


@pytest.mark.parametrize("file", sorted(PUBLISHED.iterdir()), ids=lambda file: file.name)
def test_every_published_file_says_where_it_is_from(file: Any) -> None:
    assert json.loads(file.read_text("utf-8"))["source"]
