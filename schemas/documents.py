"""The claims of signed documents: anchor, operators, profile, order, admission, grant, view, beacon.

A value of these types is only ever made by `sealing.documents` after the signatures verified.
Admission and grant are CWTs (RFC 8392); `CLAIMS` gives the integer key of each of their fields.
"""

from typing import Annotated, Any

from msgspec import Meta

from schemas.codec import Document, Message
from schemas.evidence import Hex, ReferenceValues
from schemas.limits import CHANGES_MOST, RECENTLY_REVOKED_MOST
from schemas.messages import (
    CHANGES_OF_OPERATORS,
    Bytes16,
    Bytes32,
    Count,
    Epoch,
    KemPublicKey,
    Millis,
    Moment,
    Name,
    RevocationKind,
)
from schemas.times import Day, Hours

REASON_MOST = 256
LOUD_REASON_MOST = 160  # it is part of what every party holds
MAX_CONDITIONS = 16  # rules that forbid one thing to one role: each is compared on every use

Days = Annotated[tuple[Day, ...], Meta(min_length=1, max_length=6)]
Seconds = Annotated[int, Meta(ge=0, lt=2**40)]  # NumericDate


class OperatorKey(Message, frozen=True):
    """An operator and its Ed25519 public key."""

    name: Name
    key: Bytes32


class Anchor(Message, frozen=True):
    """What a mesh is: its id is the SHA-256 of these bytes, and every image is measured with them."""

    suite: int
    operators: Annotated[tuple[OperatorKey, ...], Meta(min_length=1, max_length=64)]
    threshold: Annotated[int, Meta(ge=1, le=64)]
    roots: Annotated[tuple[Hex, ...], Meta(min_length=1)]  # fingerprints a profile may draw on
    issued: Moment
    profile_floor: Count


class Operators(Message, frozen=True):
    """Who the operators are from now on; what the anchor named is version 0."""

    mesh: Bytes32
    version: Annotated[int, Meta(ge=1, le=CHANGES_OF_OPERATORS)]
    previous: Bytes32  # the hash of the document before; of the anchor for version 1
    operators: Annotated[tuple[OperatorKey, ...], Meta(min_length=1, max_length=64)]
    threshold: Annotated[int, Meta(ge=1, le=64)]
    reason: Annotated[str, Meta(min_length=1, max_length=LOUD_REASON_MOST)]
    time: Moment


class Profile(Document, frozen=True, kw_only=True):
    """What operators signed about the coordinator, for those who are not admitted yet."""

    mesh: Bytes32
    version: Count
    issued: Moment
    reference_values: ReferenceValues
    grace: Millis


class Order(Message, frozen=True):
    """The operators' word that one coordinator instance opens a term."""

    mesh: Bytes32
    term: Count
    instance: Bytes32
    policy_hash: Bytes32 | None
    log_head: Bytes32 | None
    revocations: Bytes32  # the hash of the roll: what has to be revoked before the first policy
    time: Moment


class RevocationOrder(Message, frozen=True):
    """The operators' word that an instance, chip, workload or measurement is out, or an instance shut off."""

    mesh: Bytes32
    kind: RevocationKind
    value: Annotated[str, Meta(min_length=1, max_length=256)]
    reason: Annotated[str, Meta(max_length=REASON_MOST)]
    time: Moment


class Renewal(Message, frozen=True):
    """The operators' word that they are there, and have decided nothing that a coordinator lacks."""

    mesh: Bytes32
    term: Count
    time: Moment


class BreakGlass(Message, frozen=True):
    """The operators' word that a role may do one thing more for some hours, and why."""

    mesh: Bytes32
    term: Count
    role: Name
    may: Annotated[str, Meta(pattern="^(submit|call)\\Z")]
    what: Name
    reason: Annotated[str, Meta(min_length=1, max_length=LOUD_REASON_MOST)]
    time: Moment
    until: Annotated[int, Meta(ge=0, lt=2**47)]  # year 6429: a time that can be written down


class Admission(Document, frozen=True, kw_only=True):
    """Who an instance is. CWT with `cnf`: useless without the keys that it names."""

    subject: Bytes32  # instance id
    expires: Seconds
    issued: Seconds
    signing_key: Bytes32
    kem_key: KemPublicKey
    mesh: Bytes32
    term: Count
    policy_version: Count
    kind: str
    workload: str
    platform: str
    roles: tuple[Name, ...]


