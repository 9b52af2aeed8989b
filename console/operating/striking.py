"""Revocations on their way to a coordinator: whom each names is looked up before, and told after.

A revocation of what nobody has is in force like any other, so a slip of the hand would look like success:
it is sent only if that is meant.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from agent_runtime import RefusedError
from console.operating import acts
from console.operating.acts import Act
from console.operating.asking import policy_in_force
from console.operating.desk import Desk
from console.operating.naming import Registry, named, nobody
from console.operating.tainting import Measured, measured
from console.operator import NO_TERM, OperatorLine
from schemas import codec
from schemas.documents import LogReceipt, RevocationOrder
from schemas.errors import Reason, UsageError
from schemas.messages import LIFT, MEASUREMENT, QUARANTINE, Event
from schemas.words import count, sentence


class Struck(NamedTuple):
    """A revocation that is in force, and how many of those who were admitted it struck."""

    event: Event
    receipt: LogReceipt
    order: RevocationOrder
    instances: int
    meant: Measured | None = None  # what the id of a measurement stands for

    def __str__(self) -> str:
        lines = [self._said()]
        if self.meant is not None and self.meant.note:
            lines.append(f"  {self.meant}: {self.meant.note}")
        return "\n".join(lines)

    def _said(self) -> str:
        many = count(self.instances, "instance")
        if not self.instances and self.meant is not None and self.meant.is_pinned:
            return f"  nobody is put out, and none comes: {self.meant}, of which nothing is admitted"
        if not self.instances:
            return f"  it struck nobody: no admitted instance has the {self.order.kind} {self.order.value}"
        if self.order.kind == QUARANTINE:
            return f"  {many} will take nothing new"
        if self.order.kind == LIFT:
            return f"  {many} will take things again"
        of = f" of {self.meant}" if self.meant is not None and self.meant.workload else ""
        return f"  {many}{of} put out"


async def strike(line: OperatorLine, desk: Desk, made: Sequence[Act], *, anyway: bool) -> list[Struck]:
    """Send revocations that enough operators signed; raise `UsageError`, and send none, if one names nobody.

    `anyway` sends it nevertheless: what is not admitted now is not admitted later either. What the policy
    pins is no slip of the hand, so a taint of it is sent whether or not anything of it runs.
    """
    if not line.term:
        raise RefusedError(Reason.TERM_NOT_ACCEPTED, NO_TERM)
    before = (await line.status()).parties
    orders = [codec.decode(act.text, RevocationOrder) for act in made]
    listed = await line.revoked()
    known: dict[str, Measured] = {}
    if any(order.kind == MEASUREMENT for order in orders):
        known = {each.value: each for each in measured(before, await policy_in_force(line))}
    pinned = {(MEASUREMENT, value) for value, each in known.items() if each.is_pinned}
    for order in () if anyway else orders:
        if (order.kind, order.value) not in pinned and not named(before, order.kind, order.value):
            text = nobody(before, listed, order.kind, order.value)
            raise UsageError(f"{sentence(text)} Nothing was sent: --anyway sends it nevertheless")
    receipts = [
        (event, await line.send(event))
        for event in (acts.event_of(desk.council, desk.mesh, act) for act in made)
    ]
    # What the coordinator lists is what it put out: also others whose image is the same.
    out = {(each.kind, each.value): set(each.instances) for each in await line.revoked()}
    were = {each.instance for each in before}
    return [
        Struck(event, receipt, order, len(_struck(order, before, were, out)), known.get(order.value))
        for (event, receipt), order in zip(receipts, orders, strict=True)
    ]


def struck_data(struck: Struck) -> dict[str, Any]:
    """Return what a revocation struck as plain data."""
    data: dict[str, Any] = {"struck": struck.instances, "value": struck.order.value}
    if struck.meant is not None:
        data |= {"workload": struck.meant.workload or None, "platform": struck.meant.platform or None}
        data |= {"note": struck.meant.note or None}
    return data


def _struck(
    order: RevocationOrder, before: Registry, were: set[bytes], out: dict[tuple[str, str], set[bytes]]
) -> set[bytes]:
    if order.kind == LIFT:  # what is lifted is listed no more
        return {each.instance for each in named(before, LIFT, order.value)}
    return were & out.get((order.kind, order.value), set())
