"""Sealed calls and messages between two processes against those of plain nats-py between two.

All are measured by turns, a slice each, round after round: the first round warms up and is dropped. The
sealed side is the product whole: an admitted client, an attested agent, the gate on both sides, sessions,
batching. The plain side has no sealing, no identity and no permissions, and always asyncio's own loop.
"""

import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from benchmarks.asker import IN_FLIGHT
from benchmarks.ratios import Aim, Row
from lab import setup
from lab.broker import Broker
from lab.mesh import running_mesh, wait_admitted
from lab.state import open_state
from schemas.errors import UsageError
from schemas.subjects import Party

ECHO = Path(__file__).parent / "echo"
BLUEPRINT = "blueprint.toml"
READY_PATIENCE = 30.0  # seconds for a process to come up
SLICE_PATIENCE = 60.0  # seconds that a slice may take longer than it should
LOOPS = ("asyncio", "uvloop")

Say = Callable[[str], None]

_AIMS = {
    ("alone", 1024): Aim(0.80, "lower"),
    ("alone", 16 * 1024): Aim(0.90, "lower"),
    ("together", 1024): Aim(1.3, "higher"),
    ("together", 16 * 1024): Aim(1.1, "higher"),
    ("one-way", 128): Aim(4.0, "higher"),
    ("one-way", 1024): Aim(2.0, "higher"),
    ("one-way", 16 * 1024): Aim(0.85, "higher"),
}
_NAMES = {
    "alone": ("call", "call, {}, p50", "us"),
    "together": (f"{IN_FLIGHT}-calls", f"{IN_FLIGHT} calls in flight, {{}}", "calls/s"),
    "one-way": ("one-way", "one-way messages, {}", "messages/s"),
}


@dataclass
class _Series:
    ours: list[float] = field(default_factory=list)
    peers: list[float] = field(default_factory=list)


class _Asker:
    """A process that measures one slice at a time."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise UsageError("an asking process has no input or output")
        self._to = process.stdin
        self._from = TextReceiveStream(process.stdout)
        self._rest = ""

    async def say(self, line: dict[str, Any], within: float) -> dict[str, Any]:
        await self._to.send(json.dumps(line).encode() + b"\n")
        with anyio.fail_after(within):
            while "\n" not in self._rest:
                self._rest += await self._from.receive()
        answer, _, self._rest = self._rest.partition("\n")
        found: dict[str, Any] = json.loads(answer)
        return found

    async def slice(self, kind: str, size: int, seconds: float) -> float:
        answer = await self.say({"kind": kind, "size": size, "seconds": seconds}, seconds + SLICE_PATIENCE)
        return float(answer["figure"])


async def measure(folder: Path, *, rounds: int, seconds: float, loop: str, say: Say) -> list[Row]:
    """Measure in `folder`, where a lab is made: slices of `seconds`, our side on the event loop `loop`."""
    series = {each: _Series() for each in _AIMS}
    async with _sealed(folder, loop, say) as ours, _plain(folder) as peer:
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "warming up")
            for (kind, size), entry in series.items():
                pair = await ours.slice(kind, size, seconds), await peer.slice(kind, size, seconds)
                if number:
                    entry.ours.append(pair[0])
                    entry.peers.append(pair[1])
    return [_row(kind, size, loop, entry) for (kind, size), entry in series.items()]


def _row(kind: str, size: int, loop: str, series: _Series) -> Row:
    label, name, unit = _NAMES[kind]
    text, short = (f"{size} B", f"{size}b") if size < 1024 else (f"{size // 1024} KiB", f"{size // 1024}k")
    full = name.format(text) + (" (uvloop)" if loop == "uvloop" else "")
    return Row(
        f"{label}-{short}", full, "nats-py", unit, tuple(series.ours), tuple(series.peers), _AIMS[kind, size]
    )


@asynccontextmanager
async def _sealed(folder: Path, loop: str, say: Say) -> AsyncIterator[_Asker]:
    lab, echo = folder / "lab", folder / "echo"
    await anyio.to_thread.run_sync(shutil.copytree, ECHO, echo)
    if loop == "uvloop":
        blueprint = anyio.Path(echo / BLUEPRINT)
        text = await blueprint.read_text()
        # What is in the image decides: an agent that has uvloop uses it.
        machines = 'machines = ["tdx"]\n'
        await blueprint.write_text(text.replace(machines, f'{machines}distributions = ["uvloop"]\n', 1))
    await anyio.to_thread.run_sync(setup.make, lab, echo / BLUEPRINT, say)
    with open_state(lab) as state:
        async with running_mesh(state, url=None, monitor=False) as mesh:
            await wait_admitted(mesh)
            how = {
                "url": mesh.url,
                "anchor": mesh.anchor.hex(),
                "key": state.load_keys("clients")["bench"].hex(),
                "seed": mesh.seeds[Party.CLIENT],
                "loop": loop,
            }
            async with _asking("sealed", how) as asker:
                yield asker


@asynccontextmanager
async def _plain(folder: Path) -> AsyncIterator[_Asker]:
    async with Broker(folder / "plain") as broker:
        command = [sys.executable, "-m", "benchmarks.plain_echo", broker.url]
        async with await anyio.open_process(command, stderr=None) as process:
            try:
                if process.stdout is None:
                    raise UsageError("the process of nats-py has no output to wait for")
                with anyio.fail_after(READY_PATIENCE):
                    await TextReceiveStream(process.stdout).receive()
                async with _asking("plain", {"url": broker.url}) as asker:
                    yield asker
            finally:
                process.kill()


@asynccontextmanager
async def _asking(kind: str, how: dict[str, str]) -> AsyncIterator[_Asker]:
    command = [sys.executable, "-m", "benchmarks.asker", kind]
    async with await anyio.open_process(command, stderr=None) as process:
        try:
            asker = _Asker(process)
            await asker.say(how, READY_PATIENCE)
            yield asker
        finally:
            process.kill()