class Condition(Document, frozen=True, kw_only=True):
    """When an explicit deny applies: where all that it names holds."""

    rule: Count  # its number in the policy, from 1
    arguments: dict[str, Any] | None = None
    days: Days | None = None
    hours: Hours | None = None
    until: Seconds | None = None

    def as_data(self) -> dict[str, Any]:
        """Return what is named, in a fixed order."""
        names = ("arguments", "days", "hours", "until")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Constraints(Document, frozen=True, kw_only=True):
    """What narrows a grant."""

    max_bytes: Annotated[int, Meta(ge=1)] | None = None
    per_minute: Annotated[int, Meta(ge=1)] | None = None
    arguments: dict[str, Any] | None = None  # a JSON Schema, of `schemas.narrowing`'s kind
    days: Days | None = None
    hours: Hours | None = None
    unless: Annotated[tuple[Condition, ...], Meta(max_length=MAX_CONDITIONS)] = ()


class Grant(Document, frozen=True, kw_only=True):
    """Role `subject` may do `action` with `what` at role `audience`."""

    subject: Name
    audience: Name
    expires: Seconds | None = None
    action: Annotated[str, Meta(pattern="^(send|submit|call|read|write)\\Z")]
    what: Name  # kind of message, task class, tool or context
    rule: Count  # its number in the policy, from 1
    mesh: Bytes32
    term: Count
    policy_version: Count
    issued: Seconds
    constraints: Constraints


# RFC 8392 (sub 2, aud 3, exp 4, iat 6), RFC 8747 (cnf 8); the rest are private claims.
ADMISSION_CLAIMS = {
    "subject": 2,
    "expires": 4,
    "issued": 6,
    "signing_key": -65537,
    "kem_key": -65538,
    "mesh": -65539,
    "term": -65540,
    "policy_version": -65541,
    "kind": -65542,
    "workload": -65543,
    "platform": -65544,
    "roles": -65545,
}
GRANT_CLAIMS = {
    "subject": 2,
    "audience": 3,
    "expires": 4,
    "issued": 6,
    "mesh": -65539,
    "term": -65540,
    "policy_version": -65541,
    "action": -65546,
    "what": -65547,
    "constraints": -65548,
    "rule": -65549,
}


class OpenEpoch(Message, frozen=True):
    """An epoch that is not closed: what a role opens or seals to."""

    group: Name
    epoch: Epoch
    token: Bytes16
    last_seal: Millis
    closes: Millis


class RoleKind(Message, frozen=True):
    """Whether a role is held by enclaves or by clients: decides who owns a task id."""

    role: Name
    kind: str


class ClassInfo(Message, frozen=True):
    """A task class as the policy defines it."""

    name: Name
    role: Name
    lifetime: Millis


class View(Message, frozen=True):
    """What one role needs to know, signed by the term's key."""

    term: Count
    role: Name
    version: Count
    policy_version: Count
    grants: tuple[bytes, ...]
    role_kinds: tuple[RoleKind, ...]
    classes: tuple[ClassInfo, ...]
    epochs: tuple[OpenEpoch, ...]
    tools: tuple[tuple[Name, Name], ...]  # tool, role that offers it
    grace: Millis  # of that policy: no beacon after it counts for who still goes by another


class Beacon(Message, frozen=True):
    """The coordinator's heartbeat: whoever holds none that is recent is not live."""

    term: Count
    sequence: Count
    time: Millis
    policy_version: Count
    policy_hash: Bytes32
    views_version: Count  # one more whenever any view changes
    changed_since: Count
    # Role id and version of every view that changed after views version `changed_since`.
    changed: Annotated[tuple[tuple[Bytes16, Count], ...], Meta(max_length=CHANGES_MOST)]
    log_size: Count
    log_root: Bytes32
    revoked_hash: Bytes32
    # Of late: a hint, and the hash decides.
    revoked: Annotated[tuple[Bytes32, ...], Meta(max_length=RECENTLY_REVOKED_MOST)]
    operators_version: Count
    operators_hash: Bytes32


class LogHead(Message, frozen=True):
    """What the audit log of a term is at one time: how many entries, and the root over them."""

    term: Count
    size: Count
    root: Bytes32
    time: Millis


class LogReceipt(Message, frozen=True):
    """Signed by the term's key: an event is in force and in the log at this index."""

    event: Bytes32
    log_index: Count
    term: Count
    policy_version: Count
