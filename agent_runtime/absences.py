"""Which peers seem to be gone: by the broker's word, which may be false, or because they took no session.

Pure. What seems so is asked last and never left out: no word of a broker's makes a peer unreachable.
"""

from collections.abc import Sequence

from schemas.documents import Admission
from schemas.limits import SECOND
from schemas.messages import Millis

HEEDED_EVERY = SECOND  # of an instance: a broker that lies costs its peers a handshake a second
FORGOTTEN_AFTER = 10 * SECOND  # as long as a listing is believed

Listed = tuple[Admission, bytes]


class Absences:
    """What one process was told about its peers."""

    def __init__(self) -> None:
        self._since: dict[bytes, Millis] = {}
        self._heeded: dict[bytes, Millis] = {}
        self._failures: dict[bytes, int] = {}

    def heed(self, instance: bytes, now: Millis) -> bool:
        """Tell whether to act on the word that an instance is gone; it is acted on seldom."""
        last = self._heeded.get(instance)
        if last is not None and now - last < HEEDED_EVERY:
            return False
        self._heeded[instance] = self._since[instance] = now
        return True

    def failed(self, instance: bytes, now: Millis) -> None:
        """Note that an instance took no session."""
        self._since[instance] = now
        self._failures[instance] = self._failures.get(instance, 0) + 1

    def failures(self, instance: bytes) -> int:
        """Return how often an instance took no session lately."""
        return self._failures.get(instance, 0)

    def there(self, instance: bytes) -> None:
        """Note that an instance took a session."""
        self._since.pop(instance, None)

    def likely(self, peers: Sequence[Listed]) -> Sequence[Listed]:
        """Return those of some peers that seem to be there; all of them if none does."""
        if not self._since:
            return peers
        return [each for each in peers if each[0].subject not in self._since] or peers

    def sweep(self, now: Millis) -> None:
        """Forget what was told long ago."""
        oldest = now - FORGOTTEN_AFTER
        self._since = {each: since for each, since in self._since.items() if since > oldest}
        self._heeded = {each: when for each, when in self._heeded.items() if when > oldest}
        self._failures = {each: n for each, n in self._failures.items() if each in self._since}
