"""What tests of the scheduler say to it: messages as agents and submitters would write them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from scheduler.core import Core
from scheduler.lifecycle import Ack, Action, Extend, Nak, Send
from schemas.codec import decode, encode
from schemas.scheduling import TASK_ID_OFFSET, Assign, Load, Status, TaskHints, TaskMessage, task_id_of

RED = b"red-class-token!"
BLUE = b"blue-class-token"
NOW = 1_700_000_000_000
HOUR = 3_600_000


def token(number: int, kind: str = "l") -> bytes:
    """Return the sixteen bytes of a name: `l` for load tokens, `a` for assign tokens, `t` for task ids."""
    return f"{kind}{number:015d}".encode()


def task(
    number: int,
    *,
    name: bytes = RED,
    priority: int = 5,
    deadline: int = NOW + HOUR,
    affinity: bytes | None = None,
    body: bytes = b"sealed",
) -> bytes:
    """Return a task message as a submitter publishes it."""
    frame = bytes(TASK_ID_OFFSET) + token(number, "t") + body
    return encode(TaskMessage(TaskHints(name, priority, deadline, 8, affinity), frame))


def load(
    number: int,
    *statuses: tuple[int, str],
    classes: Sequence[bytes] = (RED,),
    credits_: int = 8,
    level: int = 0,
    draining: bool = False,
) -> bytes:
    """Return a load message of the agent `number` with statuses of tasks by number."""
    said = tuple(Status(token(task_number, "t"), state) for task_number, state in statuses)
    return encode(Load(token(number, "a"), tuple(classes), credits_, level, said, draining))


@dataclass
class Desk:
    """A core with its clock, and everything that it decided."""

    core: Core = field(default_factory=lambda: Core(Random(7)))
    now: int = NOW
    keys: int = 0
    actions: list[Action] = field(default_factory=list)

    def publish(self, data: bytes, *, name: bytes = RED) -> int:
        """Deliver one message of the stream and return its key."""
        self.keys += 1
        self._did(self.core.deliver(self.keys, name, data, now=self.now))
        return self.keys

    def hear(
        self,
        number: int,
        *statuses: tuple[int, str],
        classes: Sequence[bytes] = (RED,),
        credits_: int = 8,
        level: int = 0,
        draining: bool = False,
    ) -> None:
        """Let an agent speak under its own name."""
        data = load(number, *statuses, classes=classes, credits_=credits_, level=level, draining=draining)
        self.hear_raw(token(number), data)

    def hear_raw(self, name: bytes, data: bytes) -> None:
        """Let whatever bytes arrive on a load subject."""
        self._did(self.core.load(name, data, now=self.now))

    def wait(self, milliseconds: int, *, hearing: Sequence[int] = (), step: int = 100) -> None:
        """Let time pass, with heartbeats of the agents named."""
        until = self.now + milliseconds
        while self.now < until:
            self.now = min(self.now + step, until)
            if self.now % 500 < step:
                for number in hearing:
                    self.hear(number)
            self._did(self.core.sweep(now=self.now))

    def wait_for_sends(self, *, hearing: Sequence[int] = ()) -> list[tuple[int, int, bool]]:
        """Let time pass until something is assigned, a minute at most."""
        until = self.now + 60_000
        while self.now < until:
            if sends := self.take_sends():
                return sends
            self.wait(100, hearing=hearing)
        return []

    def take_sends(self) -> list[tuple[int, int, bool]]:
        """Return and forget the assignments so far: agent, task, dead."""
        sends = []
        for action in self.actions:
            if isinstance(action, Send):
                assign = decode(action.payload, Assign)
                task_id = task_id_of(decode(assign.task, TaskMessage).frame)
                sends.append((int(action.assign_token[1:]), int(task_id[1:]), assign.dead))
        self.actions = [action for action in self.actions if not isinstance(action, Send)]
        return sends

    def acked(self) -> list[int]:
        """Return the keys acknowledged so far."""
        return [action.key for action in self.actions if isinstance(action, Ack)]

    def naked(self) -> list[tuple[int, int]]:
        """Return the keys handed back so far, with their delays."""
        return [(action.key, action.delay) for action in self.actions if isinstance(action, Nak)]

    def extended(self) -> list[int]:
        """Return the keys extended so far."""
        return [action.key for action in self.actions if isinstance(action, Extend)]

    def _did(self, actions: list[Action]) -> None:
        self.actions += actions
        self.actions += self.core.place(now=self.now)
