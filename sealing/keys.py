"""The keys of enclaves, clients and operators: Ed25519 for signing, X-Wing for HPKE.

Private keys are made here, stay in these objects, never show in a repr and die with a fork.
"""

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import SigningKey as _NaclSigningKey
from nacl.signing import VerifyKey

from schemas import codec
from sealing.context import Mesh, sha256
from sealing.erasure import erase_on_fork
from sealing.errors import NotAuthenticError, SignatureError
from sealing.padding import pad

_MLKEM_PUBLIC = 1184
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class SigningKey:
    """An Ed25519 private key."""

    def __init__(self, seed: bytes | None = None) -> None:
        self._key: _NaclSigningKey | None = (
            _NaclSigningKey.generate() if seed is None else _NaclSigningKey(seed)
        )
        self.public = bytes(self._key.verify_key)
        erase_on_fork(self)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        if self._key is None:
            raise RuntimeError("this process was forked: its keys are erased")
        return self._key.sign(message).signature

    def erase(self) -> None:
        """Drop the key."""
        self._key = None

    def secrets(self) -> tuple[bytes, ...]:
        """Return the seed, for `sealing.erasure.held_secrets`."""
        return (self._key.encode(),) if self._key is not None else ()

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Check an Ed25519 signature, or raise `SignatureError`."""
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, CryptoError, ValueError) as error:
        raise SignatureError from error


def can_be_a_key(public: bytes) -> bool:
    """Tell whether somebody can have this Ed25519 key: a point of the main subgroup, in its one form.

    `verify` refuses signatures of others anyway, so whoever is named by one could never sign.
    """
    return crypto_core_ed25519_is_valid_point(public)


class KemKey:
    """An X-Wing (ML-KEM-768 + X25519) private key for HPKE base mode (RFC 9180)."""

    def __init__(self) -> None:
        mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        self._parts: tuple[MLKEM768PrivateKey, X25519PrivateKey] | None = mlkem, x25519
        self.public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        self._key: hpke.MLKEM768X25519PrivateKey | None = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        erase_on_fork(self)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Open what was sealed to this key for `info`, or raise `NotAuthenticError`."""
        if self._key is None:
            raise RuntimeError("this process was forked: its keys are erased")
        try:
            return _SUITE.decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError) as error:
            raise NotAuthenticError("hpke") from error

    def erase(self) -> None:
        """Drop the key."""
        self._key = self._parts = None

    def secrets(self) -> tuple[bytes, ...]:
        """Return the private parts, for `sealing.erasure.held_secrets`."""
        return tuple(part.private_bytes_raw() for part in self._parts or ())

    def __repr__(self) -> str:
        return f"KemKey(public={self.public[:8].hex()}...)"


def seal_to(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal `plaintext` to an X-Wing key for `info` (HPKE single shot), or raise `NotAuthenticError`."""
    try:
        key = hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC]),
            X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC:]),
        )
        return _SUITE.encrypt(plaintext, key, info)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotAuthenticError("not an X-Wing public key") from error


class PartyKeys:
    """What one process is known by: its signing key, its KEM key, and the instance id over both."""

    def __init__(self, signing: SigningKey | None = None, *, client: bool = False) -> None:
        self.signing = signing or SigningKey()
        self.kem = KemKey()
        self.instance = (
            client_instance(self.signing.public) if client else instance(self.signing.public, self.kem.public)
        )


def instance(signing_public: bytes, kem_public: bytes) -> bytes:
    """Return the id of the enclave instance that holds these keys."""
    return sha256(codec.encode([signing_public, kem_public]))


def client_instance(signing_public: bytes) -> bytes:
    """Return the id of the client that holds this key."""
    return sha256(codec.encode(["client", signing_public]))


def seal_signed(mesh: Mesh, public: bytes, signed: bytes, label: str, *values: object) -> bytes:
    """Return the protocol's `SEAL(pk, label, ...; m)`: HPKE of the padded message."""
    return seal_to(public, pad(signed), mesh.ctx(label, *values))
