"""/dev/nsm, byte for byte: what the security module is asked, and what becomes of each of its answers."""

import ctypes
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import AttesterError, nitro
from attestation.attesters.nsm import (
    ERROR_CODES,
    NSM_IOCTL_RAW,
    NsmAttester,
    read_attestation,
    request_attestation,
)
from lab.simulate.nitro import NitroCard
from schemas.errors import Reason, UsageError

VECTORS = Path(
    os.environ.get("SEALBUS_EVIDENCE", Path(__file__).resolve().parents[3] / "shared" / "evidence")
)
KEY_BINDING = bytes(range(64))
CHALLENGE = bytes(range(100, 132))
MEASUREMENTS = {f"pcr{index}": bytes([index + 1]) * 48 for index in range(3)}
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

# {"Attestation": {"user_data": h'..', "nonce": h'..', "public_key": null}}, written down by hand.
REQUEST = (
    b"\xa1\x6bAttestation\xa3"
    + (b"\x69user_data\x58\x40" + KEY_BINDING)
    + (b"\x65nonce\x58\x20" + CHALLENGE)
    + b"\x6apublic_key\xf6"
)


@dataclass
class Module:
    """The kernel's end of the ioctl: reads and writes the caller's memory as the driver does."""

    answer: Callable[[], bytes]
    failure: int | None = None
    length: int | None = None
    requests: list[bytes] = field(default_factory=list)

    def __call__(self, descriptor: int, request: int, address: int) -> None:
        os.fstat(descriptor)
        assert request == NSM_IOCTL_RAW
        # struct nsm_raw: request {addr, len}, response {addr, len}, all u64.
        asked, asked_size, place, room = (
            int.from_bytes(ctypes.string_at(address + at, 8), "little") for at in (0, 8, 16, 24)
        )
        self.requests.append(ctypes.string_at(asked, asked_size))
        assert room == 0x3000
        if self.failure is not None:
            raise OSError(self.failure, os.strerror(self.failure))
        answer = self.answer()
        ctypes.memmove(place, answer, min(len(answer), room))
        length = min(len(answer), room) if self.length is None else self.length
        ctypes.memmove(address + 24, length.to_bytes(8, "little"), 8)


def answering(document: bytes) -> bytes:
    return cbor2.dumps({"Attestation": {"document": document}})


@pytest.fixture
def module(card: NitroCard) -> Module:
    return Module(lambda: answering(document(card)))


def document(card: NitroCard, key_binding: bytes = KEY_BINDING, challenge: bytes = CHALLENGE) -> bytes:
    return card.evidence(MEASUREMENTS, key_binding, challenge, now=NOW)[0].value


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "nsm"
    path.touch()
    return path


async def refused(module: Module, device: Path) -> AttesterError:
    with pytest.raises(AttesterError) as refusal:
        await NsmAttester(device, ioctl=module).evidence(KEY_BINDING, CHALLENGE)
    return refusal.value


def test_the_request_is_the_one_of_awss_library() -> None:
    assert request_attestation(KEY_BINDING, CHALLENGE) == REQUEST


@pytest.mark.anyio
async def test_a_document_binds_key_binding_and_challenge(module: Module, device: Path) -> None:
    evidence, endorsements = await NsmAttester(device, ioctl=module).evidence(KEY_BINDING, CHALLENGE)
    assert module.requests == [REQUEST]
    assert evidence.type == nitro.MEDIA_TYPE
    payload = nitro.parse(evidence.value).payload
    assert (payload.user_data, payload.nonce, payload.public_key) == (KEY_BINDING, CHALLENGE, None)
    assert endorsements == {}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("key_binding", "challenge", "reason"),
    [
        (b"\xee" * 64, CHALLENGE, Reason.KEY_BINDING_MISMATCH),
        (KEY_BINDING[:63], CHALLENGE, Reason.KEY_BINDING_MISMATCH),
        (KEY_BINDING, b"\xee" * 32, Reason.CHALLENGE_UNKNOWN),
        (KEY_BINDING, b"", Reason.CHALLENGE_UNKNOWN),
    ],
)
async def test_an_answer_to_anothers_question_is_refused(
    key_binding: bytes, challenge: bytes, reason: Reason, module: Module, device: Path, card: NitroCard
) -> None:
    module.answer = lambda: answering(document(card, key_binding, challenge))
    assert (await refused(module, device)).reason is reason


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["dstack-2025-12a", "marlin-2024-02", "base-2024-11"])
async def test_a_real_document_of_anothers_is_read_and_refused(
    name: str, module: Module, device: Path
) -> None:
    folder = VECTORS / "nitro" / name
    if not folder.exists():
        pytest.skip("no vectors of real evidence: name their folder in SEALBUS_EVIDENCE")
    real = (folder / "attestation.cbor").read_bytes()
    module.answer = lambda: answering(real)
    # That it comes to the comparison shows that it was read.
    assert (await refused(module, device)).reason is Reason.KEY_BINDING_MISMATCH


