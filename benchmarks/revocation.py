"""How long until nobody takes anything of who was evicted, with an honest broker and with one that withholds.

The crowd are instances of one role, which turns hard when one of them is evicted: everyone gets new keys.
Times run from the sending of the signed eviction; with a withholding broker from the coordinator's receipt.
"""

import asyncio
import contextlib
import json
import random
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from benchmarks.ratios import Aim, Row
from console.documents import sign_revocation
from console.operating.kept import Kept
from console.operator import OperatorLine, operator_line
from lab import setup
from lab.council import SEEN, operator_keys
from lab.descriptor import LENGTH, EvidenceRequest, read_request, write_evidence, write_host
from lab.machine import Machine
from lab.mesh import RunningMesh, running_mesh, wait_admitted
from lab.state import ANCHOR, open_state
from lab.tap import Drop, Match, Script, Towards
from schemas.errors import UsageError
from schemas.limits import GRACE
from schemas.messages import Event
from schemas.subjects import Party
from sealing.documents import open_anchor

BLUEPRINT = Path(__file__).parent / "crowd" / "blueprint.toml"
PROCESSES = 8
MAX_LINE = 1 << 20
MACHINE = "crowd"
LIARS_VICTIMS = "withheld"  # the tap's name for those that get nothing

Say = Callable[[str], None]


async def measure(folder: Path, *, rounds: int, instances: int, withheld: int, say: Say) -> list[Row]:
    """Measure in `folder`: `rounds` evictions among `instances`, then one kept from `withheld` of them."""
    await to_thread.run_sync(setup.make, folder / "lab", BLUEPRINT, say)
    script = Script()
    with open_state(folder / "lab") as state:
        async with running_mesh(state, url=None, script=script) as mesh:
            await wait_admitted(mesh)
            told = await _told(mesh, rounds=rounds, instances=instances, say=say)
            ended = await _withheld(mesh, script, withheld, say) if withheld else []
    worst = tuple(_percentile(delays, 99) for delays in told)
    median = tuple(statistics.median(delays) for delays in told)
    ones = (1.0,) * len(told)
    rows = [
        Row(
            "evict-p99", f"evicted, {instances} enforce it, p99", "1 ms", "ms", worst, ones, Aim(250, "lower")
        ),
        Row("evict-p50", f"evicted, {instances} enforce it, p50", "1 ms", "ms", median, ones),
    ]
    if ended:
        grace = (float(GRACE),) * len(ended)
        aim = Aim(1.0, "lower")
        rows.append(
            Row("withheld", "withheld, nothing taken after", "the grace", "ms", tuple(ended), grace, aim)
        )
    return rows


