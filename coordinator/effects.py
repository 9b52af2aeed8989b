"""What a decision did to others. Pure values, which the core carries out."""

from dataclasses import dataclass

from coordinator.ledger import Party


@dataclass(frozen=True, slots=True)
class Effect:
    """What a decision did to others: whose sessions end, and who has to hold something new."""

    dropped: frozenset[bytes] = frozenset()
    roles: frozenset[str] = frozenset()
    everyone: bool = False

    def touches(self, party: Party) -> bool:
        """Tell whether a party has to be given its holdings anew."""
        return self.everyone or not self.roles.isdisjoint(party.roles)


NO_EFFECT = Effect()
