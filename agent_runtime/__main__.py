"""Run an agent file inside an enclave: `python -m agent_runtime AGENT_FILE`.

The launcher hands over a device for Evidence as a descriptor, and through it the broker's address and
account, which are hints of the host and never an identity. Exit codes: 0 ended, 1 refused, 2 usage, 3 the
broker could not be reached.
"""

import argparse
import logging
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from agent_runtime.agent import Agent
from agent_runtime.node import Identity, Node
from attestation import DescriptorAttester, report_own_keys
from schemas.errors import PeerError, SealbusError, UsageError
from transport import Credentials, TransportError, connect

log = logging.getLogger("sealbus.agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m agent_runtime", description=__doc__.splitlines()[0])
    parser.add_argument("agent", type=Path, help="the file that defines one Agent")
    parser.add_argument("--anchor", type=Path, default=Path("anchor.cbor"), help="the mesh's anchor")
    parser.add_argument("--attester-fd", type=int, default=3, help="descriptor of the launcher's device")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    code = 0
    try:
        anyio.run(_run, options.agent, options.anchor, options.attester_fd)
    except* PeerError as errors:
        code = _say(errors, 1)
    except* UsageError as errors:
        code = _say(errors, 2)
    except* TransportError as errors:
        code = _say(errors, 3)
    return code


async def _run(agent_file: Path, anchor_file: Path, descriptor: int) -> None:
    agent = load(agent_file)
    attester = DescriptorAttester(descriptor)
    host = await attester.host()
    seed = host.get("nkey_seed")
    credentials = Credentials(seed=seed) if seed else None
    try:
        anchor = await anyio.Path(anchor_file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the anchor {anchor_file}: {error.strerror}") from error
    async with connect(_required(host, "nats_url"), name="agent", credentials=credentials) as transport:
        node = Node(Identity(anchor, (agent.role,), attester), transport, agent)
        async with node.running():
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as signals:
                async for received in signals:
                    if received is not signal.SIGUSR1:
                        break
                    trust = node.membership.trust
                    await report_own_keys(attester, trust.term_key if trust else b"")
            if node.working is not None:
                await node.working.drain()


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
    for error in _leaves(errors):
        log.error("%s", error)
    return code


def _leaves(group: BaseExceptionGroup[SealbusError]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


if __name__ == "__main__":
    sys.exit(main())
