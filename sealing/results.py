"""Results: sealed under a reply key that the task carried (docs/protocol.md section 3).

The submitter derives the key again after a restart; the worker learns it from the sealed task. Key and
nonce are never used twice because every result draws a salt of its own.
"""

from dataclasses import dataclass

from sealing.context import Mesh
from sealing.errors import NotAuthenticError
from sealing.frames import KIND_RESULT, RESULT_HEADER, aead, check_shape, open_frame, seal
from sealing.kdf import derive

CLIENT_EPOCH = 0


def client_reply_key(mesh: Mesh, stored_secret: bytes, token: bytes, task_id: bytes) -> bytes:
    """Return a client's reply key for one task sealed under the epoch of `token`."""
    return derive(stored_secret, mesh, "reply", token, task_id)


def role_reply_key(mesh: Mesh, role_secret: bytes, token: bytes, epoch: int, task_id: bytes) -> bytes:
    """Return an enclave's reply key: any instance of its role derives the same."""
    return derive(role_secret, mesh, "reply", token, epoch, task_id)


def derived_task_id(mesh: Mesh, role_secret: bytes, parent: bytes, content: bytes, number: int) -> bytes:
    """Return the id of the `number`th task of this content that was submitted for the task `parent`.

    Whichever instance of the role works on the parent derives the same: submitted again, it is a repeat.
    """
    return derive(role_secret, mesh, "task id", parent, content, number)[:16]


@dataclass(frozen=True, slots=True)
class ResultHeader:
    """What stands in the clear before a result: hints for the submitter's look-up, bound by the tag."""

    token: bytes
    epoch: int
    task_id: bytes
    salt: bytes


def parse_header(mesh: Mesh, frame: bytes) -> ResultHeader:
    """Return a result frame's header, or raise."""
    check_shape(mesh, frame, KIND_RESULT)
    _, _, token, epoch, task_id, salt = RESULT_HEADER.unpack_from(frame)
    return ResultHeader(token, epoch, task_id, salt)


def seal_result(mesh: Mesh, reply_key: bytes, header: ResultHeader, body: bytes) -> bytes:
    """Return a result frame."""
    cipher = aead(mesh, derive(reply_key, mesh, "result", header.task_id, header.salt))
    packed = RESULT_HEADER.pack(
        mesh.suite, KIND_RESULT, header.token, header.epoch, header.task_id, header.salt
    )
    return seal(cipher, packed, 0, body)


def open_result(mesh: Mesh, reply_key: bytes, frame: bytes) -> bytes:
    """Return the body of a result frame, or raise `NotAuthenticError`."""
    header = parse_header(mesh, frame)
    cipher = aead(mesh, derive(reply_key, mesh, "result", header.task_id, header.salt))
    try:
        return bytes(open_frame(cipher, frame, RESULT_HEADER.size, 0))
    except NotAuthenticError as error:
        raise NotAuthenticError("result") from error
