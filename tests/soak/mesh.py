"""A soak of real processes: a mesh behind the tap, honest work with numbered payloads, and one adversary."""

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path

import anyio

from agent_runtime import Client, Identity, connect_client
from agent_runtime.errors import CallFailedError, TaskFailedError
from lab import setup
from lab.keeping import BROKER
from lab.mesh import RunningMesh, running_mesh, wait_admitted
from lab.plan import CLIENTS
from lab.state import open_state
from lab.tap import Drop, Match, Script, Tap
from schemas.errors import PeerError
from schemas.subjects import Party
from tests.soak.hostile import LIVE, Adversary, of

BLUEPRINT = Path(__file__).parent / "blueprint" / "blueprint.toml"
CALLERS = 48
CARRIERS = 4
WITHIN = 60.0  # seconds that a call may take under attack
PAGE = os.sysconf("SC_PAGE_SIZE")
RECOVERY = 2.0  # seconds: issue's bound for traffic after the adversary's end
FRESH = 16
BLACKOUT = 20.0  # seconds in which everything is withheld: twice the grace period
RECORDS = ("soak", BROKER)  # hold the tap's decisions, and the streams' tasks and results
PHASES = 10  # so often the adversary stops, and the mesh has to work at once

Say = Callable[[str, int], None]


@dataclass
class Outcome:
    """What a soak of processes did and found."""

    events: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    tasks: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    run_most: int = 0
    recovery: list[float] = field(default_factory=list)  # seconds of each fresh call after the end
    after_blackout: list[float] = field(default_factory=list)  # the same, after all was withheld
    task_recovery: list[float] = field(default_factory=list)
    seconds: float = 0.0
    rss_kib: dict[str, tuple[int, int]] = field(default_factory=dict)  # after the first phase, and at the end
    objects: tuple[int, int] = (0, 0)  # of the ledger
    died: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)

    def faults(self, growth: float) -> list[str]:
        """Say what was not as it must be."""
        found = [f"{name} ended or was started again" for name in self.died]
        found += [f"{name} printed a traceback" for name in self.tracebacks]
        if self.wrong:
            found.append(f"{self.wrong} wrong answers were accepted")
        if self.run_most > 1:
            found.append(f"a call ran {self.run_most} times")
        if max(self.recovery, default=RECOVERY + 1) > RECOVERY:
            found.append(
                f"a fresh call took {max(self.recovery, default=-1):.2f} s after the adversary's end"
            )
        for name, (before, after) in self.rss_kib.items():
            if name not in RECORDS and after > before * growth:
                found.append(f"{name} grew from {before} to {after} KiB")
        if self.objects[1] > self.objects[0] * growth:
            found.append(f"the ledger's objects grew from {self.objects[0]} to {self.objects[1]}")
        return found


@asynccontextmanager
async def hostile_mesh(folder: Path, seed: int) -> AsyncIterator[tuple[RunningMesh, Tap, Client]]:
    """Bring up the soak's mesh in `folder`, every party behind the tap; nothing is attacked yet."""
    lab = folder / "lab"
    await anyio.to_thread.run_sync(setup.make, lab, BLUEPRINT, lambda _: None)
    with open_state(lab) as state:
        async with running_mesh(state, script=Script(seed)) as mesh:
            await wait_admitted(mesh)
            assert mesh.tap is not None
            identity = Identity(mesh.anchor, ("soak",), key=mesh.client_key("soak"))
            credentials = mesh.credentials(Party.CLIENT)
            async with connect_client(mesh.urls[CLIENTS], identity, credentials=credentials) as client:
                yield mesh, mesh.tap, client


class Workload:
    """Honest work: each payload is another, and each answer is checked."""

    def __init__(self, client: Client, outcome: Outcome) -> None:
        self._client = client
        self._outcome = outcome
        self._numbers = count(1)

    async def call(self, within: float = WITHIN) -> None:
        """Have one payload stamped."""
        number, payload = next(self._numbers), os.urandom(64)
        value = await self._client.context.call("stamp", (number, payload), bytes, within=within)
        self._check(number, payload, value)
        self._outcome.calls += 1

    async def carry(self) -> None:
        """Have one payload carried by a worker."""
        number, payload = next(self._numbers), os.urandom(64)
        task = await self._client.context.submit("carry", (number, payload))
        self._check(number, payload, await task.result(bytes))
        self._outcome.tasks += 1

    async def again_and_again(self, work: Callable[[], object]) -> None:
        """Work until cancelled; what an attack can make fail is counted."""
        while True:
            try:
                await work()  # type: ignore[misc]
            except (CallFailedError, TaskFailedError, PeerError) as error:
                self._outcome.failed[getattr(error, "reason", type(error).__name__)] += 1
                await anyio.sleep(0.05)

    def _check(self, number: int, payload: bytes, value: bytes) -> None:
        if value != sha256(number.to_bytes(8, "big") + payload).digest():
            self._outcome.wrong += 1


