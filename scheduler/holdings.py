"""The tasks in our hands: how many of each class wait, how many bytes they are, when each is looked at.

Pure. Every task here is in the stream as well.
"""

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush

from scheduler.lifecycle import Event, State, Task


class Holdings:
    """Tasks by id, with one timer each."""

    def __init__(self) -> None:
        self._tasks: dict[bytes, Task] = {}
        self._waiting: Counter[bytes] = Counter()
        self._timers: list[tuple[int, bytes]] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self._tasks.values()))

    def get(self, task_id: bytes) -> Task | None:
        """Return a task that is in flight here."""
        return self._tasks.get(task_id)

    def waiting(self, name: bytes) -> int:
        """Return how many of a class wait, those that back off included."""
        return self._waiting[name]

    def all_waiting(self) -> int:
        """Return how many wait in all."""
        return self._waiting.total()

    def add(self, task: Task) -> None:
        """Take a new task, which waits."""
        self._tasks[task.id] = task
        self._waiting[task.hints.class_token] += 1
        self.bytes += len(task.data)
        self.arm(task)

    def remove(self, task: Task) -> None:
        """Forget a task that has ended."""
        del self._tasks[task.id]
        self.bytes -= len(task.data)
        task.data = b""  # void places in the queue may hold the task for a while yet

    def step(self, task: Task, event: Event, *, now: int) -> None:
        """Move a task along the table."""
        before = task.state
        task.step(event, now=now)
        name = task.hints.class_token
        self._waiting[name] += (task.state is State.WAITING) - (before is State.WAITING)
        if self._waiting[name] == 0:
            del self._waiting[name]

    def arm(self, task: Task) -> None:
        """Set a task's timer, which makes its former one void."""
        due = task.next_due()
        if due != task.due:
            task.due = due
            heappush(self._timers, (due, task.id))

    def due(self, *, now: int) -> Iterator[Task]:
        """Return those whose timer has run out; each must be armed again or removed."""
        while self._timers and self._timers[0][0] <= now:
            due, task_id = heappop(self._timers)
            task = self._tasks.get(task_id)
            if task is not None and task.due == due:
                yield task
