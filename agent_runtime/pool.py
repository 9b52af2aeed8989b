"""Workers that run the handlers of what peers ask: a task for each would cost more than most handlers do.

A job runs at once, where it was offered, until it first waits; most end there. What is left goes on in the
task of a worker, and it is that task which the job sees as its own from its first step.
"""

import asyncio
import contextvars
from asyncio.tasks import (
    _enter_task,
    _leave_task,
)  # "Extending asyncio" names them for who makes steps himself
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from anyio.abc import TaskGroup

from agent_runtime.ending import CURRENT, group_ended, settle

Work = Callable[[], Coroutine[Any, Any, None]]


class Rest:
    """What is left of a coroutine that was stepped by hand and waits for `yielded`."""

    __slots__ = ("_run", "_steps", "_yielded")

    def __init__(
        self, steps: Coroutine[Any, Any, object], yielded: Any, run: Callable[..., Any] | None = None
    ) -> None:
        self._steps = steps
        self._yielded = yielded
        self._run = run or _as_it_is

    def __await__(self) -> Generator[Any, Any, None]:
        run, steps, yielded = self._run, self._steps, self._yielded
        try:
            while True:
                try:
                    value = yield yielded
                except BaseException as error:  # noqa: BLE001 - whatever is thrown in here is thrown at the work
                    yielded = run(steps.throw, error)
                else:
                    yielded = run(steps.send, value)
        except StopIteration:
            return


def _as_it_is(step: Callable[[Any], Any], value: Any) -> Any:
    return step(value)


class Job:
    """One handler, waiting or under way. Its context is its own, wherever its steps are made."""

    __slots__ = ("_context", "_steps", "_task", "_work", "_yielded", "cancelled", "done")

    def __init__(self, work: Work, context: contextvars.Context) -> None:
        self.done = self.cancelled = False
        self._work = work
        self._context = context
        self._steps: Coroutine[Any, Any, None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._yielded: Any = None

    def begin(self, task: "asyncio.Task[Any]") -> bool:
        """Run as if in `task`, which waits, until the work waits; tell whether it has ended.

        What else the work raises goes to who offered it, and the worker that was taken for it never waits for
        another job again. Fine only because what gets past `handlers.run` ends the process.
        """
        loop = asyncio.get_running_loop()
        steps = self._steps = self._work()
        _enter_task(loop, task)
        try:
            self._yielded = self._context.run(steps.send, None)
        except (StopIteration, asyncio.CancelledError):
            self.done = True
        finally:
            _leave_task(loop, task)
        return self.done

    @property
    def begun(self) -> bool:
        """Tell whether any of the work was done: such work ends in its own time, cancelled or not."""
        return self._steps is not None

    def cancel(self) -> None:
        """End the work where it waits, or before it starts."""
        if not self.done and not self.cancelled:
            self.cancelled = True
            if self._task is not None:
                self._task.cancel()

    async def finish(self, task: "asyncio.Task[Any]") -> None:
        """Run what is left, in `task`."""
        if self.cancelled and self._steps is None:
            self.done = True
            return
        self._task = task
        self._context.run(CURRENT.set, self)
        if self.cancelled:
            # As who cancels a task does it: what the work waits for ends as well, and groups in it know why.
            task.cancel()
        try:
            await self
        except asyncio.CancelledError:
            if group_ended():
                raise
        finally:
            self.done = True
        if task.cancelling():
            await settle(task)

    def __await__(self) -> Generator[Any, Any, None]:
        run, steps = self._context.run, self._steps
        try:
            if steps is None:
                steps = self._steps = self._work()
                self._yielded = run(steps.send, None)
        except StopIteration:
            return
        yield from Rest(steps, self._yielded, run).__await__()


class _Worker:
    """A task that waits for a job. It is woken without one by whoever cancels the task."""

    __slots__ = ("job", "task", "woken")

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task
        self.woken: asyncio.Future[None] = task.get_loop().create_future()
        self.job: Job | None = None

    async def wait(self) -> Job | None:
        """Return the job that was handed over.

        Nothing where the task was cancelled while it waited without one: a former job's handler had kept it.
        """
        try:
            await self.woken
        except asyncio.CancelledError as error:
            job, task = self.job, self.task
            if job is not None and job.begun:
                # By the job's first step, or by a timeout of it that is over: raised where the job waits.
                task.uncancel()
                task.cancel(*error.args[:1])
            elif group_ended():
                raise
            else:
                await settle(task)
        return self.job

    def hand(self, job: Job) -> None:
        """Have the task go on with a job."""
        self.job = job
        if not self.woken.done():
            self.woken.set_result(None)


class Pool:
    """At most `size` jobs at once, at most `waiting` more in order; the task group takes what they raise.

    Workers are made as they are needed and stay until the task group ends. What a job raises before it first
    waits, who offered it gets, and the worker is lost. Either way it ends the process: no handler's own
    failure is raised here.
    """

    def __init__(self, size: int, waiting: int) -> None:
        self._size = size
        self._room = waiting
        self._tasks: TaskGroup | None = None
        self._workers = self._starting = 0
        self._idle: list[_Worker] = []
        self._queue: deque[Job] = deque()
        # Of whoever made this: what a job that offers others has set is its own.
        self._context = contextvars.copy_context()

    def start(self, tasks: TaskGroup) -> None:
        """Run in `tasks` from now on."""
        self._tasks = tasks
        # One is there from the beginning: what comes first runs at once, as what comes later.
        self._hire(tasks)

    def offer(self, work: Work) -> Job | None:
        """Run `work` until it first waits, or later if others are in the way; None if too many are."""
        while self._idle and not self._queue:
            worker = self._idle.pop()
            if worker.woken.done():
                continue
            job = Job(work, self._context.copy())
            # Within another task's step there is no second one: the worker makes the first itself. Where
            # `begin` raises, the worker is lost, and the process ends.
            if asyncio.current_task() is None and job.begin(worker.task):
                self._idle.append(worker)
            else:
                worker.hand(job)
            return job
        if self._tasks is not None and self._workers < self._size:
            self._hire(self._tasks)
        if len(self._queue) >= self._room + self._starting:
            return None
        # Whoever starts takes the oldest: jobs begin in the order in which they came.
        job = Job(work, self._context.copy())
        self._queue.append(job)
        return job

    def _hire(self, tasks: TaskGroup) -> None:
        self._workers += 1
        self._starting += 1
        tasks.start_soon(self._work)

    async def _work(self) -> None:
        self._starting -= 1
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a worker runs in a task")
        while True:
            if self._queue:
                await self._queue.popleft().finish(task)
                continue
            worker = _Worker(task)
            self._idle.append(worker)
            job = await worker.wait()
            if job is not None:
                await job.finish(task)
            elif worker in self._idle:
                self._idle.remove(worker)
