"""What operators revoked in one coordinator's term, as they signed it, for every console that comes. Pure.

A console that holds a revocation does not let an order pass that leaves it out. So it is not only with who
sent it: each console that comes has it from here.
"""

from itertools import islice

from schemas.documents import RevocationOrder
from schemas.messages import RevocationPage, SignedByOperators

PAGE_BYTES = 256 * 1024


class Revocations:
    """Every revocation that was taken, in the order in which it came."""

    def __init__(self) -> None:
        self._taken: dict[RevocationOrder, tuple[int, SignedByOperators]] = {}

    def repeated(self, order: RevocationOrder, signed: SignedByOperators) -> int | None:
        """Return where in the log this very revocation stands already, if it was taken."""
        known = self._taken.get(order)
        if known is None:
            return None
        # Operators who followed may have signed it again: it is told as those of now did.
        self._taken[order] = known[0], signed
        return known[0]

    def enter(self, order: RevocationOrder, signed: SignedByOperators, index: int) -> None:
        """Note one that is in force, and where in the log it stands."""
        self._taken[order] = index, signed

    def page(self, first: int) -> RevocationPage:
        """Return those from index `first` on, as many as one answer takes."""
        page: list[SignedByOperators] = []
        room = PAGE_BYTES
        for _, signed in islice(self._taken.values(), first, None):
            room -= sum(map(len, signed))
            if room < 0 and page:
                break
            page.append(signed)
        return RevocationPage(len(self._taken), tuple(page))
