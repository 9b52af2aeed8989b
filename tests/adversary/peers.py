"""Two agents that call each other's tools over a network of the adversary's, and are restarted at its whim.

What the shell around peering does (agent_runtime/links.py) is done here without awaiting: one handler for
each message, a call that got no answer asked again under its own request id. All else is the machines.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from agent_runtime.peering import Link
from schemas.errors import PeerError
from schemas.limits import (
    GROUP_SENDERS,
    HALF_OPEN_TOTAL,
    HANDSHAKE_LIFETIME,
    MINUTE,
    SECOND,
    SESSIONS_PER_PEER,
)
from schemas.messages import Millis
from schemas.peer import Call, Confirm, Reply, encode_message, joined
from schemas.policy import Policy
from schemas.rules import Rule
from schemas.subjects import Kind, subject
from sealing.session import Session
from tests.adversary.network import ADVERSE, Deed, Network, Parcel
from tests.agent_runtime.world import Member, mesh_up
from tests.coordinator.world import START, Party, World

ROLES = ("redactor", "vault")
TOOLS = {"redactor": "echo", "vault": "pseudonym"}  # role: the tool that it offers
DEADLINE = MINUTE
IN_FLIGHT = 24  # calls of one process that wait: more would only be more of the same
HEALING = HANDSHAKE_LIFETIME + 2 * SECOND  # half-open sessions of an attack may fill an instance's share


def answer_to(arguments: bytes) -> bytes:
    """Return what an honest tool says; nobody else can have said it of these arguments."""
    return b"answer to " + arguments


@dataclass(slots=True)
class Waiting:
    """A call without an answer."""

    call: Call
    peer: bytes
    sent_on: Link | None = None


@dataclass
class Process:
    """One agent's process: its machines, what it asked, and how often its handler ran for whom."""

    role: str
    member: Member
    waiting: dict[bytes, Waiting] = field(default_factory=dict)
    runs: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)

    @property
    def instance(self) -> bytes:
        return self.member.instance


