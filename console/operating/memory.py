"""What an operator's console has seen of one mesh, and does not let a coordinator go back behind.

Pure. Terms, policy versions and, within a term, the log only rise; one key a term, one hash a version. What
a coordinator shows is checked before anything is sent to it, and remembered afterwards.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from schemas.codec import Message
from schemas.errors import PeerError, Reason
from schemas.messages import Bytes32, Count
from schemas.policy import Policy

TERMS_KEPT = 1_024  # the newest: their keys are what proves two coordinators of one term
NO_HASH = bytes(32)


class TermKey(Message, frozen=True):
    """The one key of a term."""

    term: Count
    key: Bytes32


class Memory(Message, frozen=True):
    """What was seen last, and everything below it."""

    mesh: Bytes32
    term: Count
    keys: tuple[TermKey, ...]
    policy_term: Count  # in which `policy_version` was seen: the next term's coordinator begins without
    policy_version: Count
    policy_hash: Bytes32
    profile_version: Count
    log_size: Count  # the highest that was seen of the log of `term`; a receipt tells no root
    log_root: Bytes32 | None  # of the log's first `root_size` entries; None: no root was seen
    root_size: Count = 0  # 0: of all `log_size`, as files had it that were written before this field
    operators_version: Count = 0  # of changes of operators that were seen
    operators_hash: Bytes32 = NO_HASH
    order_hash: Bytes32 = NO_HASH  # of the order of `term`; none: it was not seen
    revocations: Count = 0  # of `term`, in the order in which its coordinator took them, that are known

    @property
    def head(self) -> tuple[int, bytes] | None:
        """The last size of the log with a known root: whatever comes later has to have grown from it."""
        size = self.root_size or self.log_size
        return (size, self.log_root) if self.log_root is not None and size else None


def empty(mesh: bytes) -> Memory:
    """Return the memory of a console that has not seen its mesh yet."""
    return Memory(mesh, 0, (), 0, 0, NO_HASH, 0, 0, None)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a coordinator, whose Evidence was accepted, showed."""

    term: int
    key: bytes
    policy_version: int
    policy_hash: bytes
    log_size: int
    log_root: bytes | None
    profile_version: int = 0
    operators_version: int = 0
    operators_hash: bytes = NO_HASH
    order_hash: bytes = NO_HASH
    revocations: int = 0


class RememberedError(PeerError):
    """A coordinator showed something older than, or other than, what this console has seen."""


def check(memory: Memory, seen: Sighting) -> None:
    """Raise `RememberedError` if a coordinator went back, or if there are two of it.

    1. The term only rises, and each has one key. A coordinator without a term has nothing to compare yet.
    2. The policy only rises, and each version has one hash. A new term begins without.
    3. Within a term the log only grows, and has one root for each size.
    4. So do changes of operators.
    """
    if not seen.term:
        return
    # 1.
    if seen.term < memory.term:
        raise RememberedError(
            Reason.STATE_ROLLED_BACK,
            f"the coordinator shows term {seen.term}, and term {memory.term} was seen here: one that was "
            "replaced answers, or the broker brings you to it",
        )
    known = next((each.key for each in memory.keys if each.term == seen.term), seen.key)
    if known != seen.key:
        raise RememberedError(
            Reason.EQUIVOCATION,
            f"term {seen.term} has two keys, {known.hex()}, seen here, and {seen.key.hex()}: two "
            "coordinators serve one term, so trust neither and find out who signed a second order",
        )
    # 2.
    began = seen.policy_version == 0 and memory.policy_term < seen.term
    if seen.policy_version < memory.policy_version and not began:
        raise RememberedError(
            Reason.STATE_ROLLED_BACK,
            f"the coordinator shows policy version {seen.policy_version}, and version "
            f"{memory.policy_version} was seen here",
        )
    same_version = 0 < seen.policy_version == memory.policy_version
    if same_version and seen.policy_hash != memory.policy_hash:
        raise RememberedError(
            Reason.FORKED,
            f"two policies of version {seen.policy_version}: {memory.policy_hash.hex()} was seen here, and "
            f"the coordinator shows {seen.policy_hash.hex()}",
        )
    # 4.
    _check_operators(memory, seen)
    # 3.
    if seen.term != memory.term:
        return
    if seen.log_size < memory.log_size:
        raise RememberedError(
            Reason.STATE_ROLLED_BACK,
            f"the coordinator's log has {seen.log_size} entries, and {memory.log_size} were seen here",
        )
    known_head = memory.head
    if known_head and seen.log_root and seen.log_size == known_head[0] and seen.log_root != known_head[1]:
        raise RememberedError(
            Reason.EQUIVOCATION,
            f"the coordinator's log of {seen.log_size} entries has another head than the one seen here",
        )


