"""The tasks of a transport: they end with it, and their bugs end it."""

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
from anyio.abc import TaskGroup


@contextlib.asynccontextmanager
async def workers() -> "AsyncIterator[Workers]":
    """Run tasks until the block ends. One error is raised as itself, be it the block's or a task's."""
    try:
        async with anyio.create_task_group() as group:
            yield Workers(group)
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        raise


class Workers:
    """Tasks that can be ended together before the block that owns them ends."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._scopes: set[anyio.CancelScope] = set()
        self._ended = False

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` until it ends or is ended."""
        self._group.start_soon(self._run, work)

    def end(self) -> None:
        """Cancel every task, also one that calls this; later ones do not start."""
        self._ended = True
        for scope in self._scopes:
            scope.cancel()

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if not self._ended:
                    await work()
            finally:
                self._scopes.discard(scope)
