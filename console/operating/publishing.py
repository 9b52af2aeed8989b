"""Bringing what operators signed to a coordinator. Nothing counts as done without its signed receipt.

The order of a term is followed by its roll, which says what is to be revoked, and by every revocation that a
coordinator ever acknowledged, because coordinators keep them in memory; only then by the policy, without
which nobody is admitted, and which no coordinator takes before all of the roll.
"""

from collections.abc import Iterable

from agent_runtime.joining import AdmissionRefusedError
from console.documents import SignedPolicy
from console.operator import OperatorLine
from schemas.documents import LogReceipt, RevocationOrder
from schemas.errors import Reason
from schemas.messages import Event
from sealing.council import Council
from sealing.documents import open_act
from sealing.errors import SealingError


def policy_event(signed: SignedPolicy) -> Event:
    """Return the event that puts a policy in force."""
    return Event("policy", signed.policy, signed.profile, ())


def is_signed(council: Council, revocation: Event) -> bool:
    """Tell whether enough operators of now have signed a revocation."""
    try:
        open_act(council, council.mesh, revocation.documents, RevocationOrder)
    except SealingError:
        return False
    return True


async def open_term(
    line: OperatorLine,
    order: Event,
    roll: Event | None,
    revocations: Iterable[Event],
    policy: SignedPolicy | None,
) -> LogReceipt:
    """Open a coordinator's term, and hand it what its predecessor knew; return the receipt of the order."""
    if roll is not None:
        line.keep(roll)  # an order whose roll is lost opens a term that stays empty
    receipt = await line.send(order)
    await hand_over(line, roll, revocations, policy)
    return receipt


async def hand_over(
    line: OperatorLine,
    roll: Event | None,
    revocations: Iterable[Event],
    policy: SignedPolicy | None,
) -> None:
    """Tell a coordinator roll and revocations, and then its policy, unless it has that or a later one."""
    if roll is not None:
        await line.send(roll)
    await tell(line, revocations)
    if policy is None:
        return
    try:
        await line.send(policy_event(policy))
    except AdmissionRefusedError as error:
        # Operators who were quicker have published its successor.
        if error.reason is not Reason.VERSION_NOT_NEWER:
            raise


async def tell(line: OperatorLine, revocations: Iterable[Event]) -> int:
    """Tell a coordinator revocations of before; return how many of them it took."""
    return len(await bring(line, revocations))


async def bring(line: OperatorLine, revocations: Iterable[Event]) -> list[tuple[Event, LogReceipt]]:
    """Bring a coordinator revocations of before; return those that it took, with its receipts."""
    taken = []
    for revocation in revocations:
        try:
            taken.append((revocation, await line.send(revocation)))
        except AdmissionRefusedError as error:
            # A quarantine, or its end: operators elsewhere have said otherwise since.
            if error.reason is not Reason.REPLAYED:
                raise
    return taken
