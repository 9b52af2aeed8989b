"""The device behind an inherited descriptor: asked one thing at a time, and never waited for without end."""

import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from attestation import Attester, AttesterError, DescriptorAttester
from attestation.attesters import attester
from schemas.codec import decode_any, encode
from schemas.errors import Reason, UsageError
from schemas.evidence import MAX_ENDORSEMENTS, MAX_EVIDENCE

KEY_BINDING = bytes(range(64))
CHALLENGE = bytes(32)
EVIDENCE_REPLY = ["evidence", "application/x", b"report", {"vcek.der": b"certificate"}]


class Device:
    """The launcher's end: a socket that a test reads frames from and writes frames to."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.end = end

    async def read(self) -> Any:
        size = int.from_bytes(await self._exactly(4))
        return decode_any(await self._exactly(size))

    async def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            await anyio.wait_readable(self.end)
            chunk = self.end.recv(size - len(data))
            assert chunk, "the attester hung up"
            data += chunk
        return data

    async def write(self, body: bytes, *, size: int | None = None) -> None:
        rest = (len(body) if size is None else size).to_bytes(4) + body
        while rest:
            await anyio.wait_writable(self.end)
            rest = rest[self.end.send(rest) :]


@pytest.fixture
async def pair(anyio_backend: str) -> AsyncIterator[tuple[DescriptorAttester, Device]]:
    ours, theirs = socket.socketpair()
    taken = DescriptorAttester(ours.detach())
    with theirs:
        yield taken, Device(theirs)
    taken.close()


Pair = tuple[DescriptorAttester, Device]


async def answered(pair: Pair, reply: Any) -> Any:
    """Ask for evidence and answer `reply`."""
    asked, device = pair
    found: list[Any] = []

    async def ask() -> None:
        found.append(await asked.evidence(KEY_BINDING, CHALLENGE))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        assert await device.read() == ["evidence", KEY_BINDING, CHALLENGE]
        await device.write(reply if isinstance(reply, bytes) else encode(reply))
    return found[0]


@pytest.mark.anyio
async def test_evidence_is_what_the_device_answers(pair: Pair) -> None:
    evidence, endorsements = await answered(pair, EVIDENCE_REPLY)
    assert (evidence.type, evidence.value) == ("application/x", b"report")
    assert endorsements == {"vcek.der": b"certificate"}


@pytest.mark.anyio
async def test_largest_evidence_arrives_whole(pair: Pair) -> None:
    reply = ["evidence", "t", bytes(MAX_EVIDENCE), {"a": bytes(MAX_ENDORSEMENTS)}]
    evidence, endorsements = await answered(pair, reply)
    assert len(evidence.value) == MAX_EVIDENCE
    assert len(endorsements["a"]) == MAX_ENDORSEMENTS


@pytest.mark.anyio
async def test_host_settings_are_what_the_launcher_passes(pair: Pair) -> None:
    asked, device = pair
    await device.write(encode(["host", {"broker": "nats://127.0.0.1:4222"}]))
    assert await asked.host() == {"broker": "nats://127.0.0.1:4222"}
    assert await device.read() == ["host"]


@pytest.mark.anyio
async def test_requests_wait_for_each_other(pair: Pair) -> None:
    asked, device = pair
    found: dict[int, str] = {}

    async def ask(number: int) -> None:
        evidence, _ = await asked.evidence(bytes([number]) * 64, CHALLENGE)
        found[number] = evidence.type

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(ask, number)
        for _ in range(3):
            request = await device.read()
            # Nothing more was sent before the answer.
            with pytest.raises(BlockingIOError):
                device.end.recv(1)
            await device.write(encode(["evidence", f"for {request[1][0]}", b"", {}]))
    assert found == {0: "for 0", 1: "for 1", 2: "for 2"}


@pytest.mark.anyio
async def test_device_outlives_a_refusal(pair: Pair) -> None:
    with pytest.RaisesGroup(AttesterError):
        await answered(pair, ["error", "evidence-too-old"])
    await answered(pair, EVIDENCE_REPLY)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (["error", "debug-enabled"], Reason.DEBUG_ENABLED),
        (["error", "a text of the host's own"], Reason.UNAVAILABLE),
        (["error"], Reason.MALFORMED),
        (["error", 1], Reason.MALFORMED),
        (["host", {}], Reason.MALFORMED),
        (["evidence", "t", b"v"], Reason.MALFORMED),
        (["evidence", "t", "v", {}], Reason.MALFORMED),
        (["evidence", "t" * 65, b"v", {}], Reason.MALFORMED),
        (["evidence", "t", bytes(MAX_EVIDENCE + 1), {}], Reason.MALFORMED),
        (["evidence", "t", b"v", {"a": bytes(MAX_ENDORSEMENTS), "b": b"b"}], Reason.TOO_LARGE),
        (["evidence", "t", b"v", {str(number): b"" for number in range(33)}], Reason.MALFORMED),
        (b"\xff", Reason.MALFORMED),
        (b"", Reason.MALFORMED),
        (encode(EVIDENCE_REPLY) + b"\0", Reason.MALFORMED),
    ],
)
async def test_reply_that_is_none_is_refused(reply: Any, reason: Reason, pair: Pair) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(AttesterError, check=lambda error: error.reason is reason)
    ) as info:
        await answered(pair, reply)
    assert "of the host's own" not in str(info.value.exceptions[0])


@pytest.mark.anyio
async def test_frame_beyond_the_limit_is_not_read(pair: Pair) -> None:
    asked, device = pair
    await device.write(b"", size=attester.MAX_FRAME + 1)
    with pytest.raises(AttesterError) as refusal:
        await asked.host()
    assert refusal.value.reason is Reason.TOO_LARGE


@pytest.mark.anyio
@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x05\x82"])
async def test_device_that_goes_away_is_unavailable_for_good(sent: bytes, pair: Pair) -> None:
    asked, device = pair
    device.end.send(sent)
    device.end.shutdown(socket.SHUT_WR)
    for _ in range(2):
        with pytest.raises(AttesterError) as refusal:
            await asked.host()
        assert refusal.value.reason is Reason.UNAVAILABLE


@pytest.mark.anyio
async def test_device_that_does_not_answer_is_given_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, device = pair
    monkeypatch.setattr(attester, "DEADLINE", 0.05)
    with pytest.raises(AttesterError) as refusal:
        await asked.host()
    assert refusal.value.reason is Reason.UNAVAILABLE
    # An answer that comes late is nobody's.
    with pytest.raises(OSError, match=r"pipe|reset"):
        await device.write(encode(EVIDENCE_REPLY))
    with pytest.raises(AttesterError):
        await asked.evidence(KEY_BINDING, CHALLENGE)


@pytest.mark.anyio
async def test_cancelled_request_leaves_no_answer_for_the_next(pair: Pair) -> None:
    asked, device = pair
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asked.evidence, KEY_BINDING, CHALLENGE)
        await device.read()
        tasks.cancel_scope.cancel()
    with pytest.raises(AttesterError):
        await asked.evidence(bytes(64), CHALLENGE)


@pytest.mark.anyio
@pytest.mark.parametrize(("binding", "challenge"), [(63, 32), (65, 32), (64, 0), (64, 33)])
async def test_caller_who_hands_in_no_digest_is_told_before_the_device_is_asked(
    binding: int, challenge: int, pair: Pair
) -> None:
    asked, device = pair
    with pytest.raises(UsageError):
        await asked.evidence(bytes(binding), bytes(challenge))
    with pytest.raises(BlockingIOError):
        device.end.recv(1)


def test_descriptor_is_inherited_by_no_child() -> None:
    ours, theirs = socket.socketpair()
    ours.set_inheritable(True)
    fd = ours.detach()
    taken: Attester = DescriptorAttester(fd)
    assert not os.get_inheritable(fd)
    assert isinstance(taken, DescriptorAttester)
    taken.close()
    theirs.close()


def test_descriptor_that_is_no_socket_is_the_launchers_to_mend() -> None:
    reader, writer = os.pipe()
    with pytest.raises(UsageError, match="launcher"):
        DescriptorAttester(reader)
    os.close(reader)
    os.close(writer)
