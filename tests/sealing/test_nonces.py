"""No key and nonce are ever used twice, over everything that seals symmetrically."""

import os
from collections import Counter
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealing import frames, groups, results, session
from sealing.context import Mesh
from sealing.frames import Aead
from sealing.groups import Opener, Sealer, Sender, sender_package
from sealing.results import ResultHeader, client_reply_key, role_reply_key, seal_result
from tests.sealing.world import ALICE, BOB, MESH, package, pair

SUBJECT = "sb.mesh.group.token"


class Recorder:
    """An AEAD that counts with which key and nonce it encrypted."""

    def __init__(self, key: bytes, inner: Aead, used: "Counter[tuple[bytes, bytes]]") -> None:
        self._key, self._inner, self._used = key, inner, used

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        self._used[self._key, nonce] += 1
        return self._inner.encrypt(nonce, data, associated_data)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return self._inner.decrypt(nonce, data, associated_data)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> "Counter[tuple[bytes, bytes]]":
    """Every (key, nonce) that was sealed with, and how often."""
    counted: Counter[tuple[bytes, bytes]] = Counter()
    real = frames.aead

    def recording(mesh: Mesh, key: bytes) -> Recorder:
        return Recorder(key, real(mesh, key), counted)

    def recording_gcm(key: bytes) -> Recorder:
        return Recorder(key, AESGCM(key), counted)

    for module in (session, groups, results):
        monkeypatch.setattr(module, "aead", recording)
    monkeypatch.setattr(groups, "AESGCM", recording_gcm)
    return counted


def seal_sessions(count: int) -> int:
    sealed = 0
    for _ in range(count):
        made = pair(ids=(b"the same", b"the same")).confirm()
        sealed += 1
        for _ in range(50):
            made.initiator.seal(b"")
            made.responder.seal(b"")
            sealed += 2
    return sealed


def seal_epochs(count: int) -> int:
    sealed = 0
    for epoch in range(count):
        held = package(epoch=epoch)
        members = [Opener(MESH, held) for _ in range(3)]
        sealers: list[Sealer] = []
        # The same instance again and again: restarted processes, several roles, members and not.
        for keys in (ALICE, BOB):
            sender = Sender(keys.instance, MESH.role_id("redactor"))
            sealers += [member.sealer(sender, os.urandom(12)) for member in members]
            sealers += [Sealer(MESH, sender_package(MESH, held, sender, os.urandom(12))) for _ in range(3)]
        sealed += len(sealers)  # a handle each
        for sealer in sealers:
            for _ in range(20):
                sealer.seal_group(b"", SUBJECT)
                sealer.seal_task(b"", os.urandom(16))
                sealed += 2
    return sealed


def seal_results(count: int) -> int:
    stored, token = os.urandom(32), os.urandom(16)
    for number in range(count):
        # One task, worked more than once, re-sealed for a client and for a role
        task_id = (number // 4).to_bytes(16, "big")
        for key in (
            client_reply_key(MESH, stored, token, task_id),
            role_reply_key(MESH, stored, token, 1, task_id),
        ):
            seal_result(MESH, key, ResultHeader(token, 1, task_id, os.urandom(16)), b"")
    return 2 * count


@pytest.mark.parametrize(
    ("seal", "count"), [(seal_sessions, 8), (seal_epochs, 4), (seal_results, 200)], ids=["s", "g", "r"]
)
def test_no_key_and_nonce_are_used_twice(
    used: "Counter[tuple[bytes, bytes]]", seal: Callable[[int], int], count: int
) -> None:
    sealed = seal(count)
    assert used.total() == sealed > 300
    assert len(used) == sealed, used.most_common(1)[0][1]


def test_all_kinds_together_share_no_key(used: "Counter[tuple[bytes, bytes]]") -> None:
    for seal in (seal_sessions, seal_epochs, seal_results):
        seal(2)
    assert used.most_common(1)[0][1] == 1
    # One nonce counter a key: as many different keys as there are first frames, plus the handles' own.
    first = sum(1 for _, nonce in used if nonce == bytes(12))
    handles = len({key for key, nonce in used if nonce[:4] != bytes(4)})
    assert len({key for key, _ in used}) == first + handles


def test_the_recorder_would_notice(used: "Counter[tuple[bytes, bytes]]") -> None:
    held = package()
    twice = sender_package(MESH, held, Sender(ALICE.instance, bytes(16)), os.urandom(12))
    for _ in range(2):
        # What must never happen: one handle in two processes.
        Sealer(MESH, twice).seal_task(b"", bytes(16))
    assert used.most_common(1)[0][1] == 2
