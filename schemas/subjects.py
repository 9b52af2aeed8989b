"""Every NATS subject of sealbus, from one table: who publishes, who subscribes, how it is sealed.

Subjects are `sb.<mesh>.<kind>.<token>`; tokens are bytes that `sealing` derives, shown in hexadecimal.
The broker's accounts and `docs/leakage.md` follow from the same table.
"""

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "sb"
ZERO = b"\x00"


class Party(StrEnum):
    """A kind of party as the broker's accounts know it. Never an identity."""

    COORDINATOR = "coordinator"
    SCHEDULER = "scheduler"
    AGENT = "agent"
    CLIENT = "client"


class Kind(StrEnum):
    """The third token of a subject."""

    HELLO = "hello"
    OFFER = "offer"
    BOOT = "boot"
    INBOX = "inbox"
    ACCEPT = "accept"
    SESSION = "session"
    BEACON = "beacon"
    TASK = "task"
    LOAD = "load"
    ASSIGN = "assign"
    RESULT = "result"


class Sealing(StrEnum):
    """How what travels on a subject is protected from those who carry it."""

    NONE = "none"
    HPKE = "hpke"
    SESSION = "session"
    ROLE = "role"
    GROUP = "group"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the subject table."""

    kind: Kind
    publishers: tuple[Party, ...]
    subscribers: tuple[Party, ...]
    sealing: Sealing
    clear: tuple[str, ...]  # what is readable by the broker besides subject, size and time
    stream: str | None = None


_C, _S, _A, _X = Party.COORDINATOR, Party.SCHEDULER, Party.AGENT, Party.CLIENT

TASK_STREAM = "tasks"
RESULT_STREAM = "results"

TABLE: tuple[Row, ...] = (
    Row(Kind.HELLO, (_A, _X), (_C,), Sealing.NONE, ("suite", "mesh", "challenge")),
    Row(
        Kind.OFFER,
        (_C,),
        (_A, _X),
        Sealing.NONE,
        (
            "hash of the hello",
            "Merkle path",
            "coordinator's Evidence, endorsements and public keys",
            "signed profile",
            "term and its record",
            "changes of operators",
        ),
    ),
    Row(Kind.BOOT, (_A, _X), (_C,), Sealing.HPKE, ()),
    Row(Kind.INBOX, (_A, _X), (_A,), Sealing.GROUP, ("suite", "epoch token", "epoch", "handle", "counter")),
    Row(Kind.ACCEPT, (_C, _A), (_A, _X), Sealing.HPKE, ()),
    Row(
        Kind.SESSION,
        (_C, _A, _X),
        (_C, _A, _X),
        Sealing.SESSION,
        ("suite", "receiver's session id", "counter"),
    ),
    Row(Kind.BEACON, (_C,), (_A, _X), Sealing.GROUP, ("suite", "epoch token", "epoch", "handle", "counter")),
    Row(
        Kind.TASK,
        (_A, _X),
        (_S,),
        Sealing.ROLE,
        (
            "class token",
            "priority",
            "deadline",
            "size class",
            "affinity",
            "suite",
            "epoch token",
            "epoch",
            "handle",
            "counter",
            "task id",
        ),
        stream=TASK_STREAM,
    ),
    Row(
        Kind.LOAD,
        (_A,),
        (_S,),
        Sealing.NONE,
        ("assign token", "class tokens", "credits", "load level", "task ids and their progress", "draining"),
    ),
    Row(
        Kind.ASSIGN,
        (_S,),
        (_A,),
        Sealing.ROLE,
        ("the task message as published", "dead-letter flag"),
    ),
    Row(
        Kind.RESULT,
        (_A,),
        (_A, _X),
        Sealing.RESULT,
        ("suite", "epoch token", "epoch", "task id", "salt"),
        stream=RESULT_STREAM,
    ),
)


def mesh_token(mesh: bytes) -> str:
    """Return the second token of every subject of a mesh: half of its id, which is public."""
    return mesh[:16].hex()


def subject(mesh: bytes, kind: Kind, token: bytes = ZERO) -> str:
    """Return the one subject of `kind` for `token`."""
    return f"{PREFIX}.{mesh_token(mesh)}.{kind.value}.{token.hex()}"


def every(mesh: bytes, kind: Kind) -> str:
    """Return the wildcard over all subjects of `kind`."""
    return f"{PREFIX}.{mesh_token(mesh)}.{kind.value}.*"


def stream_name(mesh: bytes, stream: str) -> str:
    """Return the JetStream name of one of the mesh's streams."""
    return f"sealbus-{mesh_token(mesh)}-{stream}"
