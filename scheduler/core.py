"""The scheduler's decisions: messages and the time go in, actions come out.

Pure: no clock, no randomness of its own, no I/O, no keys. It keeps no truth: every task here is also in
the stream, unacknowledged until an agent said `done` or nobody can be waiting any longer. All that it
reads is written by parties it need not trust, and a wrong belief costs a delay or a second delivery.
"""

from hashlib import blake2b
from random import Random

from scheduler.agents import Agent, Agents
from scheduler.holdings import Holdings
from scheduler.lifecycle import (
    ACK_WAIT,
    AVOID_FOR,
    EXTEND_EVERY,
    KEYS_PER_TASK,
    Ack,
    Action,
    Event,
    Extend,
    Nak,
    Send,
    State,
    Task,
    backoff,
    read_task,
)
from scheduler.memory import Memory
from scheduler.metrics import Counters, Gauges
from scheduler.placement import choose
from scheduler.queues import Queue
from schemas.codec import decode, encode
from schemas.errors import MalformedError, PeerError
from schemas.limits import MAX_MESSAGE, MINUTE, SECOND
from schemas.scheduling import BACK, DONE, Assign, Load, Status

WINDOW = 2_048  # tasks that wait here, over all classes: a second's work, for priorities to act on
WINDOW_LEAST = 16  # of one class
HELD_MOST = 65_536
HELD_BYTES_MOST = 256 * 1024 * 1024
ASSIGN_ROOM = 16  # what `Assign` adds around a task message
FINISHED_KEPT = 65_536
FINISHED_MEMORY = 2 * MINUTE  # an acknowledgement that got lost shows within ACK_WAIT
CLAIMS_KEPT = 65_536
CLAIM_MEMORY = 6 * ACK_WAIT  # what agents hold from before our restart is delivered again by then
UNSTAFFED_HOLD = 30 * SECOND  # agents that are restarted are back by then
AVOIDED_RETRY = 100  # everyone with room has failed the task: look again soon
SECOND_LOOK = 2 * SECOND  # a superseded frame comes again; by then the first may have ended
CENSUS_EVERY = 500


