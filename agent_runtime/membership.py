"""One process's standing in the mesh: admission, trust, keys, beacons, and whether it is live.

Pure: frames and documents in, verdicts out. It refuses before it changes anything.
"""

from collections.abc import Callable
from contextlib import suppress

from agent_runtime.clock import MeshClock
from agent_runtime.errors import RefusedError
from agent_runtime.keyring import Keyring
from agent_runtime.trust import MESH_GROUP, Trust, adopt
from agent_runtime.witness import Witness
from schemas import codec
from schemas.documents import Admission, Beacon
from schemas.errors import Reason
from schemas.limits import CLOCK_AHEAD, GRACE, SECOND
from schemas.messages import ENCLAVE, Admitted, Body, Holdings, Millis
from sealing.context import Mesh
from sealing.council import follow
from sealing.documents import open_admission, open_message
from sealing.errors import NotAuthenticError, SealingError
from sealing.groups import Opener, Sender, frame_token
from sealing.keys import PartyKeys

BEACON = "beacon"


# The trust to decide by and the time, asked together. It holds for as long as nothing else runs.
Moment = tuple[Trust, Millis]


class Membership:
    """What one process holds, from its first admission to its end."""

    def __init__(
        self,
        mesh: Mesh,
        keys: PartyKeys,
        clock: MeshClock,
        witness: Witness,
        *,
        kind: str,
        roles: tuple[str, ...],
        random: Callable[[int], bytes],
    ) -> None:
        self.mesh, self.keys, self.clock, self.witness = mesh, keys, clock, witness
        self.term, self.grace, self.kind, self.roles = 0, GRACE, kind, roles
        role = mesh.role_id(roles[0]) if roles else bytes(16)
        self.keyring = Keyring(mesh, Sender(keys.instance, role), random)
        self.trust: Trust | None = None
        self.last_beacon: bytes | None = None
        self._counted: Millis | None = None  # the own time of the last beacon that counted
        self._told: Beacon | None = None  # the last one that was taken, whether or not it counted
        self._views_held = (0, 0)  # the term, and its version of all views by which ours are the current ones

    def enter(self, term: int, grace: Millis) -> None:
        """Go by a coordinator that was verified: its term, and the grace of the profile that it showed.

        A session outlives that profile: views name the grace of the policy in force.
        """
        self.term, self.grace = term, self.grace_of(grace)

    def grace_of(self, shown: Millis) -> Millis:
        """Return the grace to go by where a profile shows one: the one that is held, if any is."""
        return self.grace if self.trust else shown

    def admitted(self, admitted: Admitted) -> None:
        """Take an admission with everything that came with it, or raise and change nothing."""
        key = self.witness.term_key(self.term)
        admission = open_admission(admitted.admission, key, self.mesh)
        self._check_admission(admission)
        previous = self.trust
        fresh = Trust(
            admission,
            admitted.admission,
            key,
            views=previous.views if previous else {},
            verified=previous.verified if previous else {},
            revoked_hash=previous.revoked_hash if previous else b"",
        )
        self._adopt(fresh, admitted.holdings)

    def hold(self, holdings: Holdings) -> None:
        """Take what the coordinator pushed, or raise and change nothing."""
        self._adopt(self.held(), holdings)

    def held(self) -> Trust:
        """Return the current trust, or raise `not-live`."""
        if self.trust is None:
            raise RefusedError(Reason.NOT_LIVE, "not admitted")
        return self.trust

    def beacon(self, frame: bytes, subject: str) -> bool:
        """Take a beacon frame; return False if it names things that are not here: then they must be got."""
        opener = self.keyring.opener(frame_token(frame))
        if opener is None or opener.group != MESH_GROUP:
            raise SealingError(Reason.EPOCH_UNKNOWN)
        _, body = opener.open_group(frame, subject)
        message = codec.decode(body, Body)
        if message.purpose != BEACON:
            raise NotAuthenticError("not a beacon")
        return self.signed_beacon(codec.convert(message.fields, bytes))

    def signed_beacon(self, signed: bytes) -> bool:
        """Judge a signed beacon of this term; it counts only when what it names is held."""
        beacon = self._beacon(signed)
        self.witness.check_beacon(signed, beacon, now=self.clock.now(), grace=self.grace, ahead=CLOCK_AHEAD)
        self.witness.remember(signed, beacon)
        if self.trust is None:
            return False
        # At once, although the set that names them may be still to come.
        self.trust = self.trust.without(beacon.revoked)
        self._told = beacon
        held_term, held_version = self._views_held
        if held_term != beacon.term or not self.trust.holds(self.mesh, beacon, held_version):
            return False
        if not self.keyring.holds(self.trust.epochs.values()):
            return False
        # Newer operators than are known here: their documents come with the holdings.
        if beacon.operators_version != self.witness.council.version:
            return False
        self.witness.enter_beacon(beacon)
        self._views_held = beacon.term, beacon.views_version
        self.last_beacon, self._counted = signed, beacon.time
        return True

    def compare_beacon(self, signed: bytes | None) -> None:
        """Compare a peer's last beacon with ours: two that differ are proof of equivocation."""
        if signed is None:
            return
        for term in (self.term, self.term - 1):
            try:
                beacon = open_message(signed, self.witness.term_key(term), self.mesh, BEACON, Beacon)
            except SealingError:
                continue
            self.witness.compare(signed, beacon)
            # Ours of that sequence may be still to come, and must not differ from what the peer was told.
            self.witness.remember(signed, beacon)
            return

    @property
    def behind(self) -> bool:
        """Whether a beacon named something that is not here."""
        return self._told is not None and not self.witness.is_old(self._told)

    def live(self) -> bool:
        """Tell whether this process may take and send: recent beacon, unexpired admission, no fork seen."""
        try:
            self.require_live_now()
        except RefusedError:
            return False
        return True

    def require_live(self) -> Trust:
        """Return the trust to decide by, or raise `not-live`."""
        return self.require_live_now()[0]

    def require_live_now(self) -> Moment:
        """Return the trust to decide by and the highest time ever held, or raise `not-live`."""
        # On the way of every message, so in one piece.
        trust, counted, witness, (now, highest) = self.trust, self._counted, self.witness, self.clock.both()
        if trust is None:
            raise RefusedError(Reason.NOT_LIVE, "not admitted")
        if (
            counted is None
            or now is None
            or (witness.proof or witness.fork) is not None
            or now - counted > self.grace
            or highest >= trust.admission.expires * SECOND
        ):
            raise RefusedError(Reason.NOT_LIVE)
        return trust, highest

    def mesh_openers(self) -> list[Opener]:
        """Return the open epochs of the mesh group, newest first: names derive from each."""
        return self.keyring.openers(MESH_GROUP)

    def names(self, kind: str, name: bytes) -> tuple[bytes, ...]:
        """Return the pseudonyms of a name in every open mesh epoch, newest first."""
        return tuple(opener.name_token(kind, name) for opener in self.mesh_openers())

    def peer(self, admission_bytes: bytes) -> Admission:
        """Return a peer's admission: of a term whose key was verified, unexpired and not revoked."""
        admission = None
        for term in range(self.witness.term, max(self.witness.term - 2, 0), -1):
            try:
                admission = open_admission(admission_bytes, self.witness.term_key(term), self.mesh)
            except SealingError:
                continue
            break
        if admission is None:
            raise NotAuthenticError("an admission of no term of ours")
        if admission.expires * SECOND <= self.clock.highest():
            raise SealingError(Reason.EXPIRED, "admission")
        if admission.subject in self.held().revoked:
            raise SealingError(Reason.INSTANCE_REVOKED)
        return admission

    def erase(self) -> None:
        """Drop all epoch keys."""
        self.keyring.keep_only(())
        self.trust = None

    def _beacon(self, signed: bytes) -> Beacon:
        beacon = open_message(signed, self.witness.term_key(self.term), self.mesh, BEACON, Beacon)
        if beacon.term != self.term:
            raise SealingError(Reason.TERM_NOT_ACCEPTED)
        return beacon

    def _check_admission(self, admission: Admission) -> None:
        if (
            admission.subject != self.keys.instance
            or admission.signing_key != self.keys.signing.public
            or admission.kem_key != self.keys.kem.public
            or admission.kind != self.kind
            or admission.roles != self.roles
            or admission.term != self.term
        ):
            raise NotAuthenticError("an admission of somebody else")
        if admission.expires * SECOND <= self.clock.highest():
            raise SealingError(Reason.EXPIRED, "admission")

    def _adopt(self, base: Trust, holdings: Holdings) -> None:
        beacon = self._beacon(holdings.beacon) if holdings.beacon else None
        if beacon is not None:
            self.witness.compare(holdings.beacon, beacon)
        council = follow(self.witness.council, holdings.operators)
        trust = adopt(self.mesh, base, holdings)
        # A set with a page too few, or with pages of two sets, would let somebody pass who is out.
        if beacon is not None and beacon.revoked_hash != trust.revoked_hash:
            raise SealingError(Reason.NOT_LIVE, "a revoked set that its beacon does not name")
        # Frames may come late: a revoked set from before a beacon that counted must not undo the newer one.
        if base.revoked_hash != trust.revoked_hash and self.witness.is_passed(beacon):
            raise SealingError(Reason.STATE_ROLLED_BACK, "revoked set")
        self.keyring.check(holdings, trust.admission.roles if self.kind == ENCLAVE else ())
        self.keyring.add(holdings)
        self.keyring.keep_only(trust.epochs)
        if self.trust is not None and self.trust.admission.term != trust.admission.term:
            # A new coordinator's admission, and live by the former's word: only its own beacon counts.
            self.last_beacon = self._counted = None
        told = self._told
        if told is not None and (
            beacon is None or (told.term, told.sequence) > (beacon.term, beacon.sequence)
        ):
            # What came late knows nothing of whom a newer beacon named.
            trust = trust.without(told.revoked)
        self.trust = trust
        self.grace = trust.grace or self.grace
        self.witness.council = council
        if beacon is not None:
            # Views go back in nothing, so what was current at the later of both is so still.
            self._views_held = max(self._views_held, (beacon.term, beacon.views_version))
        # One that does not count, because it is late or old, is no harm: the next one follows in a second.
        if beacon is not None and not self.witness.is_old(beacon):
            with suppress(SealingError):
                self.signed_beacon(holdings.beacon)