@pytest.mark.anyio
@pytest.mark.parametrize("code", sorted(ERROR_CODES))
async def test_each_error_code_of_the_module_is_an_error_that_names_it(
    code: str, module: Module, device: Path
) -> None:
    module.answer = lambda: cbor2.dumps({"Error": code})
    error = await refused(module, device)
    assert error.reason is ERROR_CODES[code]
    assert code in str(error)


QEMU = [bytes.fromhex("a10120"), {}, cbor2.dumps({"module_id": "i-234-enc5678"}), bytes(64)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\xff", Reason.MALFORMED),
        (b"\xa1\x6bAttestation", Reason.MALFORMED),
        (cbor2.dumps("Attestation"), Reason.MALFORMED),
        (cbor2.dumps({"Attestation": {}}), Reason.MALFORMED),
        (cbor2.dumps({"Attestation": {"document": "text"}}), Reason.MALFORMED),
        (cbor2.dumps({"Attestation": {"document": b""}}), Reason.MALFORMED),
        (cbor2.dumps({"GetRandom": {"random": bytes(256)}}), Reason.MALFORMED),
        (cbor2.dumps({"Error": "a text of the host's own"}), Reason.MALFORMED),
        (cbor2.dumps({"Error": 3}), Reason.MALFORMED),
        (answering(b"document") + b"\0", Reason.MALFORMED),
        (answering(b"document"), Reason.MALFORMED),
        (answering(cbor2.dumps(QEMU)), Reason.SIGNATURE_INVALID),  # QEMU's module signs nothing
        (b"\x81" * 0x3000, Reason.MALFORMED),
    ],
)
async def test_an_answer_that_is_nonsense_is_refused(
    answer: bytes, reason: Reason, module: Module, device: Path
) -> None:
    module.answer = lambda: answer
    error = await refused(module, device)
    assert error.reason is reason
    assert "host's own" not in str(error)


@pytest.mark.anyio
async def test_an_answer_that_is_cut_short_is_refused(module: Module, device: Path, card: NitroCard) -> None:
    module.length = 1000
    assert (await refused(module, device)).reason is Reason.MALFORMED


@pytest.mark.anyio
@pytest.mark.parametrize("length", [0x3001, 2**64 - 1])
async def test_an_answer_longer_than_its_room_is_refused(length: int, module: Module, device: Path) -> None:
    module.length = length
    assert (await refused(module, device)).reason is Reason.TOO_LARGE


@pytest.mark.anyio
@pytest.mark.parametrize("number", [errno.EMSGSIZE, errno.ETIMEDOUT, errno.EFAULT])
async def test_a_driver_that_fails_is_unavailable(number: int, module: Module, device: Path) -> None:
    module.failure = number
    error = await refused(module, device)
    assert error.reason is Reason.UNAVAILABLE
    assert os.strerror(number) in str(error)
    assert len(module.requests) == 1


@pytest.mark.anyio
async def test_who_hands_in_no_digest_is_told_before_the_module_is_asked(
    module: Module, device: Path
) -> None:
    with pytest.raises(UsageError):
        await NsmAttester(device, ioctl=module).evidence(KEY_BINDING, b"")
    assert module.requests == []


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_are_refused(answer: bytes) -> None:
    try:
        found: Any = read_attestation(answer)
    except AttesterError:
        return
    assert isinstance(found, bytes)
