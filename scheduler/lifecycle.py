"""The life of one task: a table of transitions, the actions that follow, and the patience behind them.

Pure: no clock, no randomness, no I/O. Times are milliseconds on the caller's clock. A task lives here
only while the stream still holds its message, so forgetting one is never losing it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from schemas.codec import decode
from schemas.errors import MalformedError
from schemas.limits import CLOCK_AHEAD, SECOND
from schemas.scheduling import TaskHints, TaskMessage, task_id_of

TAKEN_WITHIN = 2 * SECOND  # a live agent answers an assignment with its next load message
MENTIONED_WITHIN = 5 * SECOND  # a holder speaks of a task each second, so its last word on it was lost
ACK_WAIT = 10 * SECOND  # how long the stream waits for a killed scheduler before it delivers again
EXTEND_EVERY = 3 * SECOND  # two extensions may get lost before the stream delivers again
MAX_ATTEMPTS = 8  # taken, then lost or handed back, so often: more likely the task than the agents
MAX_UNTAKEN = 32  # a frame that no agent can open must end too, or one that kills its agent at once
AVOID_FOR = 10 * SECOND  # after that an agent that failed it once beats one that has no room
BACKOFF_FIRST = 200
BACKOFF_MOST = 30 * SECOND
REMEMBERED_AGENTS = 8  # whose statuses still count after the task went elsewhere
KEYS_PER_TASK = 4  # deliveries of one message that wait for one acknowledgement
DEADLINE_SLACK = CLOCK_AHEAD  # our clock is a host's: rather assign too late than drop too early


class State(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"
    SENT = "sent"
    RUNNING = "running"
    DONE = "done"
    EXPIRED = "expired"
    RETURNED = "returned"


class Event(StrEnum):
    """What happens to a task."""

    ASSIGN = "assign"
    TAKEN = "taken"  # the statuses `taken` and `working`: an agent has it
    DONE = "done"
    BACK = "back"
    SILENT = "silent"
    LOST = "lost"
    DEADLINE = "deadline"
    RETURN = "return"  # to the stream, which holds it better than we do


TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.WAITING, Event.ASSIGN): State.SENT,
        # An earlier holder was only slow to say so: better there than run a second time.
        (State.WAITING, Event.TAKEN): State.RUNNING,
        (State.WAITING, Event.DONE): State.DONE,
        (State.WAITING, Event.DEADLINE): State.EXPIRED,
        (State.WAITING, Event.RETURN): State.RETURNED,
        (State.SENT, Event.TAKEN): State.RUNNING,
        (State.SENT, Event.DONE): State.DONE,
        (State.SENT, Event.BACK): State.WAITING,
        (State.SENT, Event.SILENT): State.WAITING,
        (State.SENT, Event.LOST): State.WAITING,
        (State.SENT, Event.DEADLINE): State.EXPIRED,
        # Asked again: an agent that ran it answers from what it kept and never runs it twice.
        (State.RUNNING, Event.ASSIGN): State.SENT,
        (State.RUNNING, Event.TAKEN): State.RUNNING,
        (State.RUNNING, Event.DONE): State.DONE,
        (State.RUNNING, Event.BACK): State.WAITING,
        (State.RUNNING, Event.LOST): State.WAITING,
        (State.RUNNING, Event.DEADLINE): State.EXPIRED,
    }
)

FINAL = frozenset({State.DONE, State.EXPIRED, State.RETURNED})


@dataclass(frozen=True, slots=True)
class Send:
    """Publish an assignment to one agent."""

    assign_token: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """Tell the stream that it may forget this delivery's message."""

    key: int


@dataclass(frozen=True, slots=True)
class Extend:
    """Tell the stream that this delivery is still in good hands."""

    key: int


@dataclass(frozen=True, slots=True)
class Nak:
    """Give this delivery back to the stream, to be delivered again after `delay` milliseconds."""

    key: int
    delay: int


Action = Send | Ack | Extend | Nak


