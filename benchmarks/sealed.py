"""What the sealing layer costs by itself, in CPU, against the bare primitives that it cannot do without."""

import gc
import os
import tracemalloc
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.ratios import Aim, Row
from benchmarks.slices import microseconds
from schemas.messages import MemberPackage
from sealing.context import SUITE_GCM, Mesh
from sealing.groups import Opener, Sender
from sealing.keys import KemKey, PartyKeys, SigningKey, seal_to, verify
from sealing.session import Peer, PendingSession, Session, accept_init, open_init

Work = Callable[[], object]

_MESH = Mesh(b"\x01" * 32, SUITE_GCM)
_BODY = 1024
_SESSIONS = 64


def measure(*, rounds: int, seconds: float) -> list[Row]:
    """Measure by turns; `seconds` is the length of a slice of CPU time."""
    pairs: list[tuple[tuple[str, str, str], Work, Work, Aim]] = [
        (
            ("handshake", "handshake, both sides", "its primitives"),
            _handshake(),
            _primitives(),
            Aim(1.5, "lower"),
        ),
        (("task-1k", "role-sealed task, 1 KiB", "AES-GCM"), _task(), _bare(), Aim(3.0, "lower")),
    ]
    ours: list[list[float]] = [[] for _ in pairs]
    peers: list[list[float]] = [[] for _ in pairs]
    for number in range(rounds + 1):
        for index, (_, own, bare, _) in enumerate(pairs):
            slice_of = microseconds(own, seconds), microseconds(bare, seconds)
            if number:
                ours[index].append(slice_of[0])
                peers[index].append(slice_of[1])
    rows = [
        Row(*names, "us", tuple(own), tuple(bare), aim)
        for (names, _, _, aim), own, bare in zip(pairs, ours, peers, strict=True)
    ]
    held = Row(
        "session-memory", "an idle session", "1 KiB", "KiB", (_session_kib(),), (1.0,), Aim(4.0, "lower")
    )
    return [*rows, held]


def _handshake() -> Work:
    alice, bob = PartyKeys(), PartyKeys()
    return lambda: _establish(alice, bob)


def _establish(alice: PartyKeys, bob: PartyKeys) -> tuple[Session, Session]:
    pending = PendingSession(
        _MESH,
        alice,
        responder=Peer(bob.instance, bob.signing.public),
        responder_kem=bob.kem.public,
        credential=bytes(400),
        context=bytes(32),
        secret=os.urandom(32),
        session_id=os.urandom(8),
    )
    opened = open_init(_MESH, bob, pending.wire, lambda _: Peer(alice.instance, alice.signing.public))
    wire, theirs = accept_init(
        _MESH,
        bob,
        opened,
        credential=bytes(400),
        state=None,
        secret=os.urandom(32),
        session_id=os.urandom(8),
    )
    ours = pending.accept(wire, lambda _: None)
    theirs.open(ours.seal(b"\x91\x91\x00"))
    return ours, theirs


def _primitives() -> Work:
    """Return an ephemeral key, two HPKE with X-Wing, two signatures and their verification."""
    signing, static, message = SigningKey(), KemKey(), os.urandom(2200)

    def run() -> None:
        ephemeral = KemKey()
        for key in (static, ephemeral):
            key.open(seal_to(key.public, message, b"info"), b"info")
            verify(signing.public, signing.sign(message), message)

    return run


def _task() -> Work:
    keys = PartyKeys()
    opener = Opener(_MESH, MemberPackage("role", 1, os.urandom(32), 0, 1, 2))
    sealer = opener.sealer(Sender(keys.instance, _MESH.role_id("role")), os.urandom(12))
    body, task = os.urandom(_BODY), os.urandom(16)
    return lambda: opener.open_task(sealer.seal_task(body, task))


def _bare() -> Work:
    cipher, body, header = AESGCM(os.urandom(32)), os.urandom(_BODY), bytes(64)
    nonce = bytes(12)
    return lambda: cipher.decrypt(nonce, cipher.encrypt(nonce, body, header), header)


def _session_kib() -> float:
    alice, bob = PartyKeys(), PartyKeys()
    _establish(alice, bob)
    gc.collect()
    tracemalloc.start()
    try:
        held = [_establish(alice, bob)[0] for _ in range(_SESSIONS)]
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / len(held) / 1024
    finally:
        tracemalloc.stop()
