"""A whole mesh on this machine: broker, coordinator, scheduler, and one simulated machine an agent.

The lab plays the hosts, which are trusted with nothing, and the operators, who order each new
coordinator's term and hand it the policy that they signed when the lab was made.
"""

import contextlib
import json
import os
import shutil
import signal
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from attestation.own_keys import RECORDING
from lab import logs
from lab.accounts import draw_accounts
from lab.blueprint import read_blueprint
from lab.broker import Broker, BrokerUser
from lab.evidence import EVIDENCE
from lab.image import Builder
from lab.keeping import BROKER, keep_broker, keep_machines, keep_scheduler
from lab.launch import Exited, Rack, open_rack
from lab.layers import Store
from lab.logs import Admitted
from lab.machine import Machine
from lab.operators import Operators
from lab.plan import CLIENTS, COORDINATOR, OPERATORS, SCHEDULER, log_of, make_machine, parties, read_plans
from lab.setup import blueprint_path
from lab.state import ACCOUNTS, ANCHOR, State
from lab.tap import Script, Tap, open_tap
from lab.view import client_key
from schemas.errors import UsageError
from schemas.subjects import Party
from sealing.context import Mesh
from sealing.documents import open_anchor
from sealing.keys import SigningKey
from sealing.own_keys import OwnKeys
from transport import Credentials

WIRE = "wire/broker.recording"  # in a folder of its own, which can be shown to others
LAB_FILE = "lab.json"
ADMISSION_PATIENCE = 120.0  # seconds for all agents to be admitted or refused, on a busy machine
TERM_PATIENCE = 120.0  # seconds for a coordinator to take its first order
LOOK_AGAIN = 0.05
OWN_KEYS_PATIENCE = 60.0  # seconds to search a recording of some GB


@dataclass
class RunningMesh:
    """A mesh that is up."""

    state: State
    url: str
    anchor: bytes
    mesh: Mesh
    broker: Broker | None
    rack: Rack
    operators: Operators
    seeds: dict[str, str]
    machines: dict[str, Machine] = field(default_factory=dict)
    workloads: dict[str, str] = field(default_factory=dict)  # machine: workload
    scheduler_pid: int = 0
    refused: dict[str, str] = field(default_factory=dict)  # agent: reason
    urls: dict[str, str] = field(default_factory=dict)  # party: where it finds the broker, or the tap
    tap: Tap | None = None
    on_change: Callable[[], None] = lambda: None  # other processes run than before

    def changed(self) -> None:
        """Tell whoever keeps a list of the processes."""
        self.on_change()

    def scheduler_started(self, pid: int) -> None:
        """Note the scheduler's process."""
        self.scheduler_pid = pid
        self.changed()

    def credentials(self, party: str) -> Credentials | None:
        """Return the broker account of a kind of party; None on a broker of somebody else's."""
        seed = self.seeds.get(party)
        return Credentials(seed=seed) if seed else None

    def client_key(self, name: str) -> SigningKey:
        """Return the key of one of the lab's clients."""
        return client_key(self.state, name)

    @property
    def recording(self) -> Path | None:
        """Where the tap records."""
        return self.tap.path if self.tap else None

    @property
    def store(self) -> Path | None:
        """The folder in which the embedded broker keeps its streams."""
        return self.state.broker if self.broker else None

    @property
    def shared(self) -> bool:
        """It is this process's own."""
        return False

    @property
    def enclaves(self) -> int:
        """How many enclaves run."""
        return len(self.rack.pids())

    async def recorded(self) -> tuple[int, int]:
        """Count what crossed the tap: messages to the broker, and bytes both ways."""
        return (self.tap.recorder.messages, self.tap.recorder.size) if self.tap else (0, 0)

    def pids(self) -> dict[str, int]:
        """Return every process of the mesh."""
        pids = {**self.rack.pids(), SCHEDULER: self.scheduler_pid}
        if self.broker is not None and self.broker.is_running:
            pids[BROKER] = self.broker.pid
        return pids

    async def broker_messages(self) -> int | None:
        """Return the embedded broker's own count of messages that came in.

        None on another broker, and on one that was started again: it has forgotten what it had counted.
        """
        if self.broker is None or self.broker.starts > 1:
            return None
        try:
            counters = await anyio.to_thread.run_sync(_get_json, f"{self.broker.monitor_url}/varz")
        except OSError:
            return None  # it ended at this moment
        return int(counters["in_msgs"])

    async def own_keys(self) -> dict[str, OwnKeys]:
        """Have every enclave search the tap's recording for its own keys; return what they report."""
        pids = self.rack.pids()
        before = {name: len(logs.own_key_reports(log_of(self.state, name))) for name in pids}
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        reports: dict[str, OwnKeys] = {}
        with anyio.move_on_after(OWN_KEYS_PATIENCE):
            while len(reports) < len(pids):
                for name in pids:
                    found = logs.own_key_reports(log_of(self.state, name))
                    if len(found) > before[name]:
                        reports[name] = found[-1]
                # What the machines print goes to files, which tell nobody when they grow.
                await anyio.sleep(LOOK_AGAIN)
        return reports

    def audit(self) -> list[dict[str, object]]:
        """Return the coordinator's decisions since this mesh came up."""
        return logs.read_audit(self.state.logs / f"{COORDINATOR}.log")

    def admitted(self) -> list[Admitted]:
        """Return each machine's agent as it was admitted last."""
        return logs.admitted(self.state.logs, self.machines)


