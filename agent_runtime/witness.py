"""What a process has witnessed and will not go back behind (invariant 6).

Policy versions, terms, log sizes and beacons only rise; one key a term, one hash a version, one beacon
a (term, sequence). Two signed beacons that differ are kept as proof, and nothing is believed any more.
"""

from collections import OrderedDict

from schemas.documents import Beacon
from schemas.errors import Reason
from schemas.messages import Millis, State
from sealing.errors import SealingError

BEACONS_KEPT = 300


class Witness:
    """The memory of one process about its coordinators."""

    def __init__(self) -> None:
        self.term = 0
        self.profile_version = 0
        self.policy_version = 0
        self.proof: tuple[bytes, bytes] | None = None
        self._policy_hash = b""
        self._log_size = 0
        self._keys: dict[int, bytes] = {}
        self._last = (0, 0)
        self._beacons: OrderedDict[tuple[int, int], bytes] = OrderedDict()

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
            # Only the operators' order opens a term; until the audit log outlives its coordinator,
            # a new term counts its entries anew.
            self._last, self._log_size = (term, -1), 0
        self.term = term
        self._keys[term] = key

    def check_state(self, state: State) -> None:
        """Refuse a coordinator whose state is older than what was witnessed."""
        if state.term < self.term:
            raise SealingError(Reason.STATE_ROLLED_BACK, "term")
        if state.policy_version < self.policy_version:
            raise SealingError(Reason.STATE_ROLLED_BACK, "policy version")
        if state.term == self.term and state.log_size < self._log_size:
            raise SealingError(Reason.STATE_ROLLED_BACK, "log size")
        self._check_policy(state.policy_version, state.policy_hash)

    def enter_state(self, state: State) -> None:
        """Remember where an accepted coordinator stands."""
        self.check_state(state)
        self._note(state.policy_version, state.policy_hash, state.log_size)

    def check_beacon(
        self, signed: bytes, beacon: Beacon, *, now: Millis, grace: Millis, ahead: Millis
    ) -> None:
        """Refuse a beacon that is stale, early, not newer, or behind what was witnessed."""
        self.compare(signed, beacon)
        if self.is_old(beacon):
            raise SealingError(Reason.REPLAYED, "beacon")
        if not now - grace <= beacon.time <= now + ahead:
            raise SealingError(Reason.NOT_LIVE, "the beacon's time")
        if beacon.policy_version < self.policy_version or beacon.log_size < self._log_size:
            raise SealingError(Reason.STATE_ROLLED_BACK, "beacon")
        self._check_policy(beacon.policy_version, beacon.policy_hash)

    def is_old(self, beacon: Beacon) -> bool:
        """Tell whether a beacon is not newer than the last one held."""
        return (beacon.term, beacon.sequence) <= self._last

    def is_passed(self, beacon: Beacon | None) -> bool:
        """Tell whether a beacon that counted is newer than this one, or than none."""
        return self._last > ((beacon.term, beacon.sequence) if beacon else (self.term, -1))

    def remember(self, signed: bytes, beacon: Beacon) -> None:
        """Keep a beacon that was checked, whether or not it counts: another of its sequence is proof."""
        self._beacons[beacon.term, beacon.sequence] = signed
        if len(self._beacons) > BEACONS_KEPT:
            self._beacons.popitem(last=False)

    def enter_beacon(self, beacon: Beacon) -> None:
        """Go by a beacon that counts."""
        self._last = (beacon.term, beacon.sequence)
        self._note(beacon.policy_version, beacon.policy_hash, beacon.log_size)

    def compare(self, signed: bytes, beacon: Beacon) -> None:
        """Compare a *signed* beacon, ours or a peer's, with the one we hold of its (term, sequence)."""
        if self.proof is not None:
            raise SealingError(Reason.EQUIVOCATION)
        held = self._beacons.get((beacon.term, beacon.sequence))
        if held is not None and held != signed:
            self.proof = (held, signed)
            raise SealingError(Reason.EQUIVOCATION, "two beacons of one sequence")

    def _check_policy(self, version: int, digest: bytes) -> None:
        if version == self.policy_version and self._policy_hash not in (b"", digest):
            raise SealingError(Reason.EQUIVOCATION, "two policies of one version")

    def _note(self, version: int, digest: bytes, log_size: int) -> None:
        self.policy_version, self._policy_hash, self._log_size = version, digest, log_size
