"""The coordinator's sessions and how far each has come: half-open, confirmed, admitted.

Pure. Everything that strangers can make here is bounded: half-open sessions by number and by seconds,
confirmed ones that owe their Evidence by number and by their challenge's life.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from coordinator.errors import RefusedError
from schemas.errors import Reason
from schemas.limits import (
    CHALLENGE_LIFETIME,
    HALF_OPEN_PER_INSTANCE,
    HALF_OPEN_TOTAL_COORDINATOR,
    HANDSHAKE_LIFETIME,
    SECOND,
)
from schemas.messages import Credential, Millis
from sealing.errors import SealingError
from sealing.session import Session

# A renewed party's old session answers what was asked before the new one's keys arrived.
LINGER = 5 * SECOND


class Phase(Enum):
    """How far a session has come."""

    HALF_OPEN = "half-open"
    CONFIRMED = "confirmed"
    ADMITTED = "admitted"


@dataclass(slots=True)
class Link:
    """A session with somebody who wants to be, or is, admitted."""

    session: Session
    init_hash: bytes
    credential: Credential
    instance: bytes
    opened: Millis
    challenge: bytes | None = field(repr=False)  # None once it is burnt
    asked: bytes = b""  # the request that burnt it
    phase: Phase = Phase.HALF_OPEN
    evidence: bytes = b""  # SHA-256 of the Evidence that it showed
    ends: Millis | None = None  # set when another session of the same instance took its place


class Links:
    """All sessions, by the id that their frames name."""

    def __init__(self) -> None:
        self._links: dict[bytes, Link] = {}
        self._half_open: dict[bytes, Link] = {}  # in the order in which they were opened, like the next
        self._confirmed: dict[bytes, Link] = {}
        self._per_instance: Counter[bytes] = Counter()

    def __contains__(self, session_id: bytes) -> bool:
        return session_id in self._links

    def __len__(self) -> int:
        return len(self._links)

    def check_room(self) -> None:
        """Refuse another handshake while too many are half-open, before it costs a decryption."""
        if len(self._half_open) >= HALF_OPEN_TOTAL_COORDINATOR:
            raise RefusedError(Reason.TOO_MANY_HALF_OPEN)

    def check_instance(self, instance: bytes) -> None:
        """Refuse another handshake of one instance, once its signature has verified."""
        if self._per_instance[instance] >= HALF_OPEN_PER_INSTANCE:
            raise RefusedError(Reason.TOO_MANY_HALF_OPEN, "of one instance")

    def open(self, link: Link) -> None:
        """Enter a half-open session."""
        self._links[link.session.own_id] = self._half_open[link.session.own_id] = link
        self._per_instance[link.instance] += 1

    def find(self, session_id: bytes, now: Millis) -> Link:
        """Return the session that a frame names."""
        link = self._links.get(session_id)
        if link is None or (link.phase is Phase.HALF_OPEN and now - link.opened >= HANDSHAKE_LIFETIME):
            raise SealingError(Reason.SESSION_UNKNOWN)
        return link

    def confirm(self, link: Link) -> Link | None:
        """Note that a frame of the initiator's has opened; return who has to go for it, the eldest."""
        if link.phase is not Phase.HALF_OPEN:
            return None
        self._leave_half_open(link)
        link.phase = Phase.CONFIRMED
        self._confirmed[link.session.own_id] = link
        if len(self._confirmed) <= HALF_OPEN_TOTAL_COORDINATOR:
            return None
        # Whoever proves at once is long gone from here when a flood pushes the eldest out.
        eldest = next(iter(self._confirmed.values()))
        self.drop(eldest)
        return eldest

    def admit(self, link: Link) -> None:
        """Note that a session's party is admitted."""
        self._confirmed.pop(link.session.own_id, None)
        link.phase = Phase.ADMITTED

    def of(self, instances: frozenset[bytes]) -> list[Link]:
        """Return every session of these instances."""
        if not instances:
            return []  # of most decisions: nobody has to be looked for among ten thousand
        return [link for link in self._links.values() if link.instance in instances]

    def current(self) -> Iterator[Link]:
        """Return the sessions of admitted parties, each one's newest."""
        return (link for link in self._links.values() if link.phase is Phase.ADMITTED and link.ends is None)

    def get(self, session_id: bytes) -> Link | None:
        """Return a session that may be gone."""
        return self._links.get(session_id)

    def drop(self, link: Link) -> None:
        """End a session and erase its keys."""
        self._leave_half_open(link)
        self._confirmed.pop(link.session.own_id, None)
        if self._links.pop(link.session.own_id, None) is not None:
            link.session.erase()

    def overdue(self, now: Millis) -> list[Link]:
        """Return the sessions whose time for the next step has passed."""
        late = [link for link in self._half_open.values() if now - link.opened >= HANDSHAKE_LIFETIME]
        # One whose challenge is burnt is being appraised, and will be answered.
        late += [
            link
            for link in self._confirmed.values()
            if link.challenge is not None and now - link.opened >= CHALLENGE_LIFETIME
        ]
        late += [link for link in self._links.values() if link.ends is not None and link.ends <= now]
        return late

    def _leave_half_open(self, link: Link) -> None:
        if self._half_open.pop(link.session.own_id, None) is not None:
            self._per_instance[link.instance] -= 1
            if not self._per_instance[link.instance]:
                del self._per_instance[link.instance]
