"""What an entry of the audit log says (docs/protocol.md section 9.1): names, reasons, digests, no contents.

Every decision has its own facts, so that nobody can leave one out or slip one in. Digests, keys and
instances are text in lower-case hexadecimal; an empty text says that there is none.
"""

from typing import Annotated

from msgspec import Meta

from schemas import codec
from schemas.codec import Message
from schemas.errors import MalformedError
from schemas.limits import MAX_ENTRY
from schemas.messages import Bytes32, Count, KemPublicKey, Millis, Name, SignedByOperators

Text = Annotated[str, Meta(max_length=256)]
Fact = Text | Count | Annotated[tuple[Text, ...], Meta(max_length=64)]

FACTS: dict[str, tuple[str, ...]] = {
    "term": ("event", "log_head"),
    "policy": ("event", "version", "hash"),
    "grants": ("version", "count", "digest"),
    "revoked": ("event", "kind", "value", "reason"),
    "quarantined": ("event", "kind", "value", "reason"),
    "lifted": ("event", "kind", "value", "reason"),
    "renewed": ("event", "signed"),
    "lease-lapsed": ("ended",),
    "glass-broken": ("event", "right", "until", "reason"),
    "glass-ended": ("right", "until"),
    "operators": ("event", "version", "hash", "names", "threshold", "reason"),
    "fork": ("version", "held", "other"),
    "refused-event": ("event", "asked", "instance", "reason"),
    "admitted": ("instance", "kind", "roles", "workload", "platform", "expires"),
    "refused": ("asked", "instance", "reason"),
    "refused-more": ("asked", "reason", "count"),
    "must-prove": ("instance",),
    "expired": ("instance",),
    "evicted": ("instance", "roles", "cause"),
    "turned": ("group", "epoch", "cause"),
}

# Why a party was put out: operators named it, and it stays out; a policy does not name it any more; it did
# not prove again in time; it is no operator any more.
BY_REVOCATION, BY_POLICY, UNPROVEN, SUCCEEDED = "revoked", "policy", "unproven", "operators"


class AuditEntry(Message, frozen=True):
    """One decision. `term` is 0 before the operators' order; `index` counts from 0 in each coordinator."""

    term: Count
    index: Count
    time: Millis
    decision: Name
    facts: Annotated[dict[Name, Fact], Meta(max_length=16)]


def open_entry(data: bytes) -> AuditEntry:
    """Return an entry that says what its decision has to say, or raise `MalformedError`."""
    if len(data) > MAX_ENTRY:
        raise MalformedError("an entry of the audit log that is too long")
    entry = codec.decode(data, AuditEntry)
    if set(entry.facts) != set(FACTS.get(entry.decision, ())) or entry.decision not in FACTS:
        raise MalformedError("an entry of the audit log with other facts than its decision has")
    return entry


def as_plain(entry: AuditEntry) -> dict[str, object]:
    """Return an entry as JSON takes it: the facts beside what every entry has."""
    return {
        "term": entry.term,
        "index": entry.index,
        "time": entry.time,
        "decision": entry.decision,
        **{name: list(fact) if isinstance(fact, tuple) else fact for name, fact in entry.facts.items()},
    }


class TermProof(Message, frozen=True):
    """Whose key signs the heads of a term: the operators' order names the instance of exactly these keys."""

    order: SignedByOperators
    signing_key: Bytes32
    kem_key: KemPublicKey
