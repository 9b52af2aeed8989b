"""`sealbus lab start`: one part of a lab in the foreground, until it is told to end.

The parts are those that `lab up` runs in one process, and the code is the same. Each finds the broker by
`SEALBUS_NATS_URL`, and what it shares with the others in the lab's directory, of which it needs only its
share: machines the simulated roots, operators their keys, the scheduler neither.
"""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import msgspec
from anyio.abc import TaskGroup

from lab import logs, setup
from lab.accounts import draw_accounts, saved_accounts, users_of
from lab.attached import BROKER_URL, TAP
from lab.blueprint import installed_blueprint, read_blueprint
from lab.broker import HOST, Broker, server_config
from lab.evidence import EVIDENCE
from lab.image import Builder
from lab.keeping import keep_machines, keep_scheduler
from lab.launch import Exited, open_rack
from lab.layers import Store
from lab.mesh import forget, recording_of
from lab.operators import Operators
from lab.plan import COORDINATOR, OPERATORS, SCHEDULER, log_of, make_machine, parties, plan_of, read_plans
from lab.state import ANCHOR, State, hold_part, open_state
from lab.tap import open_tap
from lab.told import until_told
from schemas.errors import UsageError
from sealing.documents import open_anchor

log = logging.getLogger("sealbus.lab")

INIT, BROKER = "init", "broker"
BROKER_PORT = 4222
TAP_PORT = 4300  # the first party's; the others follow in the order of `lab.plan.parties`
BROKER_CONFIG = "nats-server.json"
LOOK_AGAIN = 0.2
VERSION_FILE = "version"
NOT_COPIED = frozenset({"lock", VERSION_FILE})


@dataclass(frozen=True, slots=True)
class Part:
    """What is asked of a part. `ready` is a file that is there while the part does its work."""

    name: str
    host: str = HOST
    port: int | None = None
    ready: Path | None = None

    def is_ready(self, yes: bool = True) -> None:
        """Tell whoever looks."""
        if self.ready is None:
            return
        if yes:
            self.ready.touch()
        else:
            self.ready.unlink(missing_ok=True)


def initialise(root: Path, host: str, say: Callable[[str], None]) -> None:
    """Make a lab if there is none, with accounts and configuration for a broker that listens on `host`.

    Stage what the machines launch too, so that they need only read it. Again, it stages what changed; who
    may run is what the operators signed before.
    """
    if not (root / VERSION_FILE).exists():
        _make(root, say)
    with open_state(root) as state:
        _, mesh = open_anchor(state.load(ANCHOR))
        seeds = saved_accounts(state)
        users = users_of(seeds, mesh) if seeds else draw_accounts(state, mesh)[0]
        config = server_config(state.broker.absolute(), users, port=BROKER_PORT, monitor=True, host=host)
        state.save(f"broker/{BROKER_CONFIG}", msgspec.json.format(msgspec.json.encode(config)))
        say("staging what the machines launch")
        builder = Builder(Store(state.layers))
        for spec in {plan.workload: plan.spec for plan in read_plans(state).values()}.values():
            builder.stage(builder.build(spec))


def _make(root: Path, say: Callable[[str], None]) -> None:
    if not root.exists():
        setup.make(root, installed_blueprint(), say)
        return
    # A directory that is there already is a mount, or holds some: it cannot be put in place whole, so the
    # version, without which no directory is a lab, comes last.
    with tempfile.TemporaryDirectory(prefix="sealbus-lab-") as made:
        made_lab = Path(made, "lab")
        setup.make(made_lab, installed_blueprint(), say)
        state = State(root.absolute())
        for path in sorted(made_lab.rglob("*")):
            name = path.relative_to(made_lab).as_posix()
            if path.is_file() and name not in NOT_COPIED:
                state.save(name, path.read_bytes())
        state.save(VERSION_FILE, (made_lab / VERSION_FILE).read_bytes())


async def start(root: Path, part: Part, say: Callable[[str], None]) -> int:
    """Run one part until SIGINT or SIGTERM; return the exit code."""
    with open_state(root, exclusive=False) as state:
        names = [BROKER, TAP, OPERATORS, SCHEDULER, *read_plans(state)]
        if part.name not in names:
            raise UsageError(f"this lab has no part {part.name!r}: there are {INIT}, {', '.join(names)}")
        with hold_part(state, part.name):
            part.is_ready(False)
            try:
                return await until_told(partial(_run, state, part, say))
            finally:
                part.is_ready(False)


async def _run(state: State, part: Part, say: Callable[[str], None]) -> int:
    if part.name == BROKER:
        await _run_broker(state, part, say)
    if part.name == TAP:
        await _run_tap(state, part, say)
    if part.name == OPERATORS:
        await _run_operators(state, part, say)
    if part.name == SCHEDULER:
        await _run_scheduler(state, part, say)
    return await _run_machine(state, part, say)


