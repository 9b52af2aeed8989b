"""A whole mesh on this machine: broker, coordinator, scheduler, and one simulated machine an agent.

The lab plays the hosts, which are trusted with nothing, and the operators, who order each new
coordinator's term and hand it the policy that they signed when the lab was made.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from agent_runtime import RefusedError
from attestation.own_keys import RECORDING
from lab import logs
from lab.accounts import access_for
from lab.blueprint import read_blueprint
from lab.broker import Broker, BrokerUser, make_nkey
from lab.children import dying_with_parent
from lab.image import Builder
from lab.launch import Exited, Rack, open_rack
from lab.layers import Store
from lab.logs import Admitted
from lab.machine import Machine
from lab.operators import ACCOUNTS, Operators
from lab.plan import CLIENTS, COORDINATOR, OPERATORS, SCHEDULER, log_of, make_machine, parties, read_plans
from lab.setup import blueprint_path
from lab.state import ANCHOR, State
from lab.tap import Script, Tap, open_tap
from schemas.errors import Reason, UsageError
from schemas.subjects import Party
from sealing.context import Mesh
from sealing.documents import open_anchor
from sealing.keys import SigningKey
from sealing.own_keys import OwnKeys
from transport import Credentials

log = logging.getLogger("sealbus.lab")

WIRE = "wire.recording"
ADMISSION_PATIENCE = 60.0  # seconds for all agents to be admitted or refused, on a busy machine
RESTART_PAUSE = 0.5
LOOK_AGAIN = 0.05
OWN_KEYS_PATIENCE = 60.0  # seconds to search a recording of some GB
REFUSED = 1  # an agent's exit code for a no that asking again will not change


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

    def credentials(self, party: str) -> Credentials | None:
        """Return the broker account of a kind of party; None on a broker of somebody else's."""
        seed = self.seeds.get(party)
        return Credentials(seed=seed) if seed else None

    def client_key(self, name: str) -> SigningKey:
        """Return the key of one of the lab's clients."""
        seeds = self.state.load_keys("clients")
        if name not in seeds:
            raise UsageError(f"this lab has no client {name!r}: there are {', '.join(sorted(seeds))}")
        return SigningKey(seeds[name])

    def pids(self) -> dict[str, int]:
        """Return every process of the mesh."""
        pids = {**self.rack.pids(), SCHEDULER: self.scheduler_pid}
        return pids | ({"broker": self.broker.pid} if self.broker else {})

    async def broker_messages(self) -> int | None:
        """Return the embedded broker's own count of messages that came in; None on another broker."""
        if self.broker is None:
            return None
        counters = await anyio.to_thread.run_sync(_get_json, f"{self.broker.monitor_url}/varz")
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
        log_of(state, name).unlink(missing_ok=True)
    async with AsyncExitStack() as stack:
        say("starting the broker" if url is None else "using the broker that was named")
        users, seeds = _accounts(state, mesh) if url is None else _no_accounts(state)
        broker = None
        if url is None:
            broker = await stack.enter_async_context(Broker(state.broker, users=users, monitor=monitor))
            url = broker.url
        tap = None
        if script is not None:
            tap = await stack.enter_async_context(open_tap(url, state.root / WIRE, script))
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
        say("measuring and launching the coordinator")
        _make_machines(running)
        await rack.start(running.machines[COORDINATOR])
        await running.operators.open_term()
        say("starting the scheduler")
        await tasks.start(_run_scheduler, running)
        say("measuring and launching the agents")
        async with anyio.create_task_group() as launching:
            for name in running.workloads:
                launching.start_soon(rack.start, running.machines[name])
        tasks.start_soon(_supervise, running, reports, tasks)
        try:
            yield running
        finally:
            with anyio.CancelScope(shield=True):
                tasks.cancel_scope.cancel()
                await rack.stop_all()


def require_every_workload(running: RunningMesh) -> None:
    """Raise `RefusedError` if a workload has no admitted agent: what it serves would wait for ever."""
    serving = {agent.workload for agent in running.admitted()}
    for name, reason in sorted(running.refused.items()):
        if running.workloads[name] not in serving:
            raise RefusedError(
                Reason.UNAVAILABLE,
                f"no {running.workloads[name]} was admitted ({reason}); if its code was changed on purpose, "
                "run: sealbus lab resign",
            )


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


def _accounts(state: State, mesh: Mesh) -> tuple[tuple[BrokerUser, ...], dict[str, str]]:
    access = {party.value: access_for(party, mesh.id) for party in Party}
    users, seeds = [], {}
    for name, allowed in access.items():
        seeds[name], public = make_nkey()
        users.append(BrokerUser(name=name, nkey_public=public, access=allowed))
        state.save(f"{ACCOUNTS}/{name}.seed", seeds[name].encode())
    return tuple(users), seeds


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


async def _supervise(
    running: RunningMesh,
    reports: "anyio.abc.ObjectReceiveStream[Exited]",
    tasks: TaskGroup,
) -> None:
    async for exited in reports:
        if exited.name != COORDINATOR and exited.status == REFUSED:
            running.refused[exited.name] = logs.last_refusal(log_of(running.state, exited.name))
            log.warning("%s was refused: %s", exited.name, running.refused[exited.name])
            continue
        log.info("%s ended (%d): starting it again", exited.name, exited.status)
        tasks.start_soon(_restart, running, exited.name)


async def _restart(running: RunningMesh, name: str) -> None:
    await anyio.sleep(RESTART_PAUSE)
    await running.rack.start(running.machines[name])
    if name == COORDINATOR:
        await running.operators.open_term()


def _get_json(url: str) -> dict[str, int]:
    # Only ever the embedded broker's own loopback address.
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
        return dict(json.load(answer))


async def _run_scheduler(
    running: RunningMesh, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    environment = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "HOME") if name in os.environ
    }
    environment["SEALBUS_NATS_URL"] = running.urls[SCHEDULER]
    if Party.SCHEDULER in running.seeds:
        environment["SEALBUS_NKEY_SEED"] = running.seeds[Party.SCHEDULER]
    command = [sys.executable, "-m", "scheduler", "--mesh", running.mesh.id.hex()]
    command += ["--status-file", str(running.state.root / "scheduler.json")]
    log_file = log_of(running.state, SCHEDULER)
    while True:
        with log_file.open("ab") as output:
            process = await anyio.open_process(
                dying_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        running.scheduler_pid = process.pid
        task_status.started()
        task_status = anyio.TASK_STATUS_IGNORED  # a start is told once
        try:
            await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.terminate()
                    with anyio.move_on_after(3):
                        await process.wait()
                if process.returncode is None:
                    process.kill()
                await process.aclose()
        log.info("the scheduler ended: starting it again")
        await anyio.sleep(RESTART_PAUSE)