async def soak(folder: Path, *, events: int, seed: int, rate: float, say: Say) -> Outcome:
    """Attack a mesh until so many adverse events have happened, then turn honest and look at what is left."""
    outcome = Outcome()
    async with hostile_mesh(folder, seed) as (mesh, tap, client):
        work = Workload(client, outcome)
        await work.call()
        pids = mesh.pids()
        async with anyio.create_task_group() as tasks:
            for _ in range(CALLERS):
                tasks.start_soon(work.again_and_again, work.call)
            for _ in range(CARRIERS):
                tasks.start_soon(work.again_and_again, work.carry)
            for phase in range(PHASES):
                until = events * (phase + 1) // PHASES - outcome.events.total()
                await _attack(tap, mesh, outcome, seed + phase, rate=rate, until=until, say=say)
                # The old work goes on; only what begins now has no lost message behind it.
                outcome.recovery += await _fresh(work)
                begun = time.monotonic()
                await work.carry()
                outcome.task_recovery.append(time.monotonic() - begun)
                if phase == 0:
                    outcome.rss_kib = {name: (kib, 0) for name, kib in _rss(mesh).items()}
                    outcome.objects = await client.context.call("weight", None, int, within=WITHIN), 0
            await _withhold(tap, BLACKOUT)
            outcome.after_blackout = await _fresh(work)
            tasks.cancel_scope.cancel()
        _, outcome.run_most = await client.context.call("audit", None, tuple[int, int], within=WITHIN)
        outcome.objects = outcome.objects[0], await client.context.call("weight", None, int, within=WITHIN)
        for name, kib in _rss(mesh).items():
            outcome.rss_kib[name] = outcome.rss_kib.get(name, (kib, 0))[0], kib
        outcome.died = [name for name, pid in pids.items() if mesh.pids().get(name) != pid]
        outcome.tracebacks = [
            path.stem
            for path in sorted(mesh.state.logs.glob("*.log"))
            # An agent says by one line what others print whole.
            if any(sign in path.read_text("utf-8") for sign in ("Traceback", "uncaught "))
        ]
    return outcome


async def _withhold(tap: Tap, seconds: float) -> None:
    """Let nothing of the mesh pass but what streams hold: nobody is live any more, and all join again."""
    rule = tap.script.add("withhold", Match(where=of(LIVE)), Drop())
    await anyio.sleep(seconds)
    tap.script.remove(rule)


async def _fresh(work: Workload) -> list[float]:
    times: list[float] = []

    async def one() -> None:
        begun = time.monotonic()
        while True:
            try:
                await work.call()
                break
            except PeerError:  # who is not live yet is told so, and would be by its own program
                await anyio.sleep(0.02)
        times.append(time.monotonic() - begun)

    async with anyio.create_task_group() as tasks:
        for _ in range(FRESH):
            tasks.start_soon(one)
    return sorted(times)


async def _attack(
    tap: Tap, mesh: RunningMesh, outcome: Outcome, seed: int, *, rate: float, until: int, say: Say
) -> None:
    adversary = Adversary(tap.script, mesh.urls, seed)
    before, started = outcome.events.total(), time.monotonic()

    async def tell() -> None:
        while True:
            say("processes", before + adversary.count().total())
            await anyio.sleep(0.5)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        await adversary.inject(tap, rate, until)
        tasks.cancel_scope.cancel()
    outcome.events += adversary.stop()
    outcome.seconds += time.monotonic() - started


def _rss(mesh: RunningMesh) -> dict[str, int]:
    pids = {**mesh.pids(), "soak": os.getpid()}
    return {
        name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE // 1024
        for name, pid in pids.items()
    }
