"""What operators are about to sign and send: orders and revocations, by what this console knows."""

from pathlib import Path

from console.documents import SignedPolicy, VerifiedPolicy, open_signed_policy
from console.operating import acts
from console.operating.acts import Act
from console.operating.desk import Desk, now
from console.operating.doubts import Known
from console.operating.kept import text_of
from console.operating.memory import RememberedError, check_policy
from console.operating.naming import of_kind
from console.operator import OperatorLine
from console.policy import files
from console.policy.signing_commands import signed_path
from schemas import codec
from schemas.documents import Order, RevocationOrder
from schemas.errors import MalformedError, Reason, UsageError
from schemas.limits import ROLL_MOST
from schemas.messages import Event, Roll
from sealing import cose
from sealing.errors import SealingError
from sealing.roll import EMPTY, open_roll, roll_hash


def revocation(desk: Desk, kind: str, value: str, reason: str) -> Act:
    """Return an unsigned revocation, or raise `UsageError`."""
    made = acts.act_of(RevocationOrder(desk.mesh.id, kind, of_kind(kind, value), reason, now()))
    refuse_untakable(made, f"a {kind} to revoke has 1 to 256 characters")
    return made


def refuse_untakable(made: Act, wanted: str) -> None:
    """Raise `UsageError` that says what is wanted where an act would be none that can be read."""
    try:
        acts.document(made)
    except MalformedError as error:
        raise UsageError(f"this can't be signed: {wanted}") from error


def order_for(desk: Desk, policy: VerifiedPolicy | None, instance: bytes, term: int | None) -> Act:
    """Return an order of the next term for an instance, that asks for every revocation that is known here."""
    number = term or desk.kept.memory().term + 1
    roll = desk.holding()
    if len(roll) > ROLL_MOST:
        raise UsageError(
            f"{len(roll)} revocations are known here, and an order asks for {ROLL_MOST} at most: remove "
            f"those of instances that are long gone from {desk.kept.root}, as every operator"
        )
    held = policy.policy_hash if policy else None
    return acts.act_of(Order(desk.mesh.id, number, instance, held, None, roll_hash(roll), now()), roll)


async def waiting_coordinator(desk: Desk, policy: VerifiedPolicy | None) -> bytes:
    """Return the instance of the coordinator that answers and has no term, or raise `UsageError`."""
    async with desk.line(policy.profile if policy else None) as line:
        if line.term:
            raise UsageError(f"the coordinator that answers serves term {line.term}: it needs no order")
        return line.coordinator


def sent_order(desk: Desk, line: OperatorLine) -> Event:
    """Return the order of a coordinator's term that was sent from here, or raise `UsageError`.

    Once operators have followed, it is the same order as these signed it with their change.
    """
    for event in desk.kept.orders():
        text = text_of(event)
        order = codec.decode(text, Order)
        if (order.instance, order.term) != (line.coordinator, line.term):
            continue
        shown = line.term_proof.order
        if not _is_of_now(desk, event) and cose.unverified_payload(shown[0]) == text:
            return Event(acts.ORDER, shown, None, ())
        return event
    raise UsageError(
        f"the coordinator that answers serves term {line.term}, which was not ordered from here: it needs no "
        "order, and `sealbus policy publish FILE` puts a policy in force"
    )


def _is_of_now(desk: Desk, order: Event) -> bool:
    return acts.is_whole(desk.council, desk.mesh, Act(acts.ORDER, text_of(order), order.documents))


def roll_of(desk: Desk, order: Event) -> Roll:
    """Return the roll of an order that was sent from here, or raise `UsageError`."""
    named = codec.decode(text_of(order), Order).revocations
    event = desk.kept.roll(named)
    if event is None and named != EMPTY:
        raise UsageError(
            f"the list of revocations that the order names is gone from {desk.kept.root}: send the order's "
            "file again, or start a new coordinator"
        )
    return open_roll(event.documents[0], named) if event else ()


def check_order(desk: Desk, act: Act, policy: VerifiedPolicy | None) -> None:
    """Raise if an order that is about to be sent names another policy than was seen in force."""
    memory, order = desk.kept.memory(), codec.decode(act.text, Order)
    if policy is not None:
        check_policy(memory, policy.policy, policy.policy_hash)
    named = {None, memory.policy_hash, policy.policy_hash if policy else None}
    if memory.policy_version and order.policy_hash not in named:
        raise RememberedError(
            Reason.STATE_ROLLED_BACK,
            f"the order names the policy {(order.policy_hash or b'').hex()}, and version "
            f"{memory.policy_version} was seen in force here: give a later one that it names with "
            "--policy; nothing was sent",
        )


def served_term(desk: Desk, named: int | None) -> int:
    """Return the term that a document is to be of: that named, else the one that was seen here last.

    Raise `UsageError` where none was: what names term 0 would be signed by everybody and taken by nobody.
    """
    if not (term := named or desk.kept.memory().term):
        raise UsageError(
            "no term was seen here, and this is good in one term only: see the coordinator's first with "
            "`sealbus mesh status`, or say which with --term; nothing was written"
        )
    return term


def read_policy(desk: Desk, file: Path | None) -> VerifiedPolicy | None:
    """Return the policy that a file holds or, without one, that was last seen in force."""
    data = desk.kept.policy() if file is None else files.read(signed_path(file), files.MAX_SIGNED)
    try:
        source = str(signed_path(file)) if file else "the policy that was seen in force"
        return None if data is None else open_signed_policy(desk.council, desk.mesh, data, source)
    except SealingError as error:
        if file is not None:
            raise
        raise UsageError(
            f"the policy that was seen in force is not signed by the operators of now ({error}): name it as "
            "they signed it with --policy"
        ) from error


def known(desk: Desk, policy: VerifiedPolicy | None) -> Known:
    """Return what this console knows of what is in force; `policy`: what was named besides."""
    return Known(
        desk.kept.memory(),
        {text_of(event) for event in desk.kept.orders()},
        desk.holding(),
        policy.policy_hash if policy else None,
        desk.waiting(),
    )


def keep_policy(desk: Desk, policy: VerifiedPolicy | None) -> None:
    """Remember a policy that a coordinator acknowledged."""
    if policy is not None:
        signed: SignedPolicy = policy.signed
        desk.kept.keep_policy(codec.encode(signed))
