"""The bodies of admission, sessions, tasks and results (docs/protocol.md sections 1 to 5).

Arrays of fixed length; every byte string has its exact or greatest size. Times are milliseconds
since 1970 by the coordinator's clock.
"""

from typing import Annotated, Any

from msgspec import Meta

from schemas.codec import Message
from schemas.evidence import Endorsements, Evidence
from schemas.limits import (
    MAX_DOCUMENT,
    MAX_ENTRY,
    MAX_HANDSHAKE,
    MAX_MESSAGE,
    MAX_REVOKED_PAGES,
    ROLL_MOST,
)

Bytes8 = Annotated[bytes, Meta(min_length=8, max_length=8)]
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
KemPublicKey = Annotated[bytes, Meta(min_length=1216, max_length=1216)]  # ML-KEM-768 || X25519
Signed = Annotated[bytes, Meta(max_length=MAX_DOCUMENT)]  # COSE_Sign1 as received
SignedByOperators = Annotated[tuple[Signed, ...], Meta(max_length=64)]
Bytes64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
MAX_NAME = 64  # characters
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, pattern="^[a-z0-9][a-z0-9._-]*\\Z")]
Millis = Annotated[int, Meta(ge=0, le=2**63 - 1)]
LAST_MOMENT = 253_402_300_799_999  # of the year 9999: whatever is later can't be written as a date
Moment = Annotated[int, Meta(ge=0, le=LAST_MOMENT)]  # in what people sign
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Epoch = Annotated[int, Meta(ge=0, lt=2**32)]  # a u32 in every header
Payload = Annotated[bytes, Meta(max_length=MAX_MESSAGE)]

CHANGES_OF_OPERATORS = 32  # in a mesh's life: whoever joins reads all of them
CHAIN_BYTES = 32 * 1024  # of all of them: they stand in every offer

# What a revocation names: an instance by its id, a chip, a workload by its name, whatever measures as a
# workload did by the workload id; an instance that may finish what it has and takes nothing new, and one
# that takes things again.
INSTANCE = "instance"
CHIP = "chip"
WORKLOAD = "workload"
MEASUREMENT = "measurement"
QUARANTINE = "quarantine"
LIFT = "lift"
RevocationKind = Annotated[str, Meta(pattern="^(instance|chip|workload|measurement|quarantine|lift)\\Z")]
# Beside those an entry of the revoked set may name nobody, and tell what was given outside the policy.
BREAK_GLASS = "break-glass"
ListedKind = Annotated[str, Meta(pattern="^(instance|chip|workload|measurement|quarantine|break-glass)\\Z")]

# Kinds of party in credentials and admissions.
ENCLAVE = "enclave"
CLIENT = "client"
OPERATOR = "operator"


class Signature(Message, frozen=True):
    """An Ed25519 signature and the key that made it."""

    key: Bytes32
    signature: Bytes64


class Succession(Message, frozen=True):
    """A change of operators: the text of `Operators`, once, and who signed it, in the order of their keys."""

    text: Annotated[bytes, Meta(max_length=16 * 1024)]
    signatures: Annotated[tuple[Signature, ...], Meta(max_length=128)]


# Digests of the revocations that are to hold before a term's first policy, in their order.
Roll = Annotated[tuple[Bytes32, ...], Meta(max_length=ROLL_MOST)]

Chain = Annotated[tuple[Succession, ...], Meta(max_length=CHANGES_OF_OPERATORS)]  # from the anchor on


class Hello(Message, frozen=True):
    """The first word of anyone who is not admitted: it says nothing but a challenge."""

    suite: int
    mesh: Bytes32
    nonce: Bytes32


class Offer(Message, frozen=True):
    """The coordinator's Evidence for a tick of hellos, and what the operators signed about it."""

    hello: Bytes32
    index: Count
    path: Annotated[tuple[Bytes32, ...], Meta(max_length=32)]
    count: Count
    evidence: Evidence
    endorsements: Endorsements
    signing_key: Bytes32
    kem_key: KemPublicKey
    profile: SignedByOperators
    term: Count
    term_record: SignedByOperators | None
    operators: Chain


