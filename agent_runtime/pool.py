"""Workers that run the handlers of incoming calls: a task for each call would cost more than the call."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from anyio.abc import TaskGroup

Job = Callable[[], Awaitable[None]]


class Pool:
    """At most `size` jobs at once, at most `waiting` more in order; the task group takes what they raise.

    Workers are made as they are needed and stay until the task group ends.
    """

    def __init__(self, size: int, waiting: int) -> None:
        self._size = size
        self._room = waiting
        self._tasks: TaskGroup | None = None
        self._workers = 0
        self._idle: list[asyncio.Future[Job]] = []
        self._queue: deque[Job] = deque()

    def start(self, tasks: TaskGroup) -> None:
        """Run in `tasks` from now on."""
        self._tasks = tasks

    def offer(self, job: Job) -> bool:
        """Run `job` as soon as there is a worker for it; say False where too many wait already."""
        while self._idle:
            worker = self._idle.pop()
            if not worker.done():
                worker.set_result(job)
                return True
        if self._tasks is not None and self._workers < self._size:
            self._workers += 1
            self._tasks.start_soon(self._work, job)
            return True
        if len(self._queue) >= self._room:
            return False
        self._queue.append(job)
        return True

    async def _work(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await job()
            if self._queue:
                job = self._queue.popleft()
                continue
            waiting: asyncio.Future[Job] = loop.create_future()
            self._idle.append(waiting)
            job = await waiting
