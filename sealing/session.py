"""Sessions between two parties: three flights, then counted frames (docs/protocol.md section 2).

    I -> R  init     HPKE to R's attested key of I's signature over both instances and roles, an
                     ephemeral key and a secret
    R -> I  accept   HPKE to the ephemeral key of R's signature over the hash of init as sent, both
                     instances and a second secret
    I -> R  frame    confirms; before it opens, R delivers and sends nothing

Pure: the caller judges credentials, roles, beacons and time, and moves the bytes.
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas import codec
from schemas.errors import Reason
from schemas.limits import MAX_HANDSHAKE, MAX_MESSAGE, SESSION_MAX_BYTES, SESSION_MAX_FRAMES, SESSION_WINDOW
from schemas.messages import Accept, Init
from schemas.subjects import Kind, subject
from sealing import cose
from sealing.context import Mesh, sha256
from sealing.erasure import erase_on_fork
from sealing.errors import NotAuthenticError, SealingError
from sealing.frames import (
    KIND_SESSION,
    SESSION_HEADER,
    SESSION_ID,
    SESSION_LEAST,
    Aead,
    aead,
    check_shape,
    open_frame,
    seal_parts,
)
from sealing.kdf import derive, extract
from sealing.keys import KemKey, PartyKeys, seal_signed
from sealing.padding import unpad
from sealing.window import ReplayWindow


@dataclass(frozen=True, slots=True)
class Peer:
    """Who the other side proved to be: only made by judging a credential."""

    instance: bytes
    signing_key: bytes


class Session:
    """An established session: seals to and opens from one peer. Holds two keys and two subjects."""

    def __init__(
        self,
        mesh: Mesh,
        *,
        peer: bytes,
        transcript: bytes,
        material: bytes,
        initiator: bool,
        own_id: bytes,
        peer_id: bytes,
    ) -> None:
        self.peer = peer
        self.transcript = transcript
        self.own_id = own_id
        self.initiator = initiator
        # The responder delivers and sends nothing until a frame proves that the initiator has the keys.
        self.confirmed = initiator
        self.exhausted = False
        self._mesh = mesh
        prk = extract(transcript, material)
        out, back = ("i2r", "r2i") if initiator else ("r2i", "i2r")
        self._sender: Aead | None = aead(mesh, derive(prk, mesh, out))
        self._receiver: Aead | None = aead(mesh, derive(prk, mesh, back))
        self.send_subject = subject(mesh.id, Kind.SESSION, derive(prk, mesh, "subject", out)[:16])
        self.receive_subject = subject(mesh.id, Kind.SESSION, derive(prk, mesh, "subject", back)[:16])
        self._send_subject, self._receive_subject = self.send_subject.encode(), self.receive_subject.encode()
        self._peer_id = peer_id
        self._counter = 0
        self._bytes = 0
        self._window = ReplayWindow(SESSION_WINDOW)
        erase_on_fork(self)

    def seal(self, body: bytes) -> bytes:
        """Return the next frame to the peer."""
        return b"".join(self.seal_parts((body,)))

    def seal_parts(self, parts: Sequence[bytes]) -> tuple[bytes, bytes]:
        """Do as `seal` with a body in parts, and return header and rest: what is large is copied once."""
        counter, spent = self._counter, self._bytes
        if (
            self._sender is None
            or not self.confirmed
            or counter >= SESSION_MAX_FRAMES
            or spent >= SESSION_MAX_BYTES
        ):
            raise NotAuthenticError("the session is not open for sending")
        size = sum(map(len, parts))
        self._counter = counter + 1
        self._bytes = spent = spent + size
        # Half of either bound: the new handshake is made while this session still works.
        self.exhausted = counter + 1 >= SESSION_MAX_FRAMES // 2 or spent >= SESSION_MAX_BYTES // 2
        header = SESSION_HEADER.pack(self._mesh.suite, KIND_SESSION, self._peer_id, counter)
        return header, seal_parts(self._sender, header, counter, size, parts, self._send_subject)

    def open(self, frame: bytes) -> bytes:
        """Return the body of a frame from the peer; state changes only after the tag has verified."""
        return bytes(self.open_view(frame))

    def open_view(self, frame: bytes | memoryview) -> memoryview:
        """Do as `open`; what is large is copied nowhere. `frame` is not looked at later."""
        if not SESSION_LEAST <= len(frame) <= MAX_MESSAGE:
            check_shape(self._mesh, frame, KIND_SESSION)
        suite, kind, session_id, counter = SESSION_HEADER.unpack_from(frame)
        if suite != self._mesh.suite or kind != KIND_SESSION:
            check_shape(self._mesh, frame, KIND_SESSION)
        if self._receiver is None:
            raise NotAuthenticError("the session is closed")
        if session_id != self.own_id:
            raise SealingError(Reason.SESSION_UNKNOWN)
        self._window.check(counter)
        body = open_frame(self._receiver, frame, SESSION_HEADER.size, counter, self._receive_subject)
        self._window.mark(counter)
        self.confirmed = True
        return body

    def erase(self) -> None:
        """Drop both keys."""
        self._sender = self._receiver = None

    def secrets(self) -> tuple[bytes, ...]:
        """Return nothing: the keys are inside the ciphers alone."""
        return ()

    def __repr__(self) -> str:
        return f"Session(peer={self.peer.hex()[:16]}, initiator={self.initiator})"


def session_id_of(frame: bytes | memoryview) -> bytes:
    """Return the receiver's session id that stands in the clear in a session frame's header."""
    return bytes(frame[SESSION_ID])


class PendingSession:
    """The initiator's half-open session: the init as sent, and what answers to it."""

    def __init__(
        self,
        mesh: Mesh,
        keys: PartyKeys,
        *,
        responder: Peer,
        responder_kem: bytes,
        credential: bytes,
        context: bytes,
        secret: bytes,
        session_id: bytes,
        role: bytes | None = None,
        responder_role: bytes | None = None,
        beacon: bytes | None = None,
    ) -> None:
        self._mesh = mesh
        self._keys = keys
        self._responder = responder
        self._ephemeral: KemKey | None = KemKey()
        self._secret = secret
        self._id = session_id
        body = Init(
            credential,
            responder.instance,
            context,
            self._ephemeral.public,
            secret,
            session_id,
            role,
            responder_role,
            beacon,
        )
        signed = cose.sign(keys.signing, mesh, "init", codec.encode(body))
        self.wire = seal_signed(mesh, responder_kem, signed, "init", responder.instance)
        self.init_hash = sha256(self.wire)
        self.accept_subject = subject(mesh.id, Kind.ACCEPT, self.init_hash[:16])
        erase_on_fork(self)

    def accept(self, wire: bytes, judge: Callable[[Accept], None]) -> Session:
        """Open the answer; `judge` refuses its credential, state or beacon by raising. One use."""
        if self._ephemeral is None:
            raise NotAuthenticError("the session is not pending")
        _check_size(wire)
        # 1. Sealed to the ephemeral key for this very init.
        signed = unpad(self._ephemeral.open(wire, self._mesh.ctx("accept", self.init_hash)))
        # 2. Signed by the responder that was asked for, over the same init and both instances.
        accept = codec.decode(
            cose.open_signed(signed, self._responder.signing_key, self._mesh, "accept"), Accept
        )
        if (
            not hmac.compare_digest(accept.init_hash, self.init_hash)
            or accept.initiator != self._keys.instance
            or accept.responder != self._responder.instance
        ):
            raise NotAuthenticError("accept names another session")
        # 3. Credential, state, beacon.
        judge(accept)
        session = Session(
            self._mesh,
            peer=accept.responder,
            transcript=sha256(self.init_hash, sha256(wire)),
            material=self._secret + accept.secret,
            initiator=True,
            own_id=self._id,
            peer_id=accept.session_id,
        )
        self.erase()
        return session

    def erase(self) -> None:
        """Drop the ephemeral key and the secret."""
        if self._ephemeral is not None:
            self._ephemeral.erase()
        self._ephemeral = None
        self._secret = b""

    def secrets(self) -> tuple[bytes, ...]:
        """Return this side's part of the session's secret, for `sealing.erasure.held_secrets`."""
        return (self._secret,)