class Credential(Message, frozen=True):
    """What stands in an init to the coordinator, where peers show an admission."""

    kind: Annotated[str, Meta(max_length=16)]
    signing_key: Bytes32
    kem_key: KemPublicKey
    roles: Annotated[tuple[Name, ...], Meta(max_length=16)]
    join_token: Annotated[bytes, Meta(max_length=256)] | None


class CoordinatorCredential(Message, frozen=True):
    """The keys that the coordinator's offer bound to its Evidence."""

    signing_key: Bytes32
    kem_key: KemPublicKey


class Init(Message, frozen=True):
    """First flight of a session, signed by the initiator and sealed to the responder."""

    credential: Annotated[bytes, Meta(max_length=MAX_HANDSHAKE)]
    responder: Bytes32
    context: Bytes32
    ephemeral: KemPublicKey
    secret: Bytes32
    session_id: Bytes8
    role: Bytes16 | None
    responder_role: Bytes16 | None
    beacon: Annotated[bytes, Meta(max_length=MAX_HANDSHAKE)] | None


class Accept(Message, frozen=True):
    """Second flight, signed by the responder and sealed to the ephemeral key."""

    init_hash: Bytes32
    initiator: Bytes32
    responder: Bytes32
    credential: Annotated[bytes, Meta(max_length=MAX_HANDSHAKE)]
    secret: Bytes32
    session_id: Bytes8
    state: Annotated[bytes, Meta(max_length=MAX_HANDSHAKE)] | None  # State, or the last beacon as signed


class State(Message, frozen=True):
    """Where the coordinator stands, in its accept: sets the clock, refused below what was witnessed."""

    term: Count
    policy_version: Count
    policy_hash: Bytes32
    log_size: Count
    log_root: Bytes32
    time: Millis
    challenge: Bytes32
    operators_version: Count
    operators_hash: Bytes32


class Body(Message, frozen=True):
    """What a session frame carries."""

    purpose: Annotated[str, Meta(max_length=16)]
    request: Bytes16
    fields: Any


class EvidenceAnswer(Message, frozen=True):
    """Evidence over this session's challenge and transcript; a client sends none.

    An operator shows the changes by which it is one: a coordinator without a term knows the anchor alone.
    """

    evidence: Evidence | None
    endorsements: Endorsements
    operators: Chain


class MemberPackage(Message, frozen=True):
    """An epoch's secret, for a member of the group."""

    group: Name
    epoch: Epoch
    secret: Bytes32
    opens: Millis
    last_seal: Millis
    closes: Millis


Handle = Annotated[bytes, Meta(min_length=76, max_length=76)]


class SenderPackage(Message, frozen=True):
    """A handle and its key, for one process that may seal to a role without being of it."""

    group: Name
    epoch: Epoch
    handle: Handle
    key: Bytes32
    token: Bytes16
    opens: Millis
    last_seal: Millis
    closes: Millis


class Revocation(Message, frozen=True):
    """One entry of the revoked set. A `quarantine` is one too, so that no beacon counts without it."""

    kind: ListedKind
    value: Annotated[str, Meta(max_length=256)]  # hex id of an instance or workload, chip id, workload name
    time: Millis
    instances: tuple[Bytes32, ...]  # the admitted instances that it names


class Holdings(Message, frozen=True):
    """Everything an admitted party holds besides its admission: swapped whole.

    `revoked` is the first of so many pages of the revoked set; the others are got one by one.
    """

    members: tuple[MemberPackage, ...]
    senders: tuple[SenderPackage, ...]
    views: tuple[Signed, ...]
    revoked: tuple[Revocation, ...]
    beacon: Signed
    revoked_pages: Annotated[int, Meta(ge=1, le=MAX_REVOKED_PAGES)]
    operators: Chain