class Peers:
    """The world of one run. Every method that begins with `do` is one move of the adversary or of time."""

    def __init__(self) -> None:
        self.world, _ = mesh_up(_policy())
        self.network = Network()
        self.refused: Counter[str] = Counter()
        self.answered = 0
        self.number = 0
        self.said: dict[tuple[bytes, bytes, bytes], bytes] = {}  # asker, asked, request: arguments
        self.starts = 0
        self.processes = {role: self._start(role) for role in ROLES}
        self.ended: list[Process] = []
        self.beat(0)

    # What honest parties do.

    def _start(self, role: str) -> Process:
        self.starts += 1  # no two processes draw the same ids
        return Process(role, Member(self.world, Party.enclave(self.world, role).join(), seed=self.starts))

    def other(self, process: Process) -> Process:
        return self.processes[ROLES[1 - ROLES.index(process.role)]]

    def do_call(self, role: str, size: int) -> bytes | None:
        """Let a process call the other's tool; return the request's id, None if it has enough in flight."""
        process = self.processes[role]
        if len(process.waiting) >= IN_FLIGHT:
            return None
        self.number += 1
        peer = self.other(process)
        request = self.number.to_bytes(16, "big")
        arguments = request + bytes(size)
        call = Call(request, TOOLS[peer.role], arguments, self.world.now + DEADLINE, None)
        process.waiting[request] = Waiting(call, peer.instance)
        self.said[process.instance, peer.instance, request] = arguments
        self._ask(process, request)
        return request

    def do_give_up(self, role: str) -> None:
        """Let a process ask again what has no answer: on another session, as the shell does on silence."""
        process = self.processes[role]
        for waiting in process.waiting.values():
            if waiting.sent_on is not None:
                waiting.sent_on.retired = True
                waiting.sent_on = None
        for accept_subject in list(process.member.peering._opening):
            process.member.peering.abandon(accept_subject)
        self._ask_all(process)

    def do_renew(self, role: str) -> None:
        """Let a process open another session while the present one works."""
        process = self.processes[role]
        self._guarded(lambda: self._open(process))

    def do_restart(self, role: str) -> None:
        """Let a process end without a word, and begin again as another instance."""
        self.ended.append(self.processes[role])
        del self.ended[:-3]
        self.processes[role] = self._start(role)
        other = self.other(self.processes[role])
        for request, waiting in list(other.waiting.items()):
            if (
                waiting.peer == self.ended[-1].instance
            ):  # it may have run there, so it is not asked of another
                del other.waiting[request]
        self.beat(0)

    def do_wait(self, milliseconds: Millis) -> None:
        """Let time pass, with the sweeps and beacons that are due; beacons travel like everything else."""
        self.beat(milliseconds)
        for process in self.processes.values():
            process.member.peering.sweep()
            now = self.world.now
            for request in [each for each, wait in process.waiting.items() if wait.call.deadline <= now]:
                del process.waiting[request]

    def beat(self, milliseconds: Millis) -> None:
        """Let the coordinator send a beacon."""
        self.world.tick(milliseconds)
        to = subject(self.world.mesh.id, Kind.BEACON)
        for frame in self.world.take(to):
            self.network.say(to, frame)

    # What the adversary does.

    def do(self, deed: Deed, pick: int, other: int, place: int) -> bool:
        """Do something to what is said, and hand on what becomes of it; tell whether there was anything."""
        before = self.network.deeds.total()
        for parcel in self.network.do(deed, pick, other, place):
            self.arrive(parcel)
        return self.network.deeds.total() > before

    def arrive(self, parcel: Parcel) -> None:
        """Hand a parcel to whoever listens there; beacons to all."""
        for process in self.processes.values():
            door = self._door(process, parcel)
            if door is None:
                continue
            before = self._state(process) if parcel.damaged else None
            if self._guarded(door) and before is not None:
                raise AssertionError(f"what nobody said was accepted on {parcel.kind}")
            assert before is None or before == self._state(process), (
                "state changed before the tag had verified"
            )

    def _door(self, process: Process, parcel: Parcel) -> Callable[[], None] | None:
        peering, to = process.member.peering, parcel.subject
        if parcel.kind == Kind.BEACON:
            return lambda: self._beacon(process, parcel)
        if parcel.kind == Kind.INBOX and to in peering.inbox_subjects():
            return lambda: self._inbox(process, parcel)
        if to in peering._opening:
            return lambda: self._accepted(process, parcel)
        if any(link.session.receive_subject == to for link in peering._links.values()):
            return lambda: self._receive(process, parcel)
        return None

    def _beacon(self, process: Process, parcel: Parcel) -> None:
        if not process.member.membership.beacon(parcel.payload, parcel.subject):
            process.member.refresh()

    def _inbox(self, process: Process, parcel: Parcel) -> None:
        to, wire, _ = process.member.peering.inbox(parcel.payload, parcel.subject)
        self.network.say(to, wire)

    def _accepted(self, process: Process, parcel: Parcel) -> None:
        link = process.member.peering.accepted(parcel.subject, parcel.payload)
        self.network.say(*process.member.peering.seal(link, Confirm()))
        self._ask_all(process)

    def _receive(self, process: Process, parcel: Parcel) -> None:
        link, messages, _ = process.member.peering.receive(parcel.payload)
        for message in messages:
            if isinstance(message, Call):
                self._guarded(partial(self._run, process, link, message))
            elif isinstance(message, Reply):
                self._reply(process, link, message)

    def _run(self, process: Process, link: Link, call: Call) -> None:
        peer = link.peer.subject
        assert self.said.get((peer, process.instance, call.request)) == call.arguments, "a call nobody made"
        peering = process.member.peering
        kept = peering.requests.begin(peer, call.request, until=call.deadline, now=link.received)
        if kept is None:
            process.member.gate.call(peer, link.peer_role, link.own_role, call)
            process.runs[peer, call.request] += 1
            assert process.runs[peer, call.request] == 1, "a handler ran twice"
            kept = encode_message(Reply(call.request, "", "", answer_to(bytes(call.arguments))))
            peering.requests.finish(peer, call.request, kept)
        self.network.say(*peering.seal_encoded(link, 1, [joined(kept)]))

    def _reply(self, process: Process, link: Link, reply: Reply) -> None:
        waiting = process.waiting.get(reply.request)
        if waiting is None or waiting.peer != link.peer.subject:
            return
        assert reply.value == answer_to(bytes(waiting.call.arguments)), "an answer that nobody gave"
        del process.waiting[reply.request]
        self.answered += 1

    def _ask(self, process: Process, request: bytes) -> None:
        waiting = process.waiting[request]
        peering = process.member.peering
        link = peering.usable(waiting.peer, self.other(process).role)
        if link is not None:
            waiting.sent_on = link
            self._guarded(lambda: self.network.say(*peering.seal(link, waiting.call)))
        elif not peering._opening:
            self._guarded(lambda: self._open(process))

    def _ask_all(self, process: Process) -> None:
        for request, waiting in list(process.waiting.items()):
            if waiting.sent_on is None:
                self._ask(process, request)

    def _open(self, process: Process) -> None:
        peer = self.other(process)
        _, inbox, frame = process.member.peering.open(peer.member.party.admitted.admission, peer.role)
        self.network.say(inbox, frame)

    def _guarded(self, act: Callable[[], None]) -> bool:
        """Do as the shell does: a peer's error ends one message, anything else ends the run."""
        try:
            act()
        except PeerError as refusal:
            self.refused[refusal.reason] += 1
            return False
        return True

    # What has to hold.

    def _state(self, process: Process) -> object:
        member = process.member
        links = [
            (own_id, link.received, link.sent, link.heard, *_session(link.session))
            for own_id, link in member.peering._links.items()
        ]
        windows = [
            (handle, known.window._top, known.window._missing)
            for opener in member.membership.mesh_openers()
            for handle, known in opener._known.items()
        ]
        peering, membership = member.peering, member.membership
        standing = membership.last_beacon, membership.trust, membership.witness.proof
        return links, windows, list(peering._opening), list(peering._seen), dict(process.runs), standing

    def check(self) -> None:
        """Check what must hold after every move."""
        for process in self.processes.values():
            peering = process.member.peering
            half_open = sum(not link.session.confirmed for link in peering._links.values())
            assert half_open <= HALF_OPEN_TOTAL
            assert len(peering._links) - half_open <= SESSIONS_PER_PEER * (len(self.ended) + 2) + IN_FLIGHT
            assert {id(link) for links in peering._by_peer.values() for link in links} == {
                id(link) for link in peering._links.values()
            }
            assert peering.requests._size >= 0
            assert all(
                len(opener._known) <= GROUP_SENDERS for opener in process.member.membership.mesh_openers()
            )
            assert process.member.membership.witness.proof is None
            assert max(process.runs.values(), default=1) == 1

    def heal(self) -> Millis:
        """Turn the network honest; return after what time both could call each other again.

        Raise if they cannot within the life of the half-open sessions that the adversary left behind.
        """
        start = self.world.now
        while True:
            asked = {role: self._fresh_call(role) for role in ROLES}
            for _ in range(2):  # on silence a session is given up and the call asked again, once
                self.settle()
                if not any(asked[role] in self.processes[role].waiting for role in ROLES):
                    return self.world.now - start
                for role in ROLES:
                    self.do_give_up(role)
            assert self.world.now - start <= HEALING, "an honest network does not carry a call"
            self.do_wait(SECOND)

    def _fresh_call(self, role: str) -> bytes:
        self.processes[role].waiting.clear()
        request = self.do_call(role, 10)
        assert request is not None
        return request

    def settle(self) -> None:
        while parcels := self.network.honest():
            for parcel in parcels:
                self.arrive(parcel)


def _policy() -> Policy:
    world = World()
    rules = tuple(
        Rule(role=role, may="call", what=TOOLS[other])
        for role, other in (("redactor", "vault"), ("vault", "redactor"))
    )
    return world.policy(tools={TOOLS[role]: role for role in ROLES}, rules=rules, issued=START)


def _session(session: Session) -> tuple[object, ...]:
    return session.confirmed, session._counter, session._window._top, session._window._missing


MOVES = (*ADVERSE, *(Deed.PASS for _ in ADVERSE))  # as often kind as not, or nothing would ever get anywhere
