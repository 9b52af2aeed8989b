"""A client, two workers, and the adversary's scheduler and stream: they lie, lose, repeat and splice.

The workers' shell (agent_runtime/working.py) is done here without awaiting. What runs, runs at once.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from agent_runtime.errors import HandBackError
from agent_runtime.submitting import Outcome, Outgoing
from schemas import codec
from schemas.errors import PeerError, Reason
from schemas.limits import GROUP_SENDERS, MINUTE, SECOND
from schemas.messages import Millis, ResultBody
from schemas.scheduling import Assign, TaskMessage
from schemas.subjects import Kind, subject
from sealing.results import ResultHeader, seal_result
from tests.adversary.network import ADVERSE, Deed, Network, Parcel, task_nonce
from tests.agent_runtime.world import Member, client, mesh_up
from tests.coordinator.world import Party, seeded

CLASS, WORKER = "plan", "planner"
LIFETIME = 5 * MINUTE
PENDING = 24
WORKERS = 2


@dataclass
class Worker:
    """One worker's process: its machines, and what it ran how often."""

    member: Member
    runs: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)


class Tasks:
    """The world of one run."""

    def __init__(self) -> None:
        self.world, _ = mesh_up()
        self.network = Network()
        self.refused: Counter[str] = Counter()
        self.reached = 0
        self.starts = 100
        self.random = seeded(4_711)
        self.client = client(self.world)
        self.workers = [self._start() for _ in range(WORKERS)]
        self.payloads: dict[bytes, bytes] = {}  # task id: what was submitted
        self.outcomes: dict[bytes, Outcome] = {}
        self.failed: Counter[str] = Counter()
        self.declared_dead: set[bytes] = set()
        self.number = 0
        self.beat(0)

    def _start(self) -> Worker:
        self.starts += 1
        return Worker(Member(self.world, Party.enclave(self.world, WORKER).join(), seed=self.starts))

    # Honest parties, and time.

    def do_submit(self, size: int, *, most: int = PENDING) -> bytes | None:
        """Let the client submit a task; None if it has enough under way."""
        if len(self.client.submissions) >= most:
            return None
        self.number += 1
        payload = self.number.to_bytes(8, "big") + bytes(size)
        submitted: list[bytes] = []

        def submit() -> None:
            pending, outgoing = self.client.submissions.submit(CLASS, payload, lifetime=LIFETIME)
            self.payloads[pending.task_id] = payload
            submitted.append(pending.task_id)
            self._publish(outgoing)

        self._guarded(submit)
        return submitted[0] if submitted else None

    def do_restart(self, number: int) -> None:
        """Let a worker end without a word, and another instance begin."""
        self.workers[number % WORKERS] = self._start()
        self.beat(0)

    def do_evict(self, number: int) -> None:
        """Let the operators revoke a worker: its role's epochs turn at once, and another instance begins."""
        gone = self.workers[number % WORKERS]
        self.workers[number % WORKERS] = self._start()
        operator = self.world.up_again()
        operator.event(self.world.revocation("instance", gone.member.instance.hex()))
        for member in self._members():
            member.refresh()
        self.beat(1)

    def do_wait(self, milliseconds: Millis) -> None:
        """Let time pass."""
        self.beat(milliseconds)
        for worker in self.workers:
            worker.member.seen.forget(worker.member.membership.clock.highest())
        ended, again = self.client.submissions.sweep()
        for outcome in ended:
            self._end(outcome)
        for outgoing in again:
            self._publish(outgoing)

    def beat(self, milliseconds: Millis) -> None:
        """Let the coordinator be heard: this adversary withholds other things."""
        self.world.tick(milliseconds)
        to = subject(self.world.mesh.id, Kind.BEACON)
        for frame in self.world.take(to):
            for member in self._members():
                if not member.membership.beacon(frame, to):
                    member.refresh()

    def _members(self) -> list[Member]:
        return [self.client, *(worker.member for worker in self.workers)]

    def _publish(self, outgoing: Outgoing) -> None:
        nonce = task_nonce(codec.decode(outgoing.payload, TaskMessage).frame)
        assert nonce not in self.network.nonces, "a counter was used twice under one key"
        self.network.nonces.add(nonce)
        self.network.say(outgoing.subject, outgoing.payload)

    # The adversary, who is broker and scheduler.

    def do(self, deed: Deed, pick: int, other: int, place: int, *, dead: bool = False) -> bool:
        """Do something to a task or a result, and hand on what becomes of it; tell whether there was any."""
        before = self.network.deeds.total()
        for number, parcel in enumerate(self.network.do(deed, pick, other, place)):
            self.arrive(parcel, worker=other + number, dead=dead)
        return self.network.deeds.total() > before

    def arrive(self, parcel: Parcel, *, worker: int, dead: bool = False) -> None:
        """Assign what came as a task to some worker, and hand a result to its submitter."""
        self.reached += 1
        if parcel.kind == Kind.RESULT:
            self._guarded(lambda: self._end(self.client.submissions.result(parcel.payload)))
        else:
            some = self.workers[worker % WORKERS]
            self._guarded(lambda: self._assigned(some, codec.encode(Assign(parcel.payload, dead))))

    def _assigned(self, worker: Worker, data: bytes) -> None:
        assign = codec.decode(data, Assign)
        member = worker.member
        opened = member.gate.task(codec.decode(assign.task, TaskMessage).frame)
        body = opened.body
        assert self.payloads.get(body.task_id) == body.payload, "a task that nobody submitted"
        assert opened.sender.instance == self.client.instance
        if opened.entry.body is None:
            assert not opened.repeat, "pending, although what runs here runs at once"
            if opened.refusal is not None:
                result = ResultBody(member.instance, opened.refusal.reason.value, "", b"")
            elif assign.dead:
                self.declared_dead.add(body.task_id)
                result = ResultBody(member.instance, Reason.UNDELIVERABLE.value, "", b"")
            else:
                worker.runs[opened.key] += 1
                assert worker.runs[opened.key] == 1, "a handler ran twice in one instance"
                result = ResultBody(member.instance, "", "", b"done " + body.payload)
            opened.entry.body = codec.encode(result)
        if member.membership.keyring.was_closed(opened.token):
            return
        header = ResultHeader(opened.token, body.reply_epoch, body.task_id, self.random(16))
        frame = seal_result(self.world.mesh, body.reply_key, header, opened.entry.body)
        self.network.say(subject(self.world.mesh.id, Kind.RESULT, body.reply_to), frame)

    def _end(self, outcome: Outcome) -> None:
        assert outcome.task_id not in self.outcomes, "a task ended twice"
        self.outcomes[outcome.task_id] = outcome
        if outcome.failure is None:
            assert outcome.value == b"done " + self.payloads[outcome.task_id], "a result that nobody made"
            return
        reason = outcome.failure.reason
        self.failed[reason] += 1
        if reason is Reason.UNDELIVERABLE:
            assert outcome.task_id in self.declared_dead
        else:
            assert reason is Reason.DEADLINE_PASSED

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (PeerError, HandBackError) as refusal:
            self.refused[refusal.reason] += 1

    # What has to hold.

    def check(self) -> None:
        """Check what must hold after every move."""
        assert len(self.client.submissions) <= PENDING + 1
        assert set(self.payloads) - set(self.outcomes) == {
            pending.task_id for pending in self.client.submissions.pending()
        }, "a task that neither ended nor is waited for"
        for member in self._members():
            openers = member.membership.keyring._openers.values()
            assert all(len(opener._known) <= GROUP_SENDERS for opener in openers)
        for worker in self.workers:
            assert len(worker.member.seen) <= len(self.payloads)

    def heal(self) -> Millis:
        """Turn scheduler and broker honest; raise if a fresh task is not done at once, or one never ends."""
        fresh = self.do_submit(10, most=PENDING + 1)
        assert fresh is not None
        self.settle()
        assert fresh in self.outcomes, "an honest network does not carry a task"
        assert self.outcomes[fresh].failure is None
        for _ in range(LIFETIME // (10 * SECOND) + 2):
            if not len(self.client.submissions):
                break
            self.do_wait(8 * SECOND)
            self.settle()
        assert not len(self.client.submissions), "a task never ended"
        return 0

    def settle(self) -> None:
        while parcels := self.network.honest():
            for number, parcel in enumerate(parcels):
                self.arrive(parcel, worker=number)


MOVES = (*ADVERSE, *(Deed.PASS for _ in ADVERSE))
