"""Run an agent file inside an enclave: `python -m agent_runtime AGENT_FILE`.

The launcher hands over a device for Evidence as a descriptor, and through it the broker's address and
account, which are hints of the host and never an identity. With `--own-tee` there is no launcher: Evidence is
of this machine's TEE, and the hints are arguments and environment. It looks for broker and coordinator
without end.

Exit codes: 0 ended by SIGTERM or SIGINT, 1 failed, 2 usage, 3 the broker refuses the account, 77 refused by
the coordinator for a reason that another start does not change: a supervisor starts it again after every
other one, and not after this one.
"""

import argparse
import asyncio
import contextlib
import logging
import math
import runpy
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from agent_runtime.agent import Agent
from agent_runtime.bugs import parts
from agent_runtime.door import DOOR_PACE
from agent_runtime.errors import EXIT_REFUSED
from agent_runtime.handlers import OF_THE_PROCESS
from agent_runtime.joining import AdmissionRefusedError
from agent_runtime.loop import run
from agent_runtime.node import Identity, Node
from agent_runtime.uncaught import Uncaught
from attestation import Machine, report_own_keys
from attestation.attesters.own_machine import add_machine_arguments, open_machine
from attestation.bundles.carried import CarryingMachine, carried_by
from schemas.errors import PeerError, SealbusError, UsageError
from sealing.documents import open_anchor
from transport import Credentials, TransportError, connect

log = logging.getLogger("sealbus.agent")

FAILED, USAGE, UNREACHABLE = 1, 2, 3
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # the last: search for our own keys


def main(arguments: Sequence[str] | None = None, uncaught: Uncaught | None = None) -> int:
    """Run the agent until it is told to end; what its code ends the process with, `uncaught` tells."""
    parser = argparse.ArgumentParser(prog="python -m agent_runtime", description=__doc__.splitlines()[0])
    parser.add_argument("agent", type=Path, help="the file that defines one Agent")
    parser.add_argument("--anchor", type=Path, default=Path("anchor.cbor"), help="the mesh's anchor")
    add_machine_arguments(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    uncaught = uncaught or Uncaught()
    uncaught.expect(options.agent)
    code = 0
    try:
        code = _run_to_end(uncaught, options.agent, options.anchor, partial(open_machine, options))
    except* AdmissionRefusedError as errors:
        code = _say(errors, EXIT_REFUSED)
    except* PeerError as errors:
        code = _say(errors, FAILED)
    except* UsageError as errors:
        code = _say(errors, USAGE)
    except* TransportError as errors:
        code = _say(errors, UNREACHABLE)
    return code


def _run_to_end(
    uncaught: Uncaught, agent_file: Path, anchor_file: Path, machine: Callable[[], Machine]
) -> int:
    try:
        run(_run, uncaught, agent_file, anchor_file, machine)
    except SystemExit as end:
        return uncaught.code_of(end)
    except BaseExceptionGroup as group:
        if not any(isinstance(part.error, OF_THE_PROCESS) for part in parts(group)):
            raise
        # A handler's: what it was refused beside the interrupt is in its own words, which may be payload.
        uncaught.tell("at the end", group)
        return FAILED
    return 0


async def _run(
    uncaught: Uncaught, agent_file: Path, anchor_file: Path, machine: Callable[[], Machine]
) -> None:
    asyncio.get_running_loop().set_exception_handler(uncaught.in_loop)
    ask, asked = anyio.create_memory_object_stream[None](1)
    ready, stop = anyio.Event(), anyio.Event()
    # Before anything else: who is told to end while it starts ends as cleanly.
    with ask, asked, anyio.open_signal_receiver(*SIGNALS) as signals:
        async with anyio.create_task_group() as tasks:

            async def serve() -> None:
                await _serve(uncaught, agent_file, anchor_file, machine, asked, ready, stop)
                tasks.cancel_scope.cancel()

            tasks.start_soon(serve)
            async for received in signals:
                if received is signal.SIGUSR1:
                    with contextlib.suppress(anyio.WouldBlock):
                        ask.send_nowait(None)
                    continue
                if stop.is_set() or not ready.is_set():
                    tasks.cancel_scope.cancel()
                stop.set()


async def _serve(
    uncaught: Uncaught,
    agent_file: Path,
    anchor_file: Path,
    machine: Callable[[], Machine],
    asked: MemoryObjectReceiveStream[None],
    ready: anyio.Event,
    stop: anyio.Event,
) -> None:
    agent = load(agent_file)
    uncaught.know(agent)
    with closing(machine()) as attester:
        host = await attester.host()
        seed = host.get("nkey_seed")
        credentials = Credentials(seed=seed) if seed else None
        try:
            anchor = await anyio.Path(anchor_file).read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read the anchor {anchor_file}: {error.strerror}") from error
        carried = await carried_by(host, *open_anchor(anchor))
        own = attester if carried is None else CarryingMachine(attester, carried)
        url = _required(host, "nats_url")
        log.info("looking for the broker")
        async with (
            connect(url, name="agent", credentials=credentials, patience=math.inf) as transport,
            connect(url, name="agent", credentials=credentials, patience=math.inf, pace=DOOR_PACE) as door,
        ):
            node = Node(Identity(anchor, (agent.role,), own, carried=carried), transport, agent, door=door)
            async with node.running(), anyio.create_task_group() as tasks:
                tasks.start_soon(_report_keys, attester, node, asked)
                ready.set()
                await stop.wait()
                if node.working is not None:
                    await node.working.drain()
                tasks.cancel_scope.cancel()


async def _report_keys(attester: Machine, node: Node, asked: MemoryObjectReceiveStream[None]) -> None:
    async for _ in asked:
        trust = node.membership.trust
        await report_own_keys(attester, trust.term_key if trust else b"")


def load(path: Path) -> Agent:
    """Return the one `Agent` that a file defines."""
    try:
        names = runpy.run_path(str(path), run_name="sealbus_agent")
    except OSError as error:
        raise UsageError(f"cannot read the agent file {path}: {error.strerror}") from error
    agents = {id(value): value for value in names.values() if isinstance(value, Agent)}
    if len(agents) != 1:
        raise UsageError(f"{path} defines {len(agents)} agents: it must define exactly one `Agent`")
    return next(iter(agents.values()))


def _required(host: dict[str, str], name: str) -> str:
    try:
        return host[name]
    except KeyError:
        raise UsageError(f"the launcher gave no {name}: start the agent by its launcher") from None


def _say(errors: BaseExceptionGroup[SealbusError], code: int) -> int:
    for part in parts(errors):
        log.error("%s", part.error)
    return code


if __name__ == "__main__":
    hooks = Uncaught()
    hooks.install()
    sys.exit(main(uncaught=hooks))