def broker_url() -> str:
    """Return the broker that the environment names, which every part needs."""
    url = os.environ.get(BROKER_URL)
    if not url:
        raise UsageError(f"set {BROKER_URL} to where this part finds the broker, for example {_EXAMPLE}")
    return url


_EXAMPLE = f"nats://{HOST}:{BROKER_PORT}"


async def _run_broker(state: State, part: Part, say: Callable[[str], None]) -> None:
    _, mesh = open_anchor(state.load(ANCHOR))
    users = users_of(saved_accounts(state), mesh)
    async with Broker(state.broker, users=users, port=part.port or BROKER_PORT) as broker:
        part.is_ready()
        say(f"broker at {broker.url}")
        await anyio.sleep_forever()


async def _run_tap(state: State, part: Part, say: Callable[[str], None]) -> None:
    everybody = parties(read_blueprint(setup.blueprint_path(state)))
    first = part.port or TAP_PORT
    async with open_tap(broker_url(), recording_of(state)) as tap:
        for number, name in enumerate(everybody):
            try:
                url = await tap.listen(name, host=part.host, port=first + number)
            except OSError as error:
                raise UsageError(
                    f"port {first + number} for {name} cannot be used ({error.strerror}): name another "
                    f"first port with --port; the tap takes {len(everybody)} in a row"
                ) from error
            say(f"{name}: {url}")
        part.is_ready()
        await anyio.sleep_forever()


async def _run_operators(state: State, part: Part, say: Callable[[str], None]) -> None:
    open_once = anyio.Event()

    def opened(term: int) -> None:
        part.is_ready()
        say(f"term {term} is open, the policy is handed over")
        open_once.set()

    operators = Operators(state, broker_url())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operators.keep_terms, opened)
        await open_once.wait()
        tasks.start_soon(operators.follow_log)


async def _run_scheduler(state: State, part: Part, say: Callable[[str], None]) -> None:
    _, mesh = open_anchor(state.load(ANCHOR))
    forget(state, SCHEDULER)

    def started(pid: int) -> None:
        say(f"scheduler runs as process {pid}")
        part.is_ready()

    async with _following(log_of(state, SCHEDULER), lambda _: None):
        await keep_scheduler(state, mesh.id, broker_url(), saved_accounts(state).get(SCHEDULER), started)


async def _run_machine(state: State, part: Part, say: Callable[[str], None]) -> int:
    plan = plan_of(state, part.name)
    host = {"nats_url": broker_url()}
    seed = saved_accounts(state).get(plan.party.value)
    if seed:
        host["nkey_seed"] = seed
    _forget(state, plan.name)
    machine = make_machine(plan, state, Builder(Store(state.layers)), host)
    refused: list[str] = []

    def said(line: bytes) -> None:
        if logs.tells_admission(line.decode("utf-8", "replace")):
            part.is_ready()

    async def again(_: str) -> None:
        if plan.name == COORDINATOR:
            part.is_ready()

    send, exits = anyio.create_memory_object_stream[Exited](16)

    def report(exited: Exited) -> None:
        part.is_ready(False)
        send.send_nowait(exited)

    with send, exits:
        async with _following(log_of(state, plan.name), said) as tasks, open_rack(report) as rack:

            def no(_: str, reason: str) -> None:
                refused.append(reason)
                tasks.cancel_scope.cancel()

            say(f"measuring and launching {plan.name} on {plan.platform}")
            await rack.start(machine)
            await again(plan.name)
            try:
                await keep_machines(state, rack, {plan.name: machine}, exits, refused=no, again=again)
            finally:
                with anyio.CancelScope(shield=True):
                    await rack.stop_all()
    if refused:
        say(f"refused: {refused[0]}")
        return 1
    return 0


def _forget(state: State, name: str) -> None:
    if name == COORDINATOR:
        # Its decisions are what the others' admissions are known by: they outlast it.
        shutil.rmtree(state.root / EVIDENCE / name, ignore_errors=True)
    else:
        forget(state, name)


@asynccontextmanager
async def _following(path: Path, said: Callable[[bytes], None]) -> AsyncIterator[TaskGroup]:
    """Print what a part writes into its log, from now on, and tell `said` each line."""
    position = _size(path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_follow, path, position, said)
        yield tasks
        tasks.cancel_scope.cancel()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _follow(path: Path, position: int, said: Callable[[bytes], None]) -> None:
    held = b""
    while True:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(position)
            new = file.read()
            position += len(new)
            *lines, held = (held + new).split(b"\n")
            for line in lines:
                sys.stderr.buffer.write(line + b"\n")
                said(line)
            sys.stderr.flush()
        # What a machine prints goes to a file, which tells nobody when it grows.
        await anyio.sleep(LOOK_AGAIN)
