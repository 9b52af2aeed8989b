"""Why a handler's task was cancelled: asyncio raises the same error for whoever did it.

A handler may cancel the task that it runs in, as `asyncio.timeout` does. It may keep it, too, and cancel it
when another handler runs there. That is the failure of one of them. Only who runs handlers, and the task
group that all of them are in, tell one to end.
"""

import asyncio
from contextvars import ContextVar
from math import inf
from typing import Protocol

import anyio


class Endable(Protocol):
    """A handler's run: whoever ends it says so here before it cancels the task."""

    cancelled: bool


CURRENT: ContextVar[Endable | None] = ContextVar("current", default=None)


def told() -> bool:
    """Tell whether the handler that runs here has been told to end."""
    current = CURRENT.get()
    return (current is not None and current.cancelled) or group_ended()


def group_ended() -> bool:
    """Tell whether all that runs in the current task's group is to end."""
    return anyio.current_effective_deadline() == -inf


async def settle(task: "asyncio.Task[object]") -> None:
    """Make the current task what it was before a handler ran in it that was cancelled, or cancelled it."""
    try:
        # What was asked for in a handler's last step is raised where its task next waits.
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        if group_ended():
            raise
    while task.cancelling():
        task.uncancel()
