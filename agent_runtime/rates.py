"""How often something was let pass of late: a rule's `per_minute` holds for every minute, wherever it begins.

Pure. It counts by second, so it forgets a use up to a second late and never early.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from schemas.limits import MINUTE, SECOND
from schemas.messages import Millis

RATES_KEPT = 10_000

Key = tuple[bytes, str, str]  # peer, action, what


class Rates:
    """What one process let pass of each peer."""

    def __init__(self) -> None:
        self._uses: OrderedDict[Key, Uses] = OrderedDict()

    def take(self, most: int, key: Key, now: Millis) -> bool:
        """Let one more pass, unless that would be more than `most` in a minute."""
        uses = self._uses.get(key) or Uses()
        if not uses.take(most, now):
            return False
        self._uses[key] = uses
        self._uses.move_to_end(key)
        if len(self._uses) > RATES_KEPT:
            self._uses.popitem(last=False)
        return True


@dataclass(slots=True)
class Uses:
    """The uses of this second and the 60 before it, in which every minute that ends now lies."""

    seconds: deque[tuple[int, int]] = field(default_factory=deque)  # which, and how many in it
    count: int = 0

    def take(self, most: int, now: Millis) -> bool:
        """Count one more, unless there are as many as may be."""
        second = now // SECOND
        while self.seconds and self.seconds[0][0] < second - MINUTE // SECOND:
            self.count -= self.seconds.popleft()[1]
        if self.count >= most:
            return False
        last = self.seconds.pop()[1] if self.seconds and self.seconds[-1][0] == second else 0
        self.seconds.append((second, last + 1))
        self.count += 1
        return True
