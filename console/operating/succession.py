"""A change of operators as a file: what it says, who signed it, and what the new ones have to sign again.

Pure. Whoever joins a mesh goes by its present operators alone, so with the change they sign anew what is in
force: the order of the term, the policy with its profile, and the revocations. All of it is one file, which
each signs in one act.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from console.documents import SignedPolicy, VerifiedPolicy, open_signed_policy
from console.operating import acts
from console.operating.acts import ORDER, REVOCATION, Act
from console.operating.roll import has_to_wait, in_words, takes_away
from console.policy import signatures
from console.policy.operators import majority
from schemas import codec
from schemas.codec import Message
from schemas.documents import OperatorKey, Operators, Order, RevocationOrder
from schemas.errors import MalformedError, PeerError, Reason, UsageError
from schemas.messages import Event, Millis, Payload, Succession
from schemas.policy import Policy, compiled, from_compiled
from sealing import council as councils
from sealing.council import Council
from sealing.errors import SealingError, SignatureError
from sealing.keys import SigningKey

MAX_CHANGE = 16 * 1024 * 1024


class Change(Message, frozen=True):
    """A change of operators, and what those who come after sign again with it."""

    step: Succession
    policy: Payload | None
    signed: SignedPolicy
    acts: tuple[Act, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Who has signed a change, and what is missing."""

    before: Council
    after: Council
    signed: tuple[str, ...]
    unproven: tuple[str, ...]  # who came and has not shown the new key
    partly: tuple[str, ...]  # who signed the change, and not all that is signed again with it
    former_missing: int
    new_missing: int  # of the change, or of what fewest have signed again

    @property
    def whole(self) -> bool:
        """Whether it can be published."""
        return not (self.unproven or self.former_missing or self.new_missing)


def replaced(council: Council, gone: Iterable[str], come: Sequence[OperatorKey]) -> tuple[OperatorKey, ...]:
    """Return the operators after some went and others came, in the order of names; or raise `UsageError`."""
    names = [operator.name for operator in council.operators]
    if unknown := sorted(set(gone) - set(names)):
        raise UsageError(f"{unknown[0]!r} is no operator of this mesh: there are {', '.join(names)}")
    rest = [operator for operator in council.operators if operator.name not in set(gone)]
    for each in come:
        if each.name in [operator.name for operator in rest]:
            raise UsageError(
                f"{each.name} is an operator already: to replace the key, --remove {each.name} too"
            )
    return tuple(sorted((*rest, *come), key=lambda operator: operator.name))


def make(
    council: Council,
    operators: tuple[OperatorKey, ...],
    threshold: int | None,
    *,
    reason: str,
    time: Millis,
    policy: Policy | None,
    again: Sequence[Act],
) -> Change:
    """Return a change that nobody has signed, or raise `UsageError`."""
    need = majority(len(operators)) if threshold is None else threshold
    if operators == council.operators and need == council.threshold:
        raise UsageError("nothing would change: name who goes or comes, or another threshold")
    if not majority(len(operators)) <= need <= len(operators):
        raise UsageError(
            f"a threshold of {need} among {len(operators)} operators: it has to be more than half, and no "
            f"more than all: {majority(len(operators))} to {len(operators)}"
        )
    named = Operators(
        council.mesh.id, council.version + 1, council.digest, operators, need, reason.strip(), time
    )
    unsigned = tuple(Act(each.kind, each.text, ()) for each in again)
    text = None if policy is None else compiled(policy)
    change = Change(Succession(codec.encode(named), ()), text, signatures.NOBODY, unsigned)
    try:
        after(council, decode(codec.encode(change), "it", time))
    except PeerError as error:
        raise UsageError(f"these operators cannot follow: {error}") from error
    return change


def decode(data: bytes, source: str, now: Millis) -> Change:
    """Read a change's file, or raise `UsageError` that names `source`."""
    try:
        change = codec.decode(data, Change)
        mesh = codec.decode(change.step.text, Operators).mesh
        policy = None if change.policy is None else from_compiled(change.policy)
        said = [acts.check(each, source) for each in change.acts]
        if any(each.roll for each in change.acts):
            raise MalformedError("a roll of an order that is in force already")
    except MalformedError as error:
        raise UsageError(f"{source} is damaged, or no change of operators") from error
    orders = sum(isinstance(each, Order) for each in said)
    if orders > 1 or not all(isinstance(each, Order) or takes_away(each) for each in said):
        raise UsageError(
            f"{source} has more signed again than the order in force and revocations: whoever wrote it "
            "wants signatures for something else"
        )
    if any(each.mesh != mesh for each in said) or (policy is not None and policy.mesh != mesh.hex()):
        raise UsageError(f"{source} has something of another mesh signed again")
    for each in said:
        if isinstance(each, RevocationOrder) and has_to_wait(each, now):
            raise UsageError(
                f"{source} has the {in_words(each)} of {signatures.date(each.time)} signed again, which no "
                "coordinator takes before its time"
            )
    return change


