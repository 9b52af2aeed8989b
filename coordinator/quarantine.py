"""Which word of the operators about an instance's quarantine is the last: by the time that they signed. Pure.

An older word is no news. So nobody who keeps what the threshold once signed can undo what it signed later,
and consoles may tell a successor what they know in any order.
"""

from coordinator.errors import RefusedError
from coordinator.terms import AHEAD
from schemas.documents import RevocationOrder
from schemas.errors import Reason
from schemas.limits import CLOCK_AHEAD
from schemas.messages import LIFT, QUARANTINE, Millis

KINDS = (QUARANTINE, LIFT)
# A lifting of a time to come would undo quarantines that are signed until then, and one that waits does no
# harm: it has no more room than two clocks that are kept need.
LIFT_AHEAD = CLOCK_AHEAD


class Quarantines:
    """The operators' last word about each instance, of one coordinator."""

    def __init__(self) -> None:
        self._last: dict[str, RevocationOrder] = {}

    def judge(self, order: RevocationOrder, now: Millis) -> None:
        """Raise if a quarantine or its lifting is not of now.

        One of a time to come would outlast whatever is signed until then, and a lifting must not outlast a
        quarantine.
        """
        if order.time > now + (LIFT_AHEAD if order.kind == LIFT else AHEAD):
            raise RefusedError(Reason.NOT_YET_VALID, f"a {order.kind} of a time to come: bring it again then")

    def compare(self, order: RevocationOrder) -> None:
        """Raise if the other was signed later; of the same time, the quarantine holds."""
        last = self._last.get(order.value)
        if last is not None and last.kind != order.kind and _rank(order) < _rank(last):
            what = "lifted" if last.kind == LIFT else "quarantined"
            raise RefusedError(Reason.REPLAYED, f"the instance was {what} by a later word of the operators")

    def enter(self, order: RevocationOrder) -> None:
        """Have a word in force that was judged."""
        last = self._last.get(order.value)
        if last is None or _rank(last) < _rank(order):
            self._last[order.value] = order


def _rank(order: RevocationOrder) -> tuple[Millis, bool]:
    return order.time, order.kind == QUARANTINE