@dataclass(frozen=True, slots=True)
class OpenedInit:
    """An init whose signature verified under the key of a credential that was judged."""

    init: Init
    init_hash: bytes
    initiator: Peer


def open_init(mesh: Mesh, keys: PartyKeys, wire: bytes, judge: Callable[[Init], Peer]) -> OpenedInit:
    """Open a first flight; `judge` returns who its credential proves, or raises.

    No signature has verified yet when `judge` is asked, so it must change nothing. The caller has
    checked that `sha256(wire)` is new, and keeps it once this has returned.
    """
    _check_size(wire)
    # 1. Sealed to this instance.
    signed = unpad(keys.kem.open(wire, mesh.ctx("init", keys.instance)))
    init = codec.decode(cose.unverified_payload(signed), Init)
    # 2. It names this instance, and its sender is somebody acceptable other than ourselves.
    if init.responder != keys.instance:
        raise NotAuthenticError("init names another responder")
    initiator = judge(init)
    if initiator.instance == keys.instance:
        raise NotAuthenticError("init of our own")
    # 3. Signed by the key of that credential.
    cose.open_signed(signed, initiator.signing_key, mesh, "init")
    return OpenedInit(init, sha256(wire), initiator)


def _check_size(wire: bytes) -> None:
    if len(wire) > MAX_HANDSHAKE:
        raise SealingError(Reason.TOO_LARGE)


def accept_init(
    mesh: Mesh,
    keys: PartyKeys,
    opened: OpenedInit,
    *,
    credential: bytes,
    state: bytes | None,
    secret: bytes,
    session_id: bytes,
) -> tuple[bytes, Session]:
    """Return the second flight and the responder's session, which waits for confirmation."""
    accept = Accept(
        opened.init_hash,
        opened.initiator.instance,
        keys.instance,
        credential,
        secret,
        session_id,
        state,
    )
    signed = cose.sign(keys.signing, mesh, "accept", codec.encode(accept))
    wire = seal_signed(mesh, opened.init.ephemeral, signed, "accept", opened.init_hash)
    session = Session(
        mesh,
        peer=opened.initiator.instance,
        transcript=sha256(opened.init_hash, sha256(wire)),
        material=opened.init.secret + secret,
        initiator=False,
        own_id=session_id,
        peer_id=opened.init.session_id,
    )
    return wire, session


__all__ = [
    "OpenedInit",
    "Peer",
    "PendingSession",
    "Session",
    "accept_init",
    "open_init",
    "session_id_of",
]
