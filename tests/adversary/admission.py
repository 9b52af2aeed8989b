"""Agents that join a coordinator over a network of the adversary's, who owns an enclave of his own as well.

The agents' side is `agent_runtime.joining` and what it uses, the coordinator's its core. Evidence is a
stand-in that binds what real Evidence binds (tests/coordinator/world.py).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from agent_runtime import joining
from agent_runtime.clock import MeshClock
from agent_runtime.membership import Membership
from agent_runtime.witness import Witness
from coordinator import Publish
from schemas import codec
from schemas.errors import PeerError, Reason
from schemas.limits import GRACE, HALF_OPEN_TOTAL_COORDINATOR, SECOND
from schemas.messages import ENCLAVE, Admitted, Body, Credential, EvidenceAnswer, Millis, State
from schemas.subjects import Kind, subject
from sealing.keys import PartyKeys
from sealing.session import PendingSession, Session
from tests.adversary.network import ADVERSE, Deed, Network, Parcel
from tests.agent_runtime.world import BOOTED, mesh_up
from tests.coordinator.world import CHIP, evidence, seeded

ROLES = ("planner", "redactor", "vault")
EVIL = "evil"  # a workload that no policy names, in a genuine enclave
JOINING = 4  # who tries at one time


@dataclass
class Joiner:
    """One process that wants to be admitted, and how far it has come."""

    role: str
    workload: str
    membership: Membership
    hello: joining.PendingHello
    random: Callable[[int], bytes]
    coordinator: joining.Coordinator | None = None
    pending: PendingSession | None = None
    session: Session | None = None
    state: State | None = None
    sent: Millis = 0
    over: bool = False
    refused: list[Reason] = field(default_factory=list)

    @property
    def admitted(self) -> bool:
        return self.membership.trust is not None


class Admission:
    """The world of one run."""

    def __init__(self) -> None:
        self.world, _ = mesh_up()
        self.network = Network()
        self.refused: Counter[str] = Counter()
        self.reached = 0
        self.number = 0
        self.joiners: list[Joiner] = []
        self.joined = 0
        self.admissions: dict[bytes, str] = {}  # instance: workload
        self.known: dict[bytes, str] = {}
        self.challenges: set[bytes] = set()

    # Honest parties, the adversary's own enclave, and time.

    def do_join(self, role: str, *, evil: bool = False) -> Joiner:
        """Let a process say hello: an honest one, or the adversary's own, which no policy names."""
        self.number += 1
        random = seeded(10_000 + self.number)
        keys = PartyKeys()
        membership = Membership(
            self.world.mesh,
            keys,
            MeshClock(lambda: self.world.now - BOOTED),
            Witness(self.world.council),
            kind=ENCLAVE,
            roles=(role,),
            random=random,
        )
        hello = joining.hello(self.world.mesh, random(32))
        joiner = Joiner(role, EVIL if evil else role, membership, hello, random)
        self.known[keys.instance] = joiner.workload
        self.joiners.append(joiner)
        del self.joiners[:-JOINING]
        self.network.say(hello.subject, hello.wire)
        return joiner

    def do_hello_again(self, number: int) -> None:
        """Let a process that heard nothing say hello again, as the shell does."""
        if self.joiners:
            joiner = self.joiners[number % len(self.joiners)]
            if joiner.coordinator is None:
                self.network.say(joiner.hello.subject, joiner.hello.wire)

    def do_tick(self) -> None:
        """Let the coordinator's chip quote for the hellos that came."""
        taken = self.world.core.take_hellos()
        if taken is not None:
            batch, bound = taken
            quote = evidence("coordinator", bound)
            self.world.carry_out(self.world.core.handle_quote(batch, quote, {}, now=self.world.now))
            self._publish()

    def do_wait(self, milliseconds: Millis) -> None:
        """Let time pass."""
        self.world.tick(milliseconds)
        self._publish()

    def _publish(self) -> None:
        said, self.world.said = self.world.said, []
        for each in said:
            assert isinstance(each, Publish)
            if not each.subject.endswith("beacon"):
                self.network.say(each.subject, each.payload)

    # The adversary.

    def do(self, deed: Deed, pick: int, other: int, place: int) -> bool:
        """Do something to what is said, and hand on what becomes of it; tell whether there was anything."""
        before = self.network.deeds.total()
        for parcel in self.network.do(deed, pick, other, place):
            self.arrive(parcel)
        return self.network.deeds.total() > before

    def arrive(self, parcel: Parcel) -> None:
        """Hand a parcel to the coordinator, or to whoever waits for it."""
        door = self._door(parcel)
        if door is None:
            return
        self.reached += 1
        before = self._state() if parcel.damaged and parcel.kind in (Kind.BOOT, Kind.SESSION) else None
        self._guarded(door)
        assert before is None or before == self._state(), "state changed before the tag had verified"
        self._publish()

    def _door(self, parcel: Parcel) -> Callable[[], None] | None:
        core, now = self.world.core, self.world.now
        if parcel.kind == Kind.HELLO:
            return lambda: core.handle_hello(parcel.payload)
        if parcel.kind == Kind.BOOT:
            return lambda: self.world.carry_out([*core.handle_boot(parcel.payload, now=now)])
        if parcel.subject in self.world.heard:
            return lambda: self.world.carry_out(core.handle_frame(parcel.payload, now=now))
        for joiner in self.joiners:
            if parcel.subject == joiner.hello.offer_subject and joiner.coordinator is None:
                return partial(self._offered, joiner, parcel)
            if joiner.pending is not None and parcel.subject == joiner.pending.accept_subject:
                return partial(self._accepted, joiner, parcel)
            if joiner.session is not None and parcel.subject == joiner.session.receive_subject:
                return partial(self._answered, joiner, parcel)
        return None

    def _offered(self, joiner: Joiner, parcel: Parcel) -> None:
        member = joiner.membership
        coordinator, appraisal = joining.judge_offer(
            self.world.mesh,
            joiner.hello,
            parcel.payload,
            member.witness,
            member.clock,
            host_time=self.world.now,
        )
        if appraisal.evidence.value != evidence("coordinator", appraisal.key_binding, CHIP).value:
            raise PeerError(Reason.KEY_BINDING_MISMATCH)
        assert coordinator.peer.instance == self.world.keys.instance, "a coordinator that nobody ordered"
        joiner.coordinator, joiner.sent = coordinator, member.clock._local()
        credential = Credential(
            ENCLAVE, member.keys.signing.public, member.keys.kem.public, (joiner.role,), None
        )
        joiner.pending = joining.begin(self.world.mesh, member.keys, coordinator, credential, joiner.random)
        self.network.say(subject(self.world.mesh.id, Kind.BOOT), joiner.pending.wire)

    def _accepted(self, joiner: Joiner, parcel: Parcel) -> None:
        assert joiner.pending is not None
        assert joiner.coordinator is not None
        coordinator, member = joiner.coordinator, joiner.membership
        states: list[State] = []
        session = joiner.pending.accept(
            parcel.payload,
            lambda accept: states.append(joining.judge_accept(coordinator, accept, member.witness)),
        )
        state = states[-1]
        assert state.challenge not in self.challenges, "a challenge for two"
        self.challenges.add(state.challenge)
        member.clock.set(state.time, sent=joiner.sent, grace=GRACE)
        joining.enter(member.witness, coordinator, state)
        joiner.pending, joiner.session, joiner.state = None, session, state
        self.network.say(session.send_subject, session.seal(joining.confirm()))
        bound = joining.agent_binding(self.world.mesh, member.keys, session, state)
        answer = EvidenceAnswer(evidence(joiner.workload, bound), {}, ())
        self.network.say(
            session.send_subject, session.seal(codec.encode(Body("evidence", b"e" * 16, answer)))
        )

    def _answered(self, joiner: Joiner, parcel: Parcel) -> None:
        assert joiner.session is not None
        body = codec.decode(joiner.session.open(parcel.payload), Body)
        if body.purpose == "push":
            return
        try:
            admitted: Admitted = joining.open_admitted(body)
        except joining.AdmissionRefusedError as refusal:
            joiner.refused.append(refusal.reason)
            joiner.over = True
            raise
        assert joiner.coordinator is not None
        joiner.membership.enter(joiner.coordinator.term, GRACE)
        joiner.membership.admitted(admitted)
        joiner.over = True
        self.joined += 1

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except PeerError as refusal:
            self.refused[refusal.reason] += 1

    # What has to hold.

    def _state(self) -> object:
        core = self.world.core
        links = [
            (own_id, link.phase, link.challenge, link.ends, *_session(link.session))
            for own_id, link in core._links._links.items()
        ]
        joiners = [
            (joiner.admitted, joiner.session is None or joiner.session._window._missing)
            for joiner in self.joiners
        ]
        return links, joiners, len(core._handshakes._seen), self._parties()

    def _parties(self) -> set[bytes]:
        return {instance for instance, _ in self._ledger()}

    def _ledger(self) -> list[tuple[bytes, str]]:
        now = self.world.now
        return [
            (party.instance, party.result.workload if party.result else "")
            for role in ROLES
            for party in self.world.core.authority.ledger.holders(role, now)
        ]

    def check(self) -> None:
        """Check what must hold after every move."""
        for instance, workload in self._ledger():
            assert self.known.get(instance) == workload != EVIL, "admitted for what it is not"
        for joiner in self.joiners:
            if joiner.admitted:
                held = joiner.membership.held()
                assert joiner.workload != EVIL
                assert held.admission.subject == joiner.membership.keys.instance
                assert held.admission.roles == (joiner.role,)
            assert set(joiner.refused) <= {Reason.MEASUREMENT_NOT_IN_POLICY}
            assert not joiner.refused or joiner.workload == EVIL
        links = self.world.core._links
        assert len(links._half_open) + len(links._confirmed) <= 2 * HALF_OPEN_TOTAL_COORDINATOR
        assert len(links._per_instance) <= len(links._half_open)
        assert 0 <= self.world.core._appraising <= 0, "what waits for an appraisal that is over"

    def heal(self) -> Millis:
        """Turn the network honest; raise if a fresh process is not admitted at once, or an evil one is."""
        for role, evil in (("planner", False), ("vault", False), ("planner", True)):
            fresh = self.do_join(role, evil=evil)
            self.settle()
            assert fresh.admitted is not evil
            assert fresh.over
        self.world.tick(120 * SECOND)
        links = self.world.core._links
        assert not links._half_open
        assert not links._confirmed
        return 0

    def settle(self) -> None:
        while True:
            parcels = self.network.honest()
            for parcel in parcels:
                self.arrive(parcel)
            self.do_tick()
            if not self.network.flying:
                return


def _session(session: Session) -> tuple[object, ...]:
    return session.confirmed, session._counter, session._window._top, session._window._missing


MOVES = (*ADVERSE, *(Deed.PASS for _ in ADVERSE))