class Core:
    """All tasks and agents of one scheduler."""

    def __init__(self, draw: Random, *, max_payload: int = MAX_MESSAGE) -> None:
        self.counters = Counters()
        self._draw = draw
        self._largest = max_payload - ASSIGN_ROOM
        self._agents = Agents()
        self._queue = Queue()
        self._tasks = Holdings()
        self._next_census = 0
        self._unstaffed: dict[bytes, int] = {}
        self._finished = Memory(most=FINISHED_KEPT, age=FINISHED_MEMORY)  # digests of task messages
        self._claims = Memory(most=CLAIMS_KEPT, age=CLAIM_MEMORY)  # load tokens of who speaks of the task

    # What the shell may ask

    def classes(self) -> set[bytes]:
        """Return the classes whose tasks somebody takes: only these are worth pulling."""
        return {name for name, pool in self._agents.pools.items() if pool.staffed()}

    def demand(self, name: bytes) -> int:
        """Return how many more tasks of a class are welcome now."""
        pool = self._agents.pools.get(name)
        if pool is None or not pool.staffed():
            return 0
        if len(self._tasks) >= HELD_MOST or self._tasks.bytes >= HELD_BYTES_MOST:
            return 0
        share = max(WINDOW_LEAST, WINDOW // len(self._agents.pools))
        return max(0, share - self._tasks.waiting(name))

    def gauges(self) -> Gauges:
        """Return what is in our hands."""
        waiting = self._tasks.all_waiting()
        return Gauges(
            agents=len(self._agents),
            classes=len(self._agents.pools),
            waiting=waiting,
            in_flight=len(self._tasks) - waiting,
            held_bytes=self._tasks.bytes,
        )

    # What happens

    def deliver(self, key: int, name: bytes, data: bytes, *, now: int) -> list[Action]:
        """Take one message of the stream, found under the class `name`; the answer goes to `key`."""
        self.counters.received += 1
        if len(data) > self._largest:
            self.counters.oversize_tasks += 1
            return [Ack(key)]
        try:
            task = read_task(key, name, data, now=now)
        except MalformedError:
            # It would come again for ever. Its submitter's own deadline makes it `expired`.
            self.counters.malformed_tasks += 1
            return [Ack(key)]
        if task.expires_at <= now:
            self.counters.expired += 1
            return [Ack(key)]
        held = self._tasks.get(task.id)
        if held is not None:
            return self._again(held, task, now=now)
        if task.id in self._finished and self._finished.get(task.id) == _digest(data):
            self.counters.repeated += 1
            return [Ack(key)]
        return self._begin(task, now=now)

    def load(self, token: bytes, data: bytes, *, now: int) -> list[Action]:
        """Take one load message that arrived under an agent's load token."""
        self.counters.loads += 1
        try:
            self._agents.charge(token, len(data), now=now)
            load = decode(data, Load)
            fresh = self._agents.get(token) is None
            agent = self._agents.hear(token, load, now=now)
        except MalformedError:
            self.counters.malformed_loads += 1
            return []
        except PeerError:
            self.counters.refused_loads += 1
            return []
        self.counters.agents_seen += fresh
        actions: list[Action] = []
        for status in load.statuses:
            actions += self._status(agent, status, now=now)
        # After the statuses: what they answer is in the announced credits already.
        self._agents.credit(agent, load.credits, now=now)
        return actions

    def place(self, *, now: int) -> list[Action]:
        """Assign what can be assigned, one task of each class in turn."""
        actions: list[Action] = []
        for agent in self._agents.take_opened():
            for opened in agent.classes:
                self._queue.wake(opened)
        while (name := self._queue.next_class()) is not None:
            task = self._queue.first(name)
            pool = self._agents.pools.get(name)
            if task is None or pool is None or not pool.open:
                continue  # whoever joins or gets room gives the class its turn again
            self._queue.wake(name)
            avoid = task.avoid if now < task.avoid_until else ()
            chosen = choose(pool, task.hints.affinity, avoid, self._draw)
            if chosen is None:
                self._postpone(task, now + AVOIDED_RETRY)
            else:
                actions.append(self._assign(task, chosen, now=now))
        return actions

    def sweep(self, *, now: int) -> list[Action]:
        """Do what the time demands; to be called every 100 ms or so."""
        actions: list[Action] = []
        if now >= self._next_census:
            self._next_census = now + CENSUS_EVERY
            for agent in self._agents.lost(now=now):
                self.counters.agents_lost += 1
                for task_id in list(agent.tasks):
                    if (task := self._tasks.get(task_id)) is not None:
                        self._fail(task, Event.LOST, now=now)
            actions += self._return_unstaffed(now)
            self._finished.forget(now=now)
            self._claims.forget(now=now)
        for task in self._tasks.due(now=now):
            actions += self._due(task, now=now)
        return actions

    def excuse(self, *, now: int) -> None:
        """Hold no silence against anybody: the broker is away."""
        self._agents.excuse(now=now)
        for task in self._tasks:
            task.be_patient(now=now)

    def drain(self, *, now: int) -> list[Action]:
        """Hand back at once what nobody works on; the rest comes again when its time is up."""
        waiting = [task for task in self._tasks if task.state is State.WAITING]
        return [action for task in waiting for action in self._return(task, 0, now=now)]

    # One task

    def _begin(self, task: Task, *, now: int) -> list[Action]:
        self._tasks.add(task)
        return self._line_up(task, now=now)

    def _line_up(self, task: Task, *, now: int) -> list[Action]:
        """Give a task to the agent that spoke of it unasked, else let it wait for its turn."""
        claim = self._claims.get(task.id)
        holder = self._agents.get(claim) if claim is not None else None
        known = holder is not None and holder.token in task.tried
        if holder is None or known or task.hints.class_token not in holder.classes:
            self._queue.push(task)
            return []
        return [self._adopt(task, holder, now=now)]

    def _adopt(self, task: Task, agent: Agent, *, now: int) -> Action:
        self.counters.adopted += 1
        task.adopted = True
        return self._assign(task, agent, now=now)

    def _again(self, held: Task, task: Task, *, now: int) -> list[Action]:
        """Judge a message whose task id is in flight here already."""
        if len(held.keys) >= KEYS_PER_TASK:
            return [Nak(task.keys[0], ACK_WAIT)]
        if held.data == task.data:
            self.counters.redelivered += 1
            held.keys += task.keys
            return []
        # Sealed anew by its submitter, perhaps because the former frame can no longer be opened.
        self.counters.superseded += 1
        if held.state is not State.WAITING:
            return [Nak(task.keys[0], SECOND_LOOK)]
        task.succeed(held, self._end(held, Event.RETURN, now=now))
        return self._begin(task, now=now)

    def _status(self, agent: Agent, status: Status, *, now: int) -> list[Action]:
        task = self._tasks.get(status.task_id)
        if task is None:
            self._claim(agent, status, now)
            return []
        event = {DONE: Event.DONE, BACK: Event.BACK}.get(status.state, Event.TAKEN)
        if agent.token not in task.tried:
            return self._foreign(task, agent, event, now=now)
        mine = task.agent == agent.token
        # Whoever had it before may have finished it, or kept it while nobody else has it.
        late = event is Event.DONE or (event is Event.TAKEN and task.state is State.WAITING)
        if not (mine or late) or not task.can(event):
            self.counters.idle_statuses += 1
            return []
        if mine:
            self._agents.answered(agent)
        if event is Event.BACK:
            self.counters.handed_back += 1
            self._fail(task, event, now=now)
            return []
        if event is Event.DONE:
            return self._finish(task, agent, now=now)
        self._queue.remove(task)
        agent.unconfirmed -= task.state is State.SENT
        agent.tasks.add(task.id)
        self._tasks.step(task, event, now=now)
        task.assigned_to(agent.token)
        self._tasks.arm(task)
        return []

    def _foreign(self, task: Task, agent: Agent, event: Event, *, now: int) -> list[Action]:
        """Judge the word of an agent on a task that it was never assigned here.

        `done` counts for nothing. Who says that it has what nobody else has may be right, since before
        our restart or under its former name: it gets the assignment, and an honest one runs it once.
        """
        serves = task.hints.class_token in agent.classes
        if event is Event.TAKEN and task.state is State.WAITING and serves:
            return [self._adopt(task, agent, now=now)]
        self.counters.foreign_statuses += 1
        if event is Event.TAKEN:
            self._claims.put(task.id, agent.token, now=now)
        return []

    def _assign(self, task: Task, agent: Agent, *, now: int) -> Action:
        self.counters.assigned += 1
        self._queue.remove(task)
        self._tasks.step(task, Event.ASSIGN, now=now)
        task.assigned_to(agent.token)
        self._agents.sent(agent, task.id, now=now)
        self._tasks.arm(task)
        return Send(agent.assign_token, encode(Assign(task=task.data, dead=task.dead)))

    def _finish(self, task: Task, agent: Agent, *, now: int) -> list[Action]:
        self.counters.done += 1
        self.counters.undeliverable += task.dead
        self._finished.put(task.id, _digest(task.data), now=now)
        # Should the task come again under another frame, this agent has kept its result. But only once:
        # an agent that lies about being done would get it back for ever.
        if task.adopted:
            self._claims.drop(task.id)
        else:
            self._claims.put(task.id, agent.token, now=now)
        self._agents.finished(agent)
        return [Ack(key) for key in self._end(task, Event.DONE, now=now)]

    def _fail(self, task: Task, event: Event, *, now: int) -> None:
        """Let a task wait for a better agent."""
        if event is Event.SILENT:
            self.counters.silent += 1
        elif event is Event.LOST:
            self.counters.lost += 1
        holder = self._agents.get(task.agent) if task.agent is not None else None
        if event is Event.SILENT and holder is not None:
            self._agents.silent(holder, now=now)
        self._release(task, now=now)
        was_dead = task.dead
        self._tasks.step(task, event, now=now)
        self.counters.dead_lettered += task.dead and not was_dead
        until = now + max(1, backoff(task.failures, self._draw.random()))
        task.avoid_until = until + AVOID_FOR
        self._postpone(task, until)

    def _release(self, task: Task, *, now: int) -> None:
        """Take a task off its holder's account, before its state changes."""
        agent = self._agents.get(task.agent) if task.agent is not None else None
        if agent is not None:
            agent.unconfirmed -= task.state is State.SENT
            self._agents.left(agent, task.id, now=now)

    def _postpone(self, task: Task, until: int) -> None:
        self._queue.remove(task)
        task.ready_at = until
        self._tasks.arm(task)

    def _end(self, task: Task, event: Event, *, now: int) -> list[int]:
        """Forget a task and return the keys of its deliveries."""
        self._release(task, now=now)
        self._queue.remove(task)
        self._tasks.step(task, event, now=now)
        self._tasks.remove(task)
        return task.keys

    def _return(self, task: Task, delay: int, *, now: int) -> list[Action]:
        self.counters.returned += 1
        return [Nak(key, delay) for key in self._end(task, Event.RETURN, now=now)]

    # The time

    def _due(self, task: Task, *, now: int) -> list[Action]:
        if task.expires_at <= now:
            self.counters.expired += 1
            return [Ack(key) for key in self._end(task, Event.DEADLINE, now=now)]
        actions: list[Action] = []
        if task.extend_at <= now:
            task.extend_at = now + EXTEND_EVERY
            actions += [Extend(key) for key in task.keys]
        if task.state is State.WAITING and 0 < task.ready_at <= now:
            actions += self._line_up(task, now=now)
        elif task.state is State.SENT and task.patience <= now:
            self._fail(task, Event.SILENT, now=now)
        elif task.state is State.RUNNING and task.patience <= now:
            actions += self._ask_again(task, now=now)
        self._tasks.arm(task)
        return actions

    def _ask_again(self, task: Task, *, now: int) -> list[Action]:
        """Ask the holder that no longer speaks of a task: it answers from what it kept."""
        agent = self._agents.get(task.agent) if task.agent is not None else None
        if agent is None:
            self._fail(task, Event.LOST, now=now)
            return []
        self.counters.reasked += 1
        return [self._assign(task, agent, now=now)]

    def _return_unstaffed(self, now: int) -> list[Action]:
        actions: list[Action] = []
        waiting = [name for name in self._queue.classes() if name not in self._agents.pools]
        self._unstaffed = {name: self._unstaffed.get(name, now) for name in waiting}
        for name, since in self._unstaffed.items():
            if now - since >= UNSTAFFED_HOLD:
                for task in self._queue.waiting(name):
                    actions += self._return(task, SECOND_LOOK, now=now)
        return actions

    def _claim(self, agent: Agent, status: Status, now: int) -> None:
        self.counters.unknown_statuses += 1
        if status.state != BACK and status.task_id not in self._finished:
            self._claims.put(status.task_id, agent.token, now=now)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
