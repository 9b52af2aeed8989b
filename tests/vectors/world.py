"""The fixed values that the vectors are made from: seeds, keys, and one example of every body."""

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from sealing.keys import KemKey, PartyKeys, SigningKey, instance
from sealing.padding import pad

PUBLISHED = Path(__file__).with_name("published")
TIME = 1_790_000_000_000  # a moment of September 2026, in milliseconds


def fixed(name: str, size: int = 32) -> bytes:
    """Return the bytes of this name: different for each, the same for ever."""
    return HKDFExpand(hashes.SHA256(), size, name.encode()).derive(b"sealbus test vectors, version 1.")


def published(name: str) -> list[dict[str, Any]]:
    """Return the vectors of one published file."""
    vectors: list[dict[str, Any]] = json.loads((PUBLISHED / name).read_text("utf-8"))["vectors"]
    return vectors


class Kem(KemKey):
    """A KEM key from the 32-byte seed of the X-Wing draft, with the one encapsulation to it that is used.

    `cryptography` cannot encapsulate by given randomness, and a vector that changes each time it is made
    cannot be compared. So key and encapsulation are those of published vectors; everything after the
    KEM is made here for them, and the real `open` must take it.
    """

    def __init__(self, seed: str, enc: str, eseed: str) -> None:
        super().__init__()
        self.seed, self.enc, self.eseed = bytes.fromhex(seed), bytes.fromhex(enc), bytes.fromhex(eseed)
        shake = hashes.Hash(hashes.SHAKE256(96))
        shake.update(self.seed)
        expanded = shake.finalize()
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        self._parts = mlkem, x25519
        self._key = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    def shared_secret(self) -> bytes:
        """Return the X-Wing shared secret of the encapsulation."""
        assert self._parts is not None
        mlkem, x25519 = self._parts
        share = self.enc[1088:]
        combined = hashes.Hash(hashes.SHA3_256())
        combined.update(mlkem.decapsulate(self.enc[:1088]))
        combined.update(x25519.exchange(X25519PublicKey.from_public_bytes(share)))
        combined.update(share + self.public[1184:] + bytes.fromhex("5c2e2f2f5e5c"))
        return combined.finalize()

    def schedule(self, info: bytes) -> tuple[bytes, bytes]:
        """Return key and base nonce of HPKE (RFC 9180 section 5.1, base mode) for `info`."""
        prefix = b"HPKE-v1" + b"HPKE" + bytes.fromhex("647a00010002")
        extract, sha = HKDF.extract, hashes.SHA256()
        context = b"\x00" + extract(sha, None, prefix + b"psk_id_hash")
        context += extract(sha, None, prefix + b"info_hash" + info)
        secret = extract(sha, self.shared_secret(), prefix + b"secret")
        key = HKDFExpand(sha, 32, b"\x00\x20" + prefix + b"key" + context).derive(secret)
        return key, HKDFExpand(sha, 12, b"\x00\x0c" + prefix + b"base_nonce" + context).derive(secret)

    def seal(self, message: bytes, info: bytes) -> bytes:
        """Return SEAL to this key by its one encapsulation, and see that `open` takes it."""
        key, nonce = self.schedule(info)
        sealed = self.enc + AESGCM(key).encrypt(nonce, pad(message), None)
        assert self.open(sealed, info) == pad(message)
        return sealed


def _kems() -> list[Kem]:
    drafts = [Kem(v["seed"], v["ct"], v["eseed"]) for v in published("xwing.json")]
    return drafts + [Kem(v["skRm"], v["enc"], v["ikmE"]) for v in published("hpke_xwing.json")]


KEMS = {kem.public: kem for kem in _kems()}
COORDINATOR_KEM, FIRST_EPHEMERAL, AGENT_KEM, PEER_KEM, SECOND_EPHEMERAL = KEMS.values()


class Party(PartyKeys):
    """A party whose keys are fixed."""

    def __init__(self, name: str, kem: Kem, *, client: bool = False) -> None:
        super().__init__(SigningKey(fixed(f"{name} signs")), client=client)
        self.kem: Kem = kem
        if not client:
            self.instance = instance(self.signing.public, kem.public)
        self.given = {
            "signing_seed": fixed(f"{name} signs"),
            "kem_seed": kem.seed,
            "client": client,
        }
