"""Why a handler's task was cancelled: asyncio raises the same error for whoever did it.

A handler may cancel the task that it runs in, as `asyncio.timeout` does. It may also keep that task, and
cancel it when another handler runs in it. Either cancel is a failure of the handler that runs then. Only two
tell a handler to end: who runs handlers, and the task group in which all of them run.
"""

import asyncio
from contextvars import ContextVar
from math import inf
from typing import Protocol

import anyio


class Endable(Protocol):
    """A handler's run: whoever ends it says so here before it cancels the task.

    A protocol, because two are one in different ways, `pool.Job` and for tasks `copies.Expiry`, and both
    import this module.
    """

    cancelled: bool


# Set once a task goes on with a run, and not in a first step that `Job.begin` makes.
CURRENT: ContextVar[Endable | None] = ContextVar("current", default=None)


def told() -> bool:
    """Tell whether the handler that runs here has been told to end.

    In a first step that `Job.begin` makes, that is whether the group was: nobody has the job yet to end it.
    """
    current = CURRENT.get()
    return (current is not None and current.cancelled) or group_ended()


def group_ended() -> bool:
    """Tell whether all that runs in the current task's group is to end."""
    return anyio.current_effective_deadline() == -inf


async def settle(task: "asyncio.Task[object]") -> None:
    """Take back every cancel of `task`, the current one, so that it can run the next handler.

    For after a handler that was cancelled, or that cancelled the task. Raises if the group is to end.
    """
    try:
        # What was asked for in a handler's last step is raised where its task next waits.
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        if group_ended():
            raise
    while task.cancelling():
        task.uncancel()
