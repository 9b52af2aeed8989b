"""Where an enclave gets its Evidence from: an interface, and a device handed over by its launcher.

An Attester compares nothing: what it returns is a stranger's word until a verifier has seen it.
"""

import socket
import struct
from typing import Annotated, Any, Literal, Protocol

import anyio
from msgspec import Meta

from attestation.appraise import CHALLENGE_SIZE, KEY_BINDING_SIZE
from attestation.errors import AttesterError
from schemas.codec import convert, decode_any, encode
from schemas.errors import MalformedError, Reason, UsageError
from schemas.evidence import MAX_ENDORSEMENTS, MAX_EVIDENCE, Endorsements, Evidence

MAX_FRAME = 256 * 1024  # Evidence and Endorsements at their largest, with room for their names
DEADLINE = 10.0  # seconds; hosts throttle reports to one in two seconds, a quote takes 40 ms
LENGTH = struct.Struct(">I")

EvidenceReply = tuple[
    Literal["evidence"],
    Annotated[str, Meta(max_length=64)],
    Annotated[bytes, Meta(max_length=MAX_EVIDENCE)],
    Annotated[Endorsements, Meta(max_length=32)],
]
Setting = Annotated[str, Meta(max_length=4096)]
HostReply = tuple[Literal["host"], Annotated[dict[Setting, Setting], Meta(max_length=64)]]


class Attester(Protocol):
    """Obtain Evidence about the enclave this runs in, and the Endorsements that its host has."""

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        """Obtain Evidence that binds `key_binding`, and `challenge` where the platform has room for it."""
        ...


class Machine(Attester, Protocol):
    """An attester with the settings of whoever runs the machine: they say where, never who."""

    async def host(self) -> dict[str, str]:
        """Obtain the settings, `nats_url` and `nkey_seed` among them: unmeasured, and believed in nothing."""
        ...

    def close(self) -> None:
        """Give the device back."""
        ...


class DescriptorAttester:
    """An attester over an inherited, connected stream socket.

    Frames both ways are a length (u32, big-endian) and deterministic CBOR. Requests: `["evidence",
    key_binding, challenge]`, `["host"]`. Replies: `["evidence", type, value, endorsements]`, `["host",
    settings]`, `["error", code]`. After a broken exchange nothing tells whose reply comes next, so the
    device is closed: evidence of a wrong request would be worthless, but waiting for it is not free.
    """

    def __init__(self, fd: int) -> None:
        """Take `fd` over: it is closed with this object and no child inherits it."""
        try:
            self._socket = socket.socket(fileno=fd)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"descriptor {fd} is no socket: start the agent by its launcher, which hands one over"
            ) from error
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        self._one_at_a_time = anyio.Lock()

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        """Obtain Evidence from the launcher's device."""
        if len(key_binding) != KEY_BINDING_SIZE or len(challenge) != CHALLENGE_SIZE:
            raise UsageError("a key binding has 64 bytes and a challenge 32: hand in digests")
        reply: EvidenceReply = await self._exchange(["evidence", key_binding, challenge], EvidenceReply)
        _, kind, value, endorsements = reply
        if sum(map(len, endorsements.values())) > MAX_ENDORSEMENTS:
            raise AttesterError(Reason.TOO_LARGE, "the device's endorsements are too large")
        return Evidence(kind, value), endorsements

    async def host(self) -> dict[str, str]:
        """Obtain the settings that the launcher passes on: unmeasured, so they say where, never who."""
        reply: HostReply = await self._exchange(["host"], HostReply)
        return reply[1]

    def close(self) -> None:
        """Give the device back."""
        self._socket.close()

    async def _exchange(self, request: list[Any], kind: Any) -> Any:
        async with self._one_at_a_time:
            frame = None
            try:
                with anyio.fail_after(DEADLINE):
                    await self._send(encode(request))
                    frame = await self._receive()
            except TimeoutError as error:
                raise AttesterError(Reason.UNAVAILABLE, "the device did not answer in time") from error
            except OSError as error:
                raise AttesterError(Reason.UNAVAILABLE, "the device is gone") from error
            finally:
                # Cancellation too leaves half an exchange behind.
                if frame is None:
                    self.close()
        return _open(frame, kind)

    async def _send(self, body: bytes) -> None:
        rest = memoryview(LENGTH.pack(len(body)) + body)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    async def _receive(self) -> bytes:
        (size,) = LENGTH.unpack(await self._read(LENGTH.size))
        if size > MAX_FRAME:
            raise AttesterError(Reason.TOO_LARGE, "the device's frame is too large")
        return await self._read(size)

    async def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = self._socket.recv(size - len(data))
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
                continue
            if not chunk:
                raise ConnectionResetError("end of stream")
            data += chunk
        return bytes(data)


def _open(frame: bytes, kind: Any) -> Any:
    try:
        body = decode_any(frame, "reply")
        if isinstance(body, list) and body[:1] == ["error"]:
            _, code = convert(body, tuple[str, str])
            raise AttesterError(_reason(code), "the device refused")
        return convert(body, kind)
    except MalformedError as error:
        raise AttesterError(Reason.MALFORMED, "the device's reply is not one") from error


def _reason(code: str) -> Reason:
    # The code is the host's text: only those that we know travel on.
    try:
        return Reason(code)
    except ValueError:
        return Reason.UNAVAILABLE
