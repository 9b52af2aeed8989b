"""An operator's key at rest: an Ed25519 seed under a passphrase (Argon2id, XChaCha20-Poly1305).

Pure: bytes in, bytes out. Name and public key stand in the clear, authenticated with the seed: whose file
it is can be seen without the passphrase, and not be changed.
"""

from typing import Annotated

import msgspec
from msgspec import Meta
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import Aead

from schemas import codec
from schemas.codec import Document
from schemas.errors import UsageError
from schemas.messages import Name
from sealing.keys import SigningKey

FORMAT = "sealbus operator key 1"
SALT_SIZE = argon2id.SALTBYTES
NONCE_SIZE = Aead.NONCE_SIZE
SHORTEST = 12  # characters; below it, guessing is cheaper than any key derivation makes it dear

# libsodium's "moderate": under a second and 256 MiB for each guess.
OPERATIONS, MEMORY = argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE
# A file can't make its reader work for minutes or run out of memory.
_MOST_OPERATIONS, _MOST_MEMORY = 16, 1024**3


class KeyFileError(UsageError):
    """A key file that can't be read, or not with this passphrase."""


def _hex(size: int) -> Meta:
    return Meta(pattern=f"^[0-9a-f]{{{2 * size}}}\\Z")


class _KeyFile(Document, frozen=True, kw_only=True):
    format: str
    name: Name
    public: Annotated[str, _hex(32)]
    operations: Annotated[int, Meta(ge=1, le=_MOST_OPERATIONS)]
    memory: Annotated[int, Meta(ge=argon2id.MEMLIMIT_MIN, le=_MOST_MEMORY)]
    salt: Annotated[str, _hex(SALT_SIZE)]
    nonce: Annotated[str, _hex(NONCE_SIZE)]
    sealed: Annotated[str, _hex(48)]  # seed and tag

    def opened_by(self, passphrase: str) -> Aead:
        """Return the box under this file's salt and costs."""
        salt = bytes.fromhex(self.salt)
        key = argon2id.kdf(
            Aead.KEY_SIZE, passphrase.encode(), salt, opslimit=self.operations, memlimit=self.memory
        )
        return Aead(key)

    def clear(self) -> bytes:
        """Return what is authenticated beside the seed: all that stands in the clear."""
        return codec.encode(msgspec.structs.replace(self, sealed="00" * 48))


def lock(
    name: str,
    seed: bytes,
    passphrase: str,
    *,
    salt: bytes,
    nonce: bytes,
    operations: int = OPERATIONS,
    memory: int = MEMORY,
) -> bytes:
    """Return the key file of a seed of 32 bytes; raise `KeyFileError` for a passphrase that is too short."""
    if len(passphrase) < SHORTEST:
        raise KeyFileError(f"the passphrase has under {SHORTEST} characters: choose a longer one")
    blank = _KeyFile(
        format=FORMAT,
        name=name,
        public=SigningKey(seed).public.hex(),
        operations=operations,
        memory=memory,
        salt=salt.hex(),
        nonce=nonce.hex(),
        sealed="00" * 48,
    )
    sealed = blank.opened_by(passphrase).encrypt(seed, blank.clear(), nonce).ciphertext
    whole = msgspec.structs.replace(blank, sealed=sealed.hex())
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def owner(data: bytes) -> tuple[str, bytes]:
    """Return whose key file it says it is, and the public key: not authentic before it is unlocked."""
    file = _read(data)
    return file.name, bytes.fromhex(file.public)


def unlock(data: bytes, passphrase: str) -> SigningKey:
    """Return the key of a key file, or raise `KeyFileError`."""
    file = _read(data)
    try:
        seed = file.opened_by(passphrase).decrypt(
            bytes.fromhex(file.sealed), file.clear(), bytes.fromhex(file.nonce)
        )
    except CryptoError as error:
        raise KeyFileError(
            f"the passphrase does not open the key of {file.name}: try again; if it is the right one, the "
            "file was changed, so take a copy"
        ) from error
    return SigningKey(seed)


def _read(data: bytes) -> _KeyFile:
    try:
        file = msgspec.json.decode(data, type=_KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeyFileError("not an operator's key file: name the one that `policy keygen` wrote") from error
    if file.format != FORMAT:
        raise KeyFileError("a key file of another version of sealbus: use that version")
    return file
