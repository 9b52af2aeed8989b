"""Working until SIGINT or SIGTERM, from the first moment on: whoever is told to end ends in order."""

import signal
from collections.abc import Awaitable, Callable

import anyio


async def until_told(work: Callable[[], Awaitable[int]]) -> int:
    """Return what `work` returns, or 0 if it was told to end before."""
    code = 0
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                async for _ in signals:
                    tasks.cancel_scope.cancel()
                    return

            tasks.start_soon(listen)
            code = await work()
            tasks.cancel_scope.cancel()
    return code
