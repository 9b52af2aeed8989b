"""Revocations on their way to a coordinator: whom each names is looked up before, and told after.

A revocation of what nobody has is in force like any other, so a slip of the hand would look like success:
it is sent only if that is meant.
"""

from collections.abc import Sequence
from typing import NamedTuple

from console.operating import acts
from console.operating.acts import Act
from console.operating.desk import Desk
from console.operating.naming import Registry, named, nobody
from console.operator import OperatorLine
from schemas import codec
from schemas.documents import LogReceipt, RevocationOrder
from schemas.errors import UsageError
from schemas.messages import LIFT, QUARANTINE, Event


class Struck(NamedTuple):
    """A revocation that is in force, and how many of those who were admitted it struck."""

    event: Event
    receipt: LogReceipt
    order: RevocationOrder
    instances: int

    def __str__(self) -> str:
        many = "1 instance" if self.instances == 1 else f"{self.instances} instances"
        if not self.instances:
            return f"  it struck nobody: no admitted instance has the {self.order.kind} {self.order.value}"
        if self.order.kind == QUARANTINE:
            return f"  {many} will take nothing new"
        if self.order.kind == LIFT:
            return f"  {many} will take things again"
        return f"  {many} put out"


async def strike(line: OperatorLine, desk: Desk, made: Sequence[Act], *, anyway: bool) -> list[Struck]:
    """Send revocations that enough operators signed; raise `UsageError`, and send none, if one names nobody.

    `anyway` sends it nevertheless: what is not admitted now is not admitted later either.
    """
    before = (await line.status()).parties
    orders = [codec.decode(act.text, RevocationOrder) for act in made]
    listed = await line.revoked()
    for order in () if anyway else orders:
        if not named(before, order.kind, order.value):
            text = nobody(before, listed, order.kind, order.value)
            raise UsageError(f"{text}. Nothing was sent: --anyway revokes it nevertheless")
    receipts = [
        (event, await line.send(event))
        for event in (acts.event_of(desk.council, desk.mesh, act) for act in made)
    ]
    # What the coordinator lists is what it put out: also others whose image is the same.
    out = {(each.kind, each.value): set(each.instances) for each in await line.revoked()}
    were = {each.instance for each in before}
    return [
        Struck(event, receipt, order, len(_struck(order, before, were, out)))
        for (event, receipt), order in zip(receipts, orders, strict=True)
    ]


def _struck(
    order: RevocationOrder, before: Registry, were: set[bytes], out: dict[tuple[str, str], set[bytes]]
) -> set[bytes]:
    if order.kind == LIFT:  # what is lifted is listed no more
        return {each.instance for each in named(before, LIFT, order.value)}
    return were & out.get((order.kind, order.value), set())
