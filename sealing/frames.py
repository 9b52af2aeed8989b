"""Frames: `header || AEAD(key, counter nonce, pad(body), header || subject)` (docs/protocol.md).

Headers are fixed layouts in network order. What others move (tasks, results) has no subject in its AAD.
"""

import struct
from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.utils import Buffer

from schemas.errors import Reason, UsageError
from schemas.limits import MAX_BODY, MAX_MESSAGE
from sealing.context import SUITE_GCM, SUITE_GCM_SIV, Mesh
from sealing.errors import NotAuthenticError, SealingError
from sealing.padding import body_of, pad_sized

KIND_SESSION = 1
KIND_TASK = 2
KIND_GROUP = 3
KIND_RESULT = 4

SESSION_HEADER = struct.Struct(">BB8sQ")  # suite, kind, receiver's session id, counter
SENDER_HEADER = struct.Struct(">BB16sI76s")  # what both of the next begin with, all of it one sender's
GROUP_HEADER = struct.Struct(">BB16sI76sQ")  # suite, kind, epoch token, epoch, handle, counter
TASK_HEADER = struct.Struct(">BB16sI76sQ16s")  # the same, task id
RESULT_HEADER = struct.Struct(">BB16sI16s16s")  # suite, kind, task's token, own epoch, task id, salt

_TAG = 16
SESSION_LEAST, SESSION_ID = SESSION_HEADER.size + _TAG, slice(2, 10)
_HEADERS = {
    KIND_SESSION: SESSION_HEADER,
    KIND_TASK: TASK_HEADER,
    KIND_GROUP: GROUP_HEADER,
    KIND_RESULT: RESULT_HEADER,
}


class Aead(Protocol):
    """AES-256-GCM or AES-256-GCM-SIV."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...
    def decrypt(self, nonce: bytes, data: Buffer, associated_data: bytes | None) -> bytes: ...


def aead(mesh: Mesh, key: bytes) -> Aead:
    """Return the mesh's AEAD under `key`; another suite byte refuses."""
    if mesh.suite == SUITE_GCM:
        return AESGCM(key)
    if mesh.suite == SUITE_GCM_SIV:
        return AESGCMSIV(key)
    raise SealingError(Reason.UNSUPPORTED_SUITE)


def seal(cipher: Aead, header: bytes, counter: int, body: bytes, subject: bytes = b"") -> bytes:
    """Return a frame. The caller never uses a counter twice under one key."""
    return header + seal_parts(cipher, header, counter, len(body), (body,), subject)


def seal_parts(
    cipher: Aead, header: bytes, counter: int, size: int, parts: Sequence[bytes], subject: bytes
) -> bytes:
    """Do as `seal` with a body of `size` bytes in parts; return what follows the header."""
    if size > MAX_BODY:
        raise UsageError(f"{size} bytes do not fit one message: split them into parts of at most {MAX_BODY}")
    return cipher.encrypt(counter.to_bytes(12, "big"), pad_sized(size, parts), header + subject)


def open_frame(
    cipher: Aead, frame: bytes | memoryview, header_size: int, counter: int, subject: bytes = b""
) -> memoryview:
    """Return the body of a frame, which is not looked at later, or raise `NotAuthenticError`."""
    header, nonce = bytes(frame[:header_size]), counter.to_bytes(12, "big")
    try:
        padded = cipher.decrypt(nonce, memoryview(frame)[header_size:], header + subject)
    except (InvalidTag, ValueError) as error:
        raise NotAuthenticError("frame") from error
    return memoryview(padded)[body_of(padded)]


def check_shape(mesh: Mesh, frame: bytes | memoryview, kind: int) -> None:
    """Refuse a frame of another length, suite or kind before anything is looked up for it."""
    if len(frame) < _HEADERS[kind].size + _TAG:
        raise NotAuthenticError("too short")
    if len(frame) > MAX_MESSAGE:
        raise SealingError(Reason.TOO_LARGE)
    if frame[0] != mesh.suite:
        raise SealingError(Reason.UNSUPPORTED_SUITE)
    if frame[1] != kind:
        raise NotAuthenticError("kind")