class RevokedPage(Message, frozen=True):
    """A further page of the revoked set; an entry that fits on none goes on on the next."""

    revoked: tuple[Revocation, ...]


class Admitted(Message, frozen=True):
    """The coordinator's yes."""

    admission: Signed
    holdings: Holdings


class Refused(Message, frozen=True):
    """The coordinator's no, with reason codes."""

    reasons: tuple[str, ...]
    detail: Annotated[str, Meta(max_length=512)]


class Get(Message, frozen=True):
    """Ask the coordinator for something.

    `directory` (arg: role), `holdings`, `revoked` (arg: page), `log` (arg: index), `log-proof` (arg: sizes);
    operators for `status` (arg: page), `policy` and `break-glass` (arg: number), each as it was signed, and
    `revocations` (arg: index).
    """

    what: Name
    arg: Annotated[str, Meta(max_length=128)]


class Directory(Message, frozen=True):
    """Admissions of the live instances that hold a role."""

    admissions: tuple[Signed, ...]


class LogPage(Message, frozen=True):
    """Entries of the audit log from the index that was asked for, and a signed head that covers them."""

    head: Signed
    entries: tuple[Annotated[bytes, Meta(max_length=MAX_ENTRY)], ...]


class LogProof(Message, frozen=True):
    """That the smaller of two sizes of the audit log is the beginning of the larger (RFC 9162 2.1.4)."""

    path: Annotated[tuple[Bytes32, ...], Meta(max_length=128)]


class PartyStatus(Message, frozen=True):
    """One admitted party, as the registry has it."""

    instance: Bytes32
    kind: str
    roles: tuple[Name, ...]
    workload: str
    workload_id: bytes  # empty: not an enclave
    platform: str
    chips: tuple[str, ...]  # all that it named while it is remembered, the last one last
    evidence: bytes  # SHA-256 of the Evidence that it was admitted by; empty: not an enclave
    expires: Millis  # of its admission
    state: str  # `admitted`, `quarantined`, `must-prove`


class MeshStatus(Message, frozen=True):
    """What a coordinator tells operators: where it stands, and one of so many pages of its registry."""

    term: Count
    policy_version: Count
    policy_hash: Bytes32
    log_size: Count
    log_root: Bytes32
    time: Millis
    break_glass: tuple[str, ...]  # what is given outside the policy at present, in words
    operators_version: Count
    operators_hash: Bytes32
    lease_until: Millis | None  # when it falls silent unless operators renew; None: the policy asks for none
    revoked: Count
    pages: Count
    parties: tuple[PartyStatus, ...]


class Time(Message, frozen=True):
    """The coordinator's time, in answer to a request of the asker's own."""

    time: Millis


class Event(Message, frozen=True):
    """A document that the operators signed: `order`, `policy`, `revocation`, `renewal`, `break-glass`.

    Or `operators`: all changes of them, with the term's order and the profile as the new ones signed them.
    Or `roll`: one document, the roll as CBOR, which the order names by its hash; nobody signs it.
    """

    kind: Annotated[str, Meta(max_length=16)]
    documents: SignedByOperators
    profile: SignedByOperators | None  # comes with a policy
    operators: Chain


class RevocationPage(Message, frozen=True):
    """What operators revoked in this term, as they signed it, from an index on, of so many."""

    total: Count
    signed: tuple[SignedByOperators, ...]


class Receipt(Message, frozen=True):
    """The coordinator's signed word that an event is in force."""

    event: Bytes32
    log_index: Count


class TaskBody(Message, frozen=True):
    """What a role frame carries: readable by the sender and the members of the role."""

    task_class: Name
    task_id: Bytes16
    issued: Millis
    expires: Millis
    reply_key: Bytes32
    reply_epoch: Epoch
    reply_to: Bytes16
    payload: Payload


class ResultBody(Message, frozen=True):
    """What a result frame carries."""

    worker: Bytes32
    reason: Annotated[str, Meta(max_length=64)]  # empty: done
    detail: Annotated[str, Meta(max_length=512)]
    value: Payload
