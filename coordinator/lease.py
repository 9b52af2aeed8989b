"""The operators' lease: how long a mesh goes on without a word of theirs. Pure.

Whoever owns the broker can keep operators out; a policy may say for how long agents trust that nothing was
decided meanwhile. A word is what the threshold signed, and counts from when they signed it: an order, a new
policy, a change of operators, or a renewal.
"""

from coordinator.errors import RefusedError
from schemas.documents import Renewal
from schemas.errors import Reason
from schemas.limits import MINUTE
from schemas.messages import Millis

AHEAD = 5 * MINUTE  # by how much operators' clocks may be ahead: renewals are not signed in store


class Lease:
    """When operators were heard last, in one term."""

    def __init__(self) -> None:
        self._heard: Millis = 0
        self._renewed: Renewal | None = None
        self._index = 0

    def hear(self, signed: Millis) -> None:
        """Note when operators signed what is in force from now on: that it is brought late is no word."""
        self._heard = max(self._heard, signed)

    def repeated(self, renewal: Renewal) -> int | None:
        """Return where in the log this very renewal stands already, if it is the last."""
        return self._index if renewal == self._renewed else None

    def renew(self, renewal: Renewal, *, term: int, length: Millis | None, now: Millis) -> None:
        """Count from the time that operators signed, or raise.

        1. Of this term: one of a coordinator before says nothing of this one.
        2. Newer than the last: an old one that is brought again, by whomever, is a replay.
        3. Of now, not signed in store; and not so old that nothing of it is left.
        """
        # 1.
        if renewal.term != term:
            raise RefusedError(Reason.TERM_NOT_ACCEPTED, "a renewal of another term")
        # 2.
        if self._renewed is not None and renewal.time <= self._renewed.time:
            raise RefusedError(Reason.REPLAYED, "a renewal that is not newer than the last")
        # 3.
        if renewal.time > now + AHEAD:
            raise RefusedError(Reason.NOT_YET_VALID, "a renewal of a time to come")
        if length is not None and renewal.time + length <= now:
            raise RefusedError(Reason.EXPIRED, "a renewal of which nothing is left")
        self._renewed = renewal
        self._heard = max(self._heard, min(renewal.time, now))

    def entered(self, index: int) -> None:
        """Note where in the log the last renewal stands."""
        self._index = index

    def until(self, length: Millis | None) -> Millis | None:
        """Return when the lease ends; None if the policy asks for none."""
        return None if length is None else self._heard + length
