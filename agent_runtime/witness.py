"""What a process has witnessed and will not go back behind (invariant 6).

Policy versions, changes of operators, terms, log sizes and beacons only rise; one key a term, one hash a
version, one beacon a (term, sequence), one root of a log's size. Two signed beacons that differ are kept as
proof, two heads of which one does not grow into the other as well, and nothing is believed any more. What is
not signed by the term's key never comes here: no claim of anybody else can stop a process.
"""

from itertools import pairwise

from schemas.documents import Beacon
from schemas.errors import Reason
from schemas.messages import Millis, State
from sealing.council import Council
from sealing.errors import SealingError
from sealing.log_tree import EMPTY_ROOT

BEACONS_KEPT = 300
UNPROVED_KEPT = 16  # heads of the log that wait for a proof, while a coordinator gives none

Head = tuple[int, bytes]  # size and root of a term's log
NO_LOG: Head = (0, EMPTY_ROOT)


class Witness:
    """The memory of one process about its coordinators."""

    def __init__(self, council: Council) -> None:
        self.council = council
        self.term = 0
        self.profile_version = 0
        self.policy_version = 0
        self.proof: tuple[bytes, bytes] | None = None
        self.fork: tuple[Head, Head] | None = None  # heads that the coordinator showed not to be of one log
        self._policy_hash = b""
        self._log = NO_LOG
        self._proved = NO_LOG
        self._unproved: list[Head] = []
        self._seen_before: dict[int, Head] = {}
        self._heads: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self._keys: dict[int, bytes] = {}
        self._last = (0, 0)
        self._beacons: dict[tuple[int, int], bytes] = {}

    def term_key(self, term: int) -> bytes:
        """Return the key of a term that was verified, or raise."""
        try:
            return self._keys[term]
        except KeyError:
            raise SealingError(Reason.TERM_NOT_ACCEPTED, f"term {term}") from None

    def check_term(self, term: int, key: bytes) -> None:
        """Refuse a lower term, or another key for a term already witnessed."""
        if term < self.term:
            raise SealingError(Reason.STATE_ROLLED_BACK, "term")
        if self._keys.get(term, key) != key:
            raise SealingError(Reason.EQUIVOCATION, "two keys of one term")

    def enter_term(self, term: int, key: bytes) -> None:
        """Remember a term whose record verified."""
        self.check_term(term, key)
        if term > self.term:
            # Only the operators' order opens a term, and every term has a log of its own.
            self._last, self._log, self._unproved = (term, -1), NO_LOG, []
            self._proved = self._seen_before.get(term, NO_LOG)
        self.term = term
        self._keys[term] = key

    def check_state(self, state: State) -> None:
        """Refuse a coordinator whose state is older than what was witnessed."""
        if state.term < self.term:
            raise SealingError(Reason.STATE_ROLLED_BACK, "term")
        if state.policy_version < self.policy_version:
            raise SealingError(Reason.STATE_ROLLED_BACK, "policy version")
        if state.term:
            self.council.check_seen(state.operators_version, state.operators_hash)
        if state.term == self.term:
            if state.log_size < self._log[0]:
                raise SealingError(Reason.STATE_ROLLED_BACK, "log size")
            self._check_log((state.log_size, state.log_root))
        self._check_policy(state.policy_version, state.policy_hash)

    def enter_state(self, state: State) -> None:
        """Remember where an accepted coordinator stands."""
        self.check_state(state)
        for head in (self._log, (state.log_size, state.log_root)):
            if head[0] > (self._unproved or [self._proved])[-1][0]:
                self._unproved = [*self._unproved[: UNPROVED_KEPT - 1], head]
        self._note(state.policy_version, state.policy_hash, (state.log_size, state.log_root))

    def saw_before(self, term: int, head: Head) -> None:
        """Begin a term, if it comes, with a head that was seen in an earlier life and kept since."""
        self._seen_before[term] = head

    def unproved(self) -> tuple[tuple[Head, Head], ...]:
        """Return pairs of heads, older and newer, each of which the coordinator has to prove consistent."""
        heads = (self._proved, *self._unproved)
        return tuple((older, newer) for older, newer in pairwise(heads) if older != NO_LOG)

    @property
    def equivocated(self) -> bool:
        """Whether a coordinator said two things of one: then nothing is believed any more."""
        return self.proof is not None or self.fork is not None

    def enter_proved(self) -> None:
        """Remember that every head up to the accepted state is of one log."""
        if self._unproved:
            self._proved, self._unproved = self._unproved[-1], []

    def check_beacon(
        self, signed: bytes, beacon: Beacon, *, now: Millis, grace: Millis, ahead: Millis
    ) -> None:
        """Refuse a beacon that is stale, early, not newer, or behind what was witnessed."""
        self.compare(signed, beacon)
        if self.is_old(beacon):
            raise SealingError(Reason.REPLAYED, "beacon")
        if not now - grace <= beacon.time <= now + ahead:
            raise SealingError(Reason.NOT_LIVE, "the beacon's time")
        if beacon.policy_version < self.policy_version or beacon.log_size < self._log[0]:
            raise SealingError(Reason.STATE_ROLLED_BACK, "beacon")
        self.council.check_seen(beacon.operators_version, beacon.operators_hash)
        self._check_log((beacon.log_size, beacon.log_root))
        self._check_policy(beacon.policy_version, beacon.policy_hash)

    def is_old(self, beacon: Beacon) -> bool:
        """Tell whether a beacon is not newer than the last one held."""
        return (beacon.term, beacon.sequence) <= self._last

    def is_passed(self, beacon: Beacon | None) -> bool:
        """Tell whether a beacon that counted is newer than this one, or than none."""
        return self._last > ((beacon.term, beacon.sequence) if beacon else (self.term, -1))

    def remember(self, signed: bytes, beacon: Beacon) -> None:
        """Keep a signed beacon, ours or a peer's, whether or not it counts: another of its sequence is proof.

        The newest are kept, whoever showed them: a peer that shows old ones pushes none of ours out.
        """
        self._beacons.setdefault((beacon.term, beacon.sequence), signed)
        if len(self._beacons) > BEACONS_KEPT:
            del self._beacons[min(self._beacons)]
        self._heads.setdefault((beacon.term, beacon.log_size), (beacon.log_root, signed))
        if len(self._heads) > BEACONS_KEPT:
            del self._heads[min(self._heads)]

    def held(self, beacon: Beacon) -> bytes | None:
        """Return the signed beacon that is kept of this one's term and sequence."""
        return self._beacons.get((beacon.term, beacon.sequence))

    def enter_beacon(self, beacon: Beacon) -> None:
        """Go by a beacon that counts."""
        self._last = (beacon.term, beacon.sequence)
        self._note(beacon.policy_version, beacon.policy_hash, (beacon.log_size, beacon.log_root))

    def compare(self, signed: bytes, beacon: Beacon) -> None:
        """Compare a *signed* beacon, ours or a peer's, with the one we hold of its (term, sequence)."""
        if self.equivocated:
            raise SealingError(Reason.EQUIVOCATION)
        held = self.held(beacon)
        if held is not None and held != signed:
            self.proof = (held, signed)
            raise SealingError(Reason.EQUIVOCATION, "two beacons of one sequence")
        root, witness = self._heads.get((beacon.term, beacon.log_size), (beacon.log_root, b""))
        if root != beacon.log_root:
            self.proof = (witness, signed)
            raise SealingError(Reason.EQUIVOCATION, f"two logs of {beacon.log_size} entries")

    def _check_log(self, head: Head) -> None:
        if head[0] == self._log[0] and head != self._log:
            raise SealingError(Reason.EQUIVOCATION, f"two logs of {head[0]} entries")

    def _check_policy(self, version: int, digest: bytes) -> None:
        if version == self.policy_version and self._policy_hash not in (b"", digest):
            raise SealingError(Reason.EQUIVOCATION, "two policies of one version")

    def _note(self, version: int, digest: bytes, log: Head) -> None:
        self.policy_version, self._policy_hash, self._log = version, digest, log