@asynccontextmanager
async def running_mesh(
    state: State,
    *,
    url: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    monitor: bool = False,
    script: Script | None = None,
) -> AsyncIterator[RunningMesh]:
    """Bring a mesh up and take it down at the end. `url` names a broker of somebody else's.

    With a script every party is behind a tap, which records to `WIRE` in the state directory.
    """
    anchor = state.load(ANCHOR)
    _, mesh = open_anchor(anchor)
    everybody = parties(read_blueprint(blueprint_path(state)))
    for name in everybody:
        forget(state, name)
    (state.root / LAB_FILE).unlink(missing_ok=True)  # of a lab that was killed
    async with AsyncExitStack() as stack:
        say("starting the broker" if url is None else "using the broker that was named")
        users, seeds = draw_accounts(state, mesh) if url is None else _no_accounts(state)
        broker = None
        if url is None:
            broker = await stack.enter_async_context(Broker(state.broker, users=users, monitor=monitor))
            url = broker.url
        tap = None
        recording_of(state).unlink(missing_ok=True)  # what is there tells of another mesh
        if script is not None:
            tap = await stack.enter_async_context(open_tap(url, recording_of(state), script))
        urls = {name: await tap.listen(name) if tap else url for name in everybody}
        exits, reports = anyio.create_memory_object_stream[Exited](1024)
        stack.enter_context(exits)
        stack.enter_context(reports)
        rack = await stack.enter_async_context(open_rack(exits.send_nowait))
        operators = Operators(state, urls[OPERATORS])
        running = RunningMesh(
            state, urls[CLIENTS], anchor, mesh, broker, rack, operators, seeds, urls=urls, tap=tap
        )
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        if broker is not None:
            tasks.start_soon(keep_broker, broker, running.changed)
        say("measuring and launching the coordinator")
        _make_machines(running)
        await rack.start(running.machines[COORDINATOR])
        await running.operators.open_term(TERM_PATIENCE)
        tasks.start_soon(running.operators.follow_log)
        say("starting the scheduler")
        await tasks.start(
            keep_scheduler,
            state,
            mesh.id,
            urls[SCHEDULER],
            seeds.get(Party.SCHEDULER),
            running.scheduler_started,
        )
        say("measuring and launching the agents")
        async with anyio.create_task_group() as launching:
            for name in running.workloads:
                launching.start_soon(rack.start, running.machines[name])
        state.require_room()  # now that the images are staged
        tasks.start_soon(_keep, running, reports)
        try:
            yield running
        finally:
            with anyio.CancelScope(shield=True):
                tasks.cancel_scope.cancel()
                await rack.stop_all()


def recording_of(state: State) -> Path:
    """Name the file into which a tap records."""
    return state.root / WIRE


def forget(state: State, name: str) -> None:
    """Remove what a part left of an earlier run."""
    log_of(state, name).unlink(missing_ok=True)
    logs.forget_refused(state.logs, name)
    shutil.rmtree(state.root / EVIDENCE / name, ignore_errors=True)


async def wait_admitted(running: RunningMesh) -> None:
    """Return when every machine's agent is admitted, or was refused for good."""
    expected = len(running.machines) - 1
    with anyio.move_on_after(ADMISSION_PATIENCE):
        # What the machines print goes to files, which tell nobody when they grow.
        while len(running.admitted()) + len(running.refused) < expected:  # noqa: ASYNC110
            await anyio.sleep(LOOK_AGAIN)
        return
    raise UsageError(
        f"only {len(running.admitted())} of {expected} agents were admitted within "
        f"{ADMISSION_PATIENCE:.0f} s: see {running.state.logs}"
    )


def _no_accounts(state: State) -> tuple[tuple[BrokerUser, ...], dict[str, str]]:
    # Accounts of an embedded broker that ran before are none of this one's.
    for name in state.load_all(ACCOUNTS):
        (state.root / ACCOUNTS / name).unlink()
    return (), {}


def _make_machines(running: RunningMesh) -> None:
    builder = Builder(Store(running.state.layers))
    for name, plan in read_plans(running.state).items():
        host = {"nats_url": running.urls[name]}
        if running.tap is not None:
            host[RECORDING] = str(running.tap.path)
        if plan.party in running.seeds:
            host["nkey_seed"] = running.seeds[plan.party]
        running.machines[name] = make_machine(plan, running.state, builder, host)
        if plan.workload:
            running.workloads[name] = plan.workload


async def _keep(running: RunningMesh, reports: MemoryObjectReceiveStream[Exited]) -> None:
    async def again(name: str) -> None:
        running.changed()
        if name == COORDINATOR:
            await running.operators.open_term()

    await keep_machines(
        running.state,
        running.rack,
        running.machines,
        reports,
        refused=running.refused.__setitem__,
        again=again,
    )


def _get_json(url: str) -> dict[str, int]:
    # Only ever the embedded broker's own loopback address.
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
        return dict(json.load(answer))