def usable(council: Council, change: Change) -> Change:
    """Return a change with those signatures alone of what is signed again that count.

    Whoever has the file can put others beside them, which nobody is to keep, nor send, nor be stopped by.
    """
    new = after(council, change)
    again = tuple(acts.usable(new, new.mesh, act) for act in change.acts)
    signed = signatures.NOBODY
    if change.policy is not None:
        signed = signatures.usable(new, new.mesh, change.signed, from_compiled(change.policy))
    return Change(change.step, change.policy, signed, again)


def before(council: Council, change: Change) -> Council:
    """Return the operators that a change replaces: those of now, unless it is in force already."""
    if change.step.text in [step.text for step in council.chain]:
        version = codec.decode(change.step.text, Operators).version
        return next(each for each in council.lineage if each.version == version - 1)
    return council


def after(council: Council, change: Change) -> Council:
    """Return the operators after a change, *whoever has signed it*; raise a `PeerError` for no next one."""
    return councils.would_be(before(council, change), change.step)


def sign(council: Council, change: Change, keys: Sequence[SigningKey]) -> Change:
    """Add signatures of operators, of before or after; those of after sign what is in force too."""
    old, new = before(council, change), after(council, change)
    step = councils.add_signatures(old, change.step, keys)
    coming = [key for key in keys if key.public in new.keys]
    again = tuple(acts.sign(new, new.mesh, act, coming) if coming else act for act in change.acts)
    signed = change.signed
    if change.policy is not None:
        policy = from_compiled(change.policy)
        for key in coming:
            signed = signatures.sign(new, new.mesh, key, policy, signed)
    return Change(step, change.policy, signed, again)


def join(council: Council, first: Change, second: Change) -> Change:
    """Return a change with the signatures of both, or raise."""
    if _texts(first) != _texts(second):
        raise SignatureError("they say different things: get the file that the others signed")
    old, new = before(council, first), after(council, first)
    made = {each.key: each for each in (*second.step.signatures, *first.step.signatures)}
    step = Succession(first.step.text, tuple(made[key] for key in sorted(made)))
    councils.signers_of(old, step)
    again = tuple(
        acts.join(new, new.mesh, one, other) for one, other in zip(first.acts, second.acts, strict=True)
    )
    signed = first.signed
    if first.policy is not None and second.signed.policy:
        signed = signatures.join(new, new.mesh, signed, second.signed, from_compiled(first.policy))
    return Change(step, first.policy, signed, again)


def progress(council: Council, change: Change) -> Progress:
    """Say who has signed a change, or raise a `PeerError` for a signature that is none."""
    old, new = before(council, change), after(council, change)
    keys = councils.signers_of(old, change.step)
    new_signers = {each.name for each in new.operators if each.key in keys}
    again = [set(acts.signers(new, new.mesh, act)) for act in change.acts]
    if change.policy is not None:
        again.append(_signers_of_policy(new, change))
    return Progress(
        old,
        new,
        tuple(sorted(new.name_of(key) or old.name_of(key) or "" for key in keys)),
        tuple(each.name for each in new.operators if each.key not in old.keys | keys),
        tuple(sorted(new_signers - new_signers.intersection(*again))),
        max(0, old.threshold - len(keys & old.keys)),
        max(0, new.threshold - min(len(each) for each in (new_signers, *again))),
    )


def _signers_of_policy(new: Council, change: Change) -> set[str]:
    if not change.signed.policy:
        return set()
    return set(signatures.read_signed(new, new.mesh, change.signed).signers)


def follow(council: Council, change: Change) -> Council:
    """Return the operators after a change that enough of both sides signed, or raise."""
    return councils.succeed(before(council, change), change.step)


def order_text(change: Change) -> bytes | None:
    """Return the order that a change has signed again, None if there was none in force."""
    return next((act.text for act in change.acts if act.kind == ORDER), None)


def policy_of(council: Council, change: Change) -> VerifiedPolicy | None:
    """Return the policy as the operators after a change signed it, or raise."""
    if change.policy is None:
        return None
    return open_signed_policy(council, council.mesh, codec.encode(change.signed))


def event_of(council: Council, change: Change, *, running: bool) -> Event:
    """Return the event of a whole change: to a coordinator that is running, or to one without a term."""
    if not running:
        return Event("operators", (), None, council.chain)
    order = next((act for act in change.acts if act.kind == ORDER), None)
    if order is None:
        raise SealingError(
            Reason.CONSTRAINT_VIOLATED,
            "the coordinator's term has an order, and this change did not sign it again",
        )
    policy = policy_of(council, change)
    profile = policy.signed.profile if policy else None
    return Event("operators", acts.event_of(council, council.mesh, order).documents, profile, council.chain)


def revocations_of(council: Council, change: Change) -> list[Event]:
    """Return the revocations as the operators after a change signed them."""
    return [acts.event_of(council, council.mesh, act) for act in change.acts if act.kind == REVOCATION]


def _texts(change: Change) -> tuple[object, ...]:
    return change.step.text, change.policy, tuple((act.kind, act.text) for act in change.acts)
