"""Which revocations the order asks for, and which of them were brought. Pure.

A new coordinator knows of none, and whoever tells it could leave some out. So the operators who order its
term sign which are to hold, and it takes no first policy, without which nobody is admitted, before it has
them all. More than those never hinder it: nobody stops a term by bringing another.
"""

from coordinator.errors import RefusedError
from schemas.documents import Order, RevocationOrder
from schemas.errors import MalformedError, Reason
from schemas.messages import Event
from schemas.words import count
from sealing import roll


class Roll:
    """The roll of one coordinator's term."""

    def __init__(self) -> None:
        self._wanted: frozenset[bytes] | None = frozenset()  # None: it was not brought yet
        self._told: set[bytes] = set()

    def ordered(self, order: Order) -> None:
        """Ask for the roll that an order names; one that is empty needs not be brought."""
        self._wanted = None if order.revocations != roll.EMPTY else frozenset()

    def take(self, event: Event, order: Order | None) -> None:
        """Take the roll that the order names, or raise."""
        if order is None:
            raise RefusedError(Reason.TERM_NOT_ACCEPTED, "no order is in force")
        if len(event.documents) != 1:
            raise MalformedError("not one roll")
        self._wanted = frozenset(roll.open_roll(event.documents[0], order.revocations))

    def hear(self, revocation: RevocationOrder) -> None:
        """Note a revocation that was brought: it is in force, or overtaken by a later word."""
        self._told.add(roll.digest(revocation))

    def check(self) -> None:
        """Raise unless all that the order asks for was brought."""
        if self._wanted is None:
            raise RefusedError(
                Reason.REVOCATIONS_MISSING,
                "the list of revocations that the order names was not brought: send the order again",
            )
        if missing := len(self._wanted - self._told):
            raise RefusedError(
                Reason.REVOCATIONS_MISSING,
                f"{missing} of {count(len(self._wanted), 'revocation')} that the order names were not "
                "brought: whoever has them sends them, and then the policy is sent again",
            )
