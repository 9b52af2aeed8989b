"""Two parties back to back, without a bus: what one returns, the other is handed."""

import hashlib
import os
from dataclasses import dataclass

import cbor2
from nacl import bindings

from schemas.messages import Accept, Init, MemberPackage
from sealing import cose
from sealing.context import SUITE_GCM, SUITE_GCM_SIV, Mesh
from sealing.keys import PartyKeys, SigningKey
from sealing.session import OpenedInit, Peer, PendingSession, Session, accept_init, open_init

MESH = Mesh(b"\x01" * 32, SUITE_GCM)
OTHER_MESH = Mesh(b"\x02" * 32, SUITE_GCM)
SIV_MESH = Mesh(b"\x01" * 32, SUITE_GCM_SIV)

ALICE, BOB, MALLORY = PartyKeys(), PartyKeys(), PartyKeys()


def peer(keys: PartyKeys) -> Peer:
    return Peer(keys.instance, keys.signing.public)


def pending(
    responder: PartyKeys = BOB,
    *,
    mesh: Mesh = MESH,
    initiator: PartyKeys = ALICE,
    session_id: bytes | None = None,
) -> PendingSession:
    return PendingSession(
        mesh,
        initiator,
        responder=peer(responder),
        responder_kem=responder.kem.public,
        credential=b"credential of the initiator",
        context=bytes(32),
        secret=os.urandom(32),
        session_id=session_id or os.urandom(8),
    )


def opened(
    wire: bytes, *, mesh: Mesh = MESH, responder: PartyKeys = BOB, initiator: PartyKeys = ALICE
) -> OpenedInit:
    return open_init(mesh, responder, wire, lambda _: peer(initiator))


def answer(
    init: OpenedInit, *, mesh: Mesh = MESH, responder: PartyKeys = BOB, session_id: bytes | None = None
) -> tuple[bytes, Session]:
    return accept_init(
        mesh,
        responder,
        init,
        credential=b"credential of the responder",
        state=None,
        secret=os.urandom(32),
        session_id=session_id or os.urandom(8),
    )


def anyone(_: Accept | Init) -> None:
    """Judge nothing: what is judged is not what these tests are about."""


@dataclass
class Pair:
    """An established, unconfirmed session's two ends, and the flights that made it."""

    initiator: Session
    responder: Session
    init: bytes
    accept: bytes

    def confirm(self) -> "Pair":
        self.responder.open(self.initiator.seal(b""))
        return self


def pair(*, mesh: Mesh = MESH, ids: tuple[bytes, bytes] | None = None) -> Pair:
    own, theirs = ids or (os.urandom(8), os.urandom(8))
    asked = pending(mesh=mesh, session_id=own)
    wire, responder = answer(opened(asked.wire, mesh=mesh), mesh=mesh, session_id=theirs)
    return Pair(asked.accept(wire, anyone), responder, asked.wire, wire)


def package(group: str = "redactor", epoch: int = 7, secret: bytes | None = None) -> MemberPackage:
    return MemberPackage(group, epoch, secret or os.urandom(32), 100, 200, 300)


def flipped(data: bytes, bit: int) -> bytes:
    """Return `data` with one bit turned over."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def signed_anew(key: SigningKey, mesh: Mesh, label: str, text: bytes) -> bytes:
    """Sign as RFC 8032 does, with a nonce that is drawn: each time another good signature."""
    (seed,) = key.secrets()
    scalar = bytearray(hashlib.sha512(seed).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    secret = bindings.crypto_core_ed25519_scalar_reduce(bytes(scalar) + bytes(32))
    nonce = bindings.crypto_core_ed25519_scalar_reduce(os.urandom(64))
    point = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    signed = cose._to_be_signed(mesh, label, text)
    challenge = hashlib.sha512(point + key.public + signed).digest()
    product = bindings.crypto_core_ed25519_scalar_mul(
        bindings.crypto_core_ed25519_scalar_reduce(challenge), secret
    )
    made = point + bindings.crypto_core_ed25519_scalar_add(nonce, product)
    return cbor2.dumps([cose._PROTECTED, {}, text, made], canonical=True)
