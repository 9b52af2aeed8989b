"""Who waits, and who goes next: urgent tasks first, old ones rising, classes in turn.

Pure. A task's rank is its arrival less a head start for its priority. Since all age alike, ranks never
change and a heap per class suffices: what is least urgent overtakes fresh urgent work once it has
waited for the whole head start, so nothing starves.
"""

from collections import deque
from heapq import heapify, heappop, heappush

from scheduler.lifecycle import State, Task
from schemas.limits import SECOND

HEAD_START = 5 * SECOND  # per step of priority: 9 is 45 s ahead of 0
VOID_PLACES = 64  # left by tasks that ended while they waited, before the heap is made anew

Place = tuple[int, int, Task]


class Queue:
    """The tasks that could be assigned at once if someone had room."""

    def __init__(self) -> None:
        self._places: dict[bytes, list[Place]] = {}
        self._counts: dict[bytes, int] = {}
        self._turns: deque[bytes] = deque()
        self._in_turn: set[bytes] = set()
        self._ticket = 0

    def push(self, task: Task) -> None:
        """Let a task wait for its turn."""
        name = task.hints.class_token
        self._ticket += 1
        task.ticket, task.ready_at = self._ticket, 0
        places = self._places.setdefault(name, [])
        heappush(places, (task.arrived - HEAD_START * task.hints.priority, self._ticket, task))
        self._counts[name] = self._counts.get(name, 0) + 1
        self.wake(name)

    def remove(self, task: Task) -> None:
        """Forget a task's place, if it has one; to be called before its state changes."""
        if task.ticket == 0:
            return
        task.ticket = 0
        name = task.hints.class_token
        self._counts[name] -= 1
        places = self._places[name]
        if self._counts[name] == 0:
            del self._counts[name], self._places[name]
        elif len(places) > 2 * self._counts[name] + VOID_PLACES:
            places[:] = [place for place in places if place[2].ticket == place[1]]
            heapify(places)

    def wake(self, name: bytes) -> None:
        """Give a class a turn: one of its tasks or agents became ready."""
        if name in self._counts and name not in self._in_turn:
            self._in_turn.add(name)
            self._turns.append(name)

    def next_class(self) -> bytes | None:
        """Return whose turn it is and end that turn, or None if nobody's."""
        if not self._turns:
            return None
        name = self._turns.popleft()
        self._in_turn.discard(name)
        return name

    def first(self, name: bytes) -> Task | None:
        """Return the task of a class that goes next; it keeps its place."""
        places = self._places.get(name)
        while places:
            _, ticket, task = places[0]
            if task.ticket == ticket and task.state is State.WAITING:
                return task
            heappop(places)
        return None

    def waiting(self, name: bytes) -> list[Task]:
        """Return all of a class, in no order."""
        return [task for _, ticket, task in self._places.get(name, []) if task.ticket == ticket]

    def count(self, name: bytes) -> int:
        """Return how many of a class wait."""
        return self._counts.get(name, 0)

    def classes(self) -> list[bytes]:
        """Return the classes that have somebody waiting."""
        return list(self._counts)
