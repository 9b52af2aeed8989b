"""What a broker can make of each message, from the subject table and the layouts alone: small, and strict.

The only things that are not ciphertext of a possible size are those that docs/leakage.md lists.
"""

import json
from dataclasses import dataclass, field

from schemas import codec
from schemas.errors import MalformedError
from schemas.messages import Hello, Offer
from schemas.scheduling import Assign, Load, TaskMessage
from schemas.subjects import PREFIX, TABLE, Kind, Row, Sealing
from sealing.frames import (
    GROUP_HEADER,
    KIND_GROUP,
    KIND_RESULT,
    KIND_SESSION,
    KIND_TASK,
    RESULT_HEADER,
    SESSION_HEADER,
    TASK_HEADER,
)
from sealing.padding import MINIMUM, padme

TAG = 16
ENCAPSULATION = 1088 + 32  # of X-Wing: ML-KEM-768's ciphertext and an X25519 public key
ROWS: dict[str, Row] = {row.kind.value: row for row in TABLE}
OPEN: dict[Kind, type] = {Kind.HELLO: Hello, Kind.OFFER: Offer, Kind.LOAD: Load}


class UnclassifiedError(Exception):
    """Bytes that no row of the table accounts for."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise UnclassifiedError(what)


def ciphertext(size: int, overhead: int) -> None:
    """Accept the size of a padded body under an AEAD."""
    padded = size - overhead - TAG
    require(padded >= MINIMUM and padme(padded) == padded, "not of a padded size")


def task(message: bytes) -> None:
    frame = codec.decode(message, TaskMessage).frame
    require(frame[:2] == bytes((1, KIND_TASK)), "not a role frame")
    ciphertext(len(frame), TASK_HEADER.size)


def classify(subject: str, payload: bytes) -> Kind:
    """Account for every byte of a message of the mesh, or raise."""
    prefix, _, kind, token = subject.split(".")
    require(prefix == PREFIX and kind in ROWS and bytes.fromhex(token) != b"", "no such subject")
    row = ROWS[kind]
    try:
        match row.sealing, row.kind:
            case Sealing.NONE, kind if kind in OPEN:
                codec.decode(payload, OPEN[kind])
            case Sealing.HPKE, _:
                ciphertext(len(payload), ENCAPSULATION)
            case Sealing.SESSION, _:
                require(payload[:2] == bytes((1, KIND_SESSION)), "not a session frame")
                ciphertext(len(payload), SESSION_HEADER.size)
            case Sealing.GROUP, _:
                require(payload[:2] == bytes((1, KIND_GROUP)), "not a group frame")
                ciphertext(len(payload), GROUP_HEADER.size)
            case Sealing.ROLE, Kind.ASSIGN:
                task(codec.decode(payload, Assign).task)
            case Sealing.ROLE, Kind.TASK:
                task(payload)
            case Sealing.RESULT, _:
                require(payload[:2] == bytes((1, KIND_RESULT)), "not a result frame")
                ciphertext(len(payload), RESULT_HEADER.size)
            case _:
                raise UnclassifiedError("no rule for this row")
    except MalformedError as error:
        raise UnclassifiedError("not what the table says") from error
    return row.kind


@dataclass
class Seen:
    """Everything that a broker delivered, classified."""

    kinds: set[Kind] = field(default_factory=set)
    mesh_payloads: set[bytes] = field(default_factory=set)

    def take(self, subject: str, payload: bytes) -> None:
        """Account for one message; what is the broker's own machinery says nothing of ours."""
        if subject.startswith(f"{PREFIX}."):
            self.kinds.add(classify(subject, payload))
            self.mesh_payloads.add(payload)
        elif payload and payload not in self.mesh_payloads:  # a stream's copy of what was classified
            require(subject.startswith(("$JS.", "_INBOX.")), "no such subject")
            # Requests to JetStream and its answers, and acknowledgements with their delay.
            text = payload.removeprefix(b"+WPI").removeprefix(b"-NAK").strip()
            try:
                json.loads(text or b"{}")
            except ValueError as error:
                require(payload == b"+ACK", f"not JetStream's: {error}")