async def _told(mesh: RunningMesh, *, rounds: int, instances: int, say: Say) -> list[list[float]]:
    share = -(-instances // PROCESSES)
    found = []
    async with AsyncExitStack() as stack:
        say(f"{PROCESSES} processes with {share} instances each are joining")
        url = mesh.broker.url if mesh.broker else mesh.url
        crowd = [await stack.enter_async_context(_process(mesh, share, url)) for _ in range(PROCESSES)]
        everyone = [name for process in crowd for name in await process.ready()]
        line = await stack.enter_async_context(_operator(mesh))
        for number in range(rounds):
            say(f"eviction {number + 1} of {rounds}")
            found.append(await _evict(mesh, line, crowd, everyone.pop()))
    return found


async def _withheld(mesh: RunningMesh, script: Script, count: int, say: Say) -> list[float]:
    """Keep one eviction from `count` instances; return after how many ms each took nothing any more."""
    assert mesh.tap is not None
    url = await mesh.tap.listen(LIARS_VICTIMS)
    async with _process(mesh, 1, mesh.url) as other, _process(mesh, count, url) as victims:
        (evicted,) = await other.ready()
        await victims.ready()
        say(f"withholding from {count} instances until their grace is over")
        # Somewhere between two beacons, as it happens.
        await anyio.sleep(random.uniform(0, 1))  # noqa: S311 - spreads moments
        script.add("withhold", Match(LIARS_VICTIMS, Towards.PARTY), Drop())
        async with _operator(mesh) as line:
            await line.send(_revocation(mesh, evicted))
            signed = _now()
        return [(time - signed) / 1e6 for time in await victims.enforced(evicted)]


async def _evict(mesh: RunningMesh, line: OperatorLine, crowd: list["Crowd"], victim: str) -> list[float]:
    """Evict an instance; return after how many ms each of the others enforced it."""
    times: list[int] = []
    signed = _revocation(mesh, victim)

    async def watch(process: "Crowd") -> None:
        times.extend(await process.enforced(victim))

    async with anyio.create_task_group() as tasks:
        for process in crowd:
            tasks.start_soon(watch, process)
        await anyio.wait_all_tasks_blocked()
        sent = _now()
        await line.send(signed)
    return [(time - sent) / 1e6 for time in times]


def _operator(mesh: RunningMesh) -> AbstractAsyncContextManager[OperatorLine]:
    return operator_line(
        mesh.url,
        council=open_anchor(mesh.anchor)[0],
        profile=mesh.operators.policy.profile,
        key=operator_keys(mesh.state)[0],
        kept=Kept(mesh.state.root / SEEN, mesh.mesh.id),
        credentials=mesh.credentials(Party.CLIENT),
    )


def _revocation(mesh: RunningMesh, instance: str) -> Event:
    now = time.time_ns() // 1_000_000
    keys = operator_keys(mesh.state)
    signed = sign_revocation(
        mesh.operators.council, keys, kind="instance", value=instance, reason="bench", time=now
    )
    return Event("revocation", signed, None, ())


class Crowd:
    """One process of the crowd."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise UsageError("a process of the crowd has no input or output")
        self._input: ByteSendStream = process.stdin
        self._output = BufferedByteReceiveStream(process.stdout)

    async def ready(self) -> list[str]:
        """Return its instances once they are live."""
        return [str(name) for name in (await self._line())["ready"]]

    async def enforced(self, revoked: str) -> list[int]:
        """Return when each of its instances began to enforce a revocation, once all do."""
        await self._input.send(f"{revoked}\n".encode())
        return [int(time) for time in (await self._line())["enforced"]]

    async def _line(self) -> dict[str, list[int | str]]:
        return dict(json.loads(await self._output.receive_until(b"\n", MAX_LINE)))


@asynccontextmanager
async def _process(mesh: RunningMesh, count: int, url: str) -> AsyncIterator[Crowd]:
    """Run one process of the crowd, which finds the broker at `url`."""
    machine = next(machine for name, machine in mesh.machines.items() if name.startswith(MACHINE))
    ours, theirs = socket.socketpair()
    anchor = str(mesh.state.root / ANCHOR)
    command = [sys.executable, "-m", "benchmarks.crowd", anchor, str(count), str(theirs.fileno())]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve, mesh, machine, ours, url)
        process = await anyio.open_process(command, pass_fds=(theirs.fileno(),), stderr=None)
        theirs.close()
        try:
            yield Crowd(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.aclose()
            tasks.cancel_scope.cancel()


async def _serve(mesh: RunningMesh, machine: Machine, ours: socket.socket, url: str) -> None:
    """Be the machine of a process: mint Evidence for whatever keys its instances make."""
    measurements = await to_thread.run_sync(lambda: machine.image().measurements(machine.platform))
    host = {"nats_url": url}
    if Party.AGENT in mesh.seeds:
        host["nkey_seed"] = mesh.seeds[Party.AGENT]
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    try:
        while True:
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            request = read_request(await reader.readexactly(length))
            if isinstance(request, EvidenceRequest):
                writer.write(await to_thread.run_sync(_mint, machine, measurements, request))
            else:
                writer.write(write_host(host))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return  # the process has ended
    finally:
        writer.transport.abort()


def _mint(machine: Machine, measurements: dict[str, bytes], request: EvidenceRequest) -> bytes:
    now = datetime.now(UTC)
    evidence, beside = machine.simulator.evidence(
        dict(measurements), request.key_binding, request.challenge, now=now
    )
    return write_evidence(evidence, beside)


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