@dataclass(slots=True)
class Task:
    """One message of the stream while it is in our hands."""

    id: bytes
    hints: TaskHints
    data: bytes = field(repr=False)
    keys: list[int]
    arrived: int
    extend_at: int
    state: State = State.WAITING
    agent: bytes | None = None  # the load token of who has it
    tried: tuple[bytes, ...] = ()  # who had it, newest last
    avoid: tuple[bytes, ...] = ()  # who should not get it while others can
    avoid_until: int = 0
    failures: int = 0
    losses: int = 0  # taken, then lost or handed back
    untaken: int = 0  # sent, then silence or handed back
    dead: bool = False
    adopted: bool = False  # sent to an agent because that one spoke of it
    ready_at: int = 0  # WAITING: when it may be assigned
    patience: int = 0  # SENT, RUNNING: when its agent has been silent about it for too long
    due: int = 0  # when the sweep looks at it next; an older timer of it is void
    ticket: int = 0  # its current place in the queue; an older place is void

    def can(self, event: Event) -> bool:
        """Tell whether `event` means anything to the task where it stands."""
        return (self.state, event) in TRANSITIONS

    def step(self, event: Event, *, now: int) -> None:
        """Move along the table and start the patience of the new state."""
        before = self.state
        self.state = TRANSITIONS[before, event]
        if self.state is State.WAITING:
            self._count(before)
        else:
            self.be_patient(now=now)

    def be_patient(self, *, now: int) -> None:
        """Start anew to wait for the agent's word."""
        self.patience = now + (TAKEN_WITHIN if self.state is State.SENT else MENTIONED_WITHIN)

    def assigned_to(self, agent: bytes) -> None:
        """Note who has the task now."""
        self.agent = agent
        self.tried = _newest(self.tried, agent)

    def succeed(self, former: "Task", keys: list[int]) -> None:
        """Take over from the same task under an earlier frame: its place in line and its record."""
        self.keys = [*keys, *self.keys]
        self.arrived = min(self.arrived, former.arrived)
        self.losses, self.untaken, self.failures = former.losses, former.untaken, former.failures

    def next_due(self) -> int:
        """Return when the sweep must look at the task again."""
        wake = self.ready_at if self.state is State.WAITING else self.patience
        # A ready task in the queue needs no wake-up of its own.
        moments = [self.extend_at, self.expires_at]
        if wake > 0:
            moments.append(wake)
        return min(moments)

    @property
    def expires_at(self) -> int:
        """Return when nobody waits for the task any longer."""
        return self.hints.deadline + DEADLINE_SLACK

    def _count(self, before: State) -> None:
        """Count what may be the task's own fault, and whom to avoid for it."""
        if self.agent is not None:
            self.avoid = _newest(self.avoid, self.agent)
        self.agent = None
        self.failures += 1
        if before is State.RUNNING:
            self.losses += 1
        else:
            self.untaken += 1
        if not self.dead and (self.losses >= MAX_ATTEMPTS or self.untaken >= MAX_UNTAKEN):
            # Whoever handed it back may well take it to report it undeliverable.
            self.dead, self.avoid = True, ()


def read_task(key: int, name: bytes, data: bytes, *, now: int) -> Task:
    """Read a message of the stream that was found under the class `name`, or raise `MalformedError`."""
    message = decode(data, TaskMessage)
    task_id = task_id_of(message.frame)
    if len(task_id) != 16:
        raise MalformedError("a frame without a task id")
    if message.hints.class_token != name:
        raise MalformedError("a task of another class than its subject's")
    return Task(task_id, message.hints, data, [key], arrived=now, extend_at=now + EXTEND_EVERY)


def backoff(failures: int, jitter: float) -> int:
    """Return the pause before the next try: doubling, bounded, half of it random in [0, 1)."""
    pause = min(BACKOFF_MOST, BACKOFF_FIRST << min(max(failures - 1, 0), 16))
    return pause // 2 + int(pause / 2 * jitter)


def _newest(agents: tuple[bytes, ...], agent: bytes) -> tuple[bytes, ...]:
    return (*(other for other in agents if other != agent), agent)[-REMEMBERED_AGENTS:]
