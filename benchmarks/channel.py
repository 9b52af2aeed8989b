"""A sealed call between two processes against a plain nats-py request between two, over the same broker.

Both clients live in this process and are measured by turns, a slice each, round after round: the first round
warms up and is dropped. The sealed side is the product whole: an admitted client, an attested agent, the gate
on both sides, sessions, batching. The plain side has no sealing, no identity and no permissions.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import nats
from anyio.streams.text import TextReceiveStream

from agent_runtime import Identity, connect_client
from benchmarks.plain_echo import SUBJECT
from benchmarks.ratios import Aim, Row
from lab import setup
from lab.broker import Broker
from lab.mesh import running_mesh, wait_admitted
from lab.state import open_state
from schemas.errors import UsageError
from schemas.subjects import Party

BLUEPRINT = Path(__file__).parent / "echo" / "blueprint.toml"
READY_PATIENCE = 20.0  # seconds for a process of nats-py to come up
IN_FLIGHT = 64
SIZES = (1024, 16 * 1024)

Ask = Callable[[bytes], Awaitable[bytes]]
Say = Callable[[str], None]

_AIMS = {
    ("alone", 1024): Aim(0.80, "lower"),
    ("alone", 16 * 1024): Aim(0.90, "lower"),
    ("together", 1024): Aim(1.3, "higher"),
    ("together", 16 * 1024): Aim(1.1, "higher"),
}


@dataclass
class _Series:
    ours: list[float] = field(default_factory=list)
    peers: list[float] = field(default_factory=list)


async def measure(folder: Path, *, rounds: int, seconds: float, say: Say) -> list[Row]:
    """Measure in `folder`, where a lab is made; `seconds` is the length of a slice."""
    series: dict[tuple[str, int], _Series] = {}
    async with _sealed(folder, say) as ours, _plain(folder) as peer:
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "warming up")
            for size in SIZES:
                payload = os.urandom(size)
                alone = await _alone(ours, payload, seconds), await _alone(peer, payload, seconds)
                together = await _together(ours, payload, seconds), await _together(peer, payload, seconds)
                for kind, (own, other) in (("alone", alone), ("together", together)):
                    if number:
                        entry = series.setdefault((kind, size), _Series())
                        entry.ours.append(own)
                        entry.peers.append(other)
    return [_row(kind, size, entry) for (kind, size), entry in sorted(series.items())]


def _row(kind: str, size: int, series: _Series) -> Row:
    text = f"{size // 1024} KiB"
    name = f"call, {text}, p50" if kind == "alone" else f"{IN_FLIGHT} calls in flight, {text}"
    unit = "us" if kind == "alone" else "calls/s"
    label = f"{'call' if kind == 'alone' else f'{IN_FLIGHT}-calls'}-{size // 1024}k"
    return Row(label, name, "nats-py", unit, tuple(series.ours), tuple(series.peers), _AIMS[kind, size])


@asynccontextmanager
async def _sealed(folder: Path, say: Say) -> AsyncIterator[Ask]:
    lab = folder / "lab"
    await anyio.to_thread.run_sync(setup.make, lab, BLUEPRINT, say)
    with open_state(lab) as state:
        async with running_mesh(state, url=None, monitor=False) as mesh:
            await wait_admitted(mesh)
            identity = Identity(mesh.anchor, ("bench",), key=mesh.client_key("bench"))
            credentials = mesh.credentials(Party.CLIENT)
            async with connect_client(mesh.url, identity, credentials=credentials) as client:

                async def ask(payload: bytes) -> bytes:
                    return await client.context.call("echo", payload, bytes)

                yield ask


@asynccontextmanager
async def _plain(folder: Path) -> AsyncIterator[Ask]:
    async with Broker(folder / "plain") as broker:
        command = [sys.executable, "-m", "benchmarks.plain_echo", broker.url]
        async with await anyio.open_process(command, stderr=None) as process:
            try:
                if process.stdout is None:
                    raise UsageError("the process of nats-py has no output to wait for")
                with anyio.fail_after(READY_PATIENCE):
                    await TextReceiveStream(process.stdout).receive()
                connection = await nats.connect(broker.url)

                async def ask(payload: bytes) -> bytes:
                    return (await connection.request(SUBJECT, payload, timeout=10)).data

                yield ask
                await connection.close()
            finally:
                process.kill()


async def _alone(ask: Ask, payload: bytes, seconds: float) -> float:
    """Return the median of one call at a time, in microseconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        await ask(payload)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


async def _together(ask: Ask, payload: bytes, seconds: float) -> float:
    """Return the calls a second of 64 askers."""
    done = 0
    start = time.perf_counter()
    end = start + seconds

    async def asker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ask(payload)
            done += 1

    await asyncio.gather(*(asker() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - start)
