"""No task is lost, whatever agents, the broker and time do: hypothesis looks for a way."""

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from scheduler.core import Core
from scheduler.lifecycle import Ack, Action, Extend, Nak, Send
from schemas.codec import decode
from schemas.scheduling import BACK, DONE, TAKEN, WORKING, Assign, TaskMessage, task_id_of
from tests.scheduler.script import BLUE, HOUR, NOW, RED, load, task, token

AGENTS = 4
SERVES = {0: (RED,), 1: (RED, BLUE), 2: (RED,), 3: (BLUE,)}


class World(RuleBasedStateMachine):
    """A stream that keeps what is unacknowledged, agents that die, lie and stay silent, one scheduler."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.core = Core(Random(1))
        self.keys = 0
        self.numbers = 0
        self.stream: dict[int, tuple[bytes, bytes]] = {}  # message number to class and bytes
        self.out: dict[int, int] = {}  # key to message number: deliveries not yet answered
        self.ends: dict[int, str] = {}  # message number to how it was acknowledged
        self.alive = set(range(AGENTS))
        self.held: dict[int, set[int]] = {agent: set() for agent in range(AGENTS)}  # task numbers
        self.told_done: set[int] = set()
        self.deadlines: dict[int, int] = {}

    def did(self, actions: list[Action]) -> None:
        """Carry out what the scheduler decided, as broker and agents."""
        for action in [*actions, *self.core.place(now=self.now)]:
            match action:
                case Ack(key):
                    message = self.out.pop(key)
                    # A second delivery of one message may be answered too; the first counts.
                    if message in self.stream:
                        self.judge(message)
                        del self.stream[message]
                case Nak(key, _):
                    del self.out[key]
                case Extend(key):
                    assert key in self.out
                case Send(assign_token, payload):
                    agent = int(assign_token[1:])
                    message_ = decode(decode(payload, Assign).task, TaskMessage)
                    assert message_.hints.class_token in SERVES[agent]
                    if agent in self.alive:
                        self.held[agent].add(int(task_id_of(message_.frame)[1:]))

    def judge(self, message: int) -> None:
        """Check that whoever acknowledges a task has a reason."""
        assert message not in self.ends, "acknowledged twice"
        if message in self.told_done:
            self.ends[message] = "done"
        else:
            assert self.now > self.deadlines[message], "acknowledged without a reason"
            self.ends[message] = "expired"

    @rule(target=tasks, name=st.sampled_from([RED, BLUE]), lasts=st.sampled_from([4_000, HOUR, 30 * HOUR]))
    def publish(self, name: bytes, lasts: int) -> int:
        """A submitter publishes; the message number is the task number."""
        self.numbers += 1
        self.deadlines[self.numbers] = self.now + lasts
        self.stream[self.numbers] = (name, task(self.numbers, name=name, deadline=self.now + lasts))
        return self.numbers

    @rule(message=tasks)
    def deliver(self, message: int) -> None:
        """The broker delivers, perhaps what it has delivered before."""
        if message in self.stream:
            name, data = self.stream[message]
            self.keys += 1
            self.out[self.keys] = message
            self.did(self.core.deliver(self.keys, name, data, now=self.now))

    def speak(self, agent: int, *statuses: tuple[int, str], credits_: int = 3) -> None:
        """An agent sends a load message."""
        data = load(agent, *statuses, classes=SERVES[agent], credits_=credits_)
        self.did(self.core.load(token(agent), data, now=self.now))

    @rule(agent=st.integers(0, AGENTS - 1), credits_=st.integers(0, 5))
    def heartbeat(self, agent: int, credits_: int) -> None:
        """An agent says that it is there and what it works on."""
        if agent in self.alive:
            self.speak(agent, *((number, WORKING) for number in self.held[agent]), credits_=credits_)

    @rule(
        agent=st.integers(0, AGENTS - 1),
        state=st.sampled_from([TAKEN, DONE, BACK]),
        pick=st.integers(0, 9),
    )
    def progress(self, agent: int, state: str, pick: int) -> None:
        """An agent says what became of one of its tasks."""
        if agent not in self.alive or not self.held[agent]:
            return
        number = sorted(self.held[agent])[pick % len(self.held[agent])]
        if state == DONE:
            self.told_done.add(number)
        if state != TAKEN:
            self.held[agent].discard(number)
        self.speak(agent, (number, state))

    @rule(agent=st.integers(0, AGENTS - 1))
    def word_is_lost(self, agent: int) -> None:
        """An agent finishes what it has, and the broker loses its word."""
        self.told_done.update(self.held[agent])
        self.held[agent].clear()

    @rule(
        agent=st.integers(0, AGENTS - 1), message=tasks, state=st.sampled_from([TAKEN, WORKING, DONE, BACK])
    )
    def lie(self, agent: int, message: int, state: str) -> None:
        """A stranger says something of a task that is not its own."""
        data = load(agent + 100, (message, state), classes=(), credits_=5)
        self.did(self.core.load(token(agent + 100), data, now=self.now))

    @rule(agent=st.integers(0, AGENTS - 1))
    def die(self, agent: int) -> None:
        """An agent ends without a word."""
        self.alive.discard(agent)
        self.held[agent].clear()

    @rule(agent=st.integers(0, AGENTS - 1))
    def come_back(self, agent: int) -> None:
        """An agent is there again and knows of nothing."""
        self.alive.add(agent)

    @rule(milliseconds=st.integers(1, 5_000))
    def time_passes(self, milliseconds: int) -> None:
        """The sweep comes late, as sweeps do."""
        self.now += milliseconds
        self.did(self.core.sweep(now=self.now))

    @precondition(lambda self: self.numbers > 2)
    @rule()
    def scheduler_is_killed(self) -> None:
        """A new scheduler knows nothing; the broker delivers again what was not acknowledged."""
        self.core = Core(Random(2))
        self.out.clear()

    @rule(message=consumes(tasks), data=st.binary(max_size=40))
    def junk(self, message: int, data: bytes) -> None:
        """Somebody writes what is no task into the stream; one task is no longer delivered by chance."""
        self.keys += 1
        actions = self.core.deliver(self.keys, RED, data, now=self.now)
        assert actions == [Ack(self.keys)]

    @invariant()
    def accounts_agree(self) -> None:
        """What the scheduler holds is what the broker has out, and no more."""
        gauges = self.core.gauges()
        held = set(self.out.values())
        assert gauges.waiting + gauges.in_flight == len(held)
        assert (gauges.held_bytes == 0) == (not held)
        for agent in self.core._agents._by_token.values():
            assert agent.unconfirmed >= 0
            assert agent.open == (agent.room(self.now) > 0) or agent.suspended_until
            for task_id in agent.tasks:
                held_task = self.core._tasks.get(task_id)
                assert held_task is not None
                assert held_task.agent == agent.token

    def teardown(self) -> None:
        """Give everything a fair chance: then every task must have ended."""
        for _ in range(400):
            self.alive = set(range(AGENTS))
            for message in [message for message in self.stream if message not in self.out.values()]:
                self.deliver(message)
            for agent in range(AGENTS):
                finished = tuple(self.held[agent])
                self.told_done.update(finished)
                self.held[agent].clear()
                self.speak(agent, *((number, DONE) for number in finished), credits_=50)
            if not self.stream:
                break
            self.now += 500
            self.did(self.core.sweep(now=self.now))
        assert not self.stream, f"{len(self.stream)} tasks never ended"
        assert set(self.ends) == set(range(1, self.numbers + 1))
        assert not self.out
        gauges = self.core.gauges()
        assert gauges.waiting == gauges.in_flight == gauges.held_bytes == 0


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=150, stateful_step_count=80, deadline=None)