def _check_operators(memory: Memory, seen: Sighting) -> None:
    if seen.operators_version < memory.operators_version:
        raise RememberedError(
            Reason.STATE_ROLLED_BACK,
            f"the coordinator goes by operators of version {seen.operators_version}, and version "
            f"{memory.operators_version} was seen here: start a new coordinator, and order its term",
        )
    same = 0 < seen.operators_version == memory.operators_version
    if same and seen.operators_hash != memory.operators_hash:
        raise RememberedError(
            Reason.FORKED,
            f"two sets of operators of version {seen.operators_version}: {memory.operators_hash.hex()} was "
            f"seen here, and the coordinator goes by {seen.operators_hash.hex()}",
        )


def check_policy(memory: Memory, policy: Policy, digest: bytes) -> None:
    """Raise `RememberedError` for a policy that is about to be sent and does not follow what was seen.

    It was overtaken, or is a second one, or leaves out a version after the one that it names.
    """
    version = policy.version
    if version < memory.policy_version:
        raise RememberedError(
            Reason.STATE_ROLLED_BACK,
            f"this is policy version {version}, and version {memory.policy_version} was seen in force here: "
            "name that or a later one; nothing was sent",
        )
    if version == memory.policy_version and digest != memory.policy_hash:
        raise RememberedError(
            Reason.FORKED,
            f"two policies of version {version} are signed: {memory.policy_hash.hex()} was seen in force "
            f"here, and this is {digest.hex()}; nothing was sent",
        )
    follows = memory.policy_version and policy.predecessor == memory.policy_hash.hex()
    if follows and version != memory.policy_version + 1:
        raise RememberedError(
            Reason.VERSION_GAP,
            f"this is policy version {version}, and names version {memory.policy_version} as the one before: "
            f"sign it as version {memory.policy_version + 1}; nothing was sent",
        )


def advance(memory: Memory, seen: Sighting) -> Memory:
    """Return the memory with a sighting in it, or raise what `check` does."""
    check(memory, seen)
    return learn(memory, seen)


def learn(memory: Memory, seen: Sighting) -> Memory:
    """Return the memory with what a receipt told of a coordinator that was checked; it only rises.

    Nothing is refused: another console may have remembered more since.
    """
    if not seen.term or seen.term < memory.term:
        return memory
    keys = {each.term: each for each in memory.keys} | {seen.term: TermKey(seen.term, seen.key)}
    grown = replace(
        memory,
        term=seen.term,
        keys=tuple(keys[term] for term in sorted(keys)[-TERMS_KEPT:]),
        profile_version=max(memory.profile_version, seen.profile_version),
    )
    if seen.operators_version > memory.operators_version:
        # Those who followed sign again what is in force: it is asked for anew.
        grown = replace(
            grown,
            operators_version=seen.operators_version,
            operators_hash=seen.operators_hash,
            revocations=0,
        )
    if seen.term > memory.term:
        grown = replace(
            grown, log_size=seen.log_size, log_root=None, root_size=0, order_hash=NO_HASH, revocations=0
        )
    if seen.revocations > grown.revocations:
        grown = replace(grown, revocations=seen.revocations)
    if seen.order_hash != NO_HASH:
        grown = replace(grown, order_hash=seen.order_hash)
    head = grown.head
    size = max(grown.log_size, seen.log_size)
    if seen.log_root is not None and seen.log_size == size and (head is None or head[0] < size):
        head = (size, seen.log_root)
    grown = replace(
        grown, log_size=size, log_root=head[1] if head else None, root_size=head[0] if head else 0
    )
    if seen.policy_version < max(memory.policy_version, 1):
        return grown
    return replace(
        grown,
        policy_term=seen.term,
        policy_version=seen.policy_version,
        policy_hash=seen.policy_hash,
    )
