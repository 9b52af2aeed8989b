"""Keeping the parts of a mesh running: what ends is started again, unless it was refused for good.

The same for a mesh in one process and for a part that runs by itself.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from agent_runtime.errors import EXIT_REFUSED
from lab import logs
from lab.broker import Broker
from lab.children import dying_with_parent
from lab.launch import Exited, Rack
from lab.machine import Machine
from lab.plan import COORDINATOR, SCHEDULER, log_of
from lab.state import RUN, State
from schemas.errors import UsageError

log = logging.getLogger("sealbus.lab")

BROKER = "broker"
RESTART_PAUSE, RESTART_MOST = 0.5, 8.0  # seconds; doubled for what does not last
SETTLED = 20.0  # seconds after which what ends has not failed at its start
STOP_DEADLINE = 3.0


class _Pauses:
    """How long to wait before each part is started again."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}  # name: (when it was started again, after what pause)

    def next(self, name: str, now: float) -> float:
        """Return the pause before a part that ended now is started again."""
        began, pause = self._last.get(name, (-SETTLED, 0.0))
        lasted = now - began >= SETTLED
        pause = RESTART_PAUSE if lasted or not pause else min(pause * 2, RESTART_MOST)
        self._last[name] = (now + pause, pause)
        return pause


async def keep_machines(
    state: State,
    rack: Rack,
    machines: Mapping[str, Machine],
    exits: MemoryObjectReceiveStream[Exited],
    *,
    refused: Callable[[str, str], None],
    again: Callable[[str], Awaitable[None]],
) -> None:
    """Start again what ended; tell `again` when it runs, and `refused` of what will not."""

    pauses = _Pauses()

    async def restart(name: str) -> None:
        await anyio.sleep(pauses.next(name, anyio.current_time()))
        await rack.start(machines[name])
        await again(name)

    async with anyio.create_task_group() as tasks:
        async for exited in exits:
            if exited.name != COORDINATOR and exited.status == EXIT_REFUSED:
                reason = logs.last_refusal(log_of(state, exited.name))
                logs.note_refused(state.logs, exited.name, reason)
                log.warning("%s was refused: %s", exited.name, reason)
                refused(exited.name, reason)
                continue
            log.info("%s ended (%d): starting it again", exited.name, exited.status)
            tasks.start_soon(restart, exited.name)


async def keep_broker(broker: Broker, again: Callable[[], None]) -> None:
    """Start the broker again, on its port and with its streams, when it ends by itself; tell `again`."""
    pauses = _Pauses()
    while True:
        await broker.lost()
        log.warning("the broker ended: starting it again")
        while True:
            await anyio.sleep(pauses.next(BROKER, anyio.current_time()))
            try:
                await broker.start()
            except UsageError as error:
                # Its port may be taken for a moment, by a connection of somebody who looks for it.
                log.warning("the broker does not start: %s", error)
            else:
                break
        again()


async def keep_scheduler(
    state: State,
    mesh: bytes,
    url: str,
    seed: str | None,
    started: Callable[[int], None],
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Run the scheduler, and again when it ends; tell `started` its process each time."""
    environment = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "HOME") if name in os.environ
    }
    environment["SEALBUS_NATS_URL"] = url
    if seed is not None:
        environment["SEALBUS_NKEY_SEED"] = seed
    run = state.root / RUN
    run.mkdir(exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "scheduler", "--mesh", mesh.hex()]
    command += ["--status-file", str(run / "scheduler.json")]
    log_file = log_of(state, SCHEDULER)
    while True:
        with log_file.open("ab") as output:
            process = await anyio.open_process(
                dying_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the lab alone
            )
        started(process.pid)
        task_status.started()
        task_status = anyio.TASK_STATUS_IGNORED  # a start is told once
        try:
            await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.terminate()
                    with anyio.move_on_after(STOP_DEADLINE):
                        await process.wait()
                if process.returncode is None:
                    process.kill()
                await process.aclose()
        log.info("the scheduler ended: starting it again")
        await anyio.sleep(RESTART_PAUSE)
