"""Run a mesh's coordinator inside an enclave: `python -m coordinator --anchor FILE --attester-fd N`.

The anchor is measured. The broker's address and account come from the host through the launcher's device, or
with `--own-tee` from arguments and environment: they say where, never who. Exit codes: 0 ended by SIGTERM or
SIGINT, 2 usage or unreadable input, 3 the broker could not be reached.
"""

import argparse
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from attestation import AttesterError, Machine, report_own_keys
from attestation.attesters.own_machine import add_machine_arguments, open_machine
from attestation.bundles.carried import CarryingMachine, carried_by
from coordinator.clock import coordinator_clock
from coordinator.service import Service
from schemas.errors import PeerError, UsageError
from sealing.documents import open_anchor
from sealing.keys import PartyKeys
from transport import Credentials, TransportError, connect

log = logging.getLogger("sealbus.coordinator")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # the last: search for our own keys
BROKER_PATIENCE = 10.0  # seconds to find the broker: it may be starting too


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the coordinator until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m coordinator", description="Run a mesh's coordinator.")
    parser.add_argument("--anchor", type=Path, default=Path("anchor.cbor"), help="the mesh's anchor")
    add_machine_arguments(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    code = 0
    try:
        anyio.run(_run, options.anchor, partial(open_machine, options))
    except* (UsageError, AttesterError) as errors:
        code = _say(errors, 2)
    except* TransportError as errors:
        code = _say(errors, 3)
    return code


async def _run(anchor_file: Path, machine: Callable[[], Machine]) -> None:
    # Before anything else: who is told to end while it starts ends as cleanly.
    ask, asked = anyio.create_memory_object_stream[None](1)
    with ask, asked, anyio.open_signal_receiver(*SIGNALS) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_serve, anchor_file, machine, asked)
            async for received in signals:
                if received is not signal.SIGUSR1:
                    break
                with contextlib.suppress(anyio.WouldBlock):
                    ask.send_nowait(None)
            tasks.cancel_scope.cancel()


async def _serve(
    anchor_file: Path, machine: Callable[[], Machine], asked: MemoryObjectReceiveStream[None]
) -> None:
    try:
        council, mesh = open_anchor(await anyio.Path(anchor_file).read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read the anchor {anchor_file}: {error.strerror}") from error
    except PeerError as error:
        raise UsageError(f"{anchor_file} is not an anchor ({error}): name the mesh's own file") from error
    with closing(machine()) as attester:
        host = await attester.host()
        url, seed = host.get("nats_url"), host.get("nkey_seed")
        if not url:
            raise UsageError("the launcher gave no nats_url: start the coordinator by its launcher")
        credentials = Credentials(seed=seed) if seed else None
        carried = await carried_by(host, council, mesh)
        own = attester if carried is None else CarryingMachine(attester, carried)
        clock = coordinator_clock(council.issued)
        async with connect(
            url, name="coordinator", credentials=credentials, patience=BROKER_PATIENCE
        ) as transport:
            keys = PartyKeys()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_report_keys, attester, keys, asked)
                await Service(council, mesh, keys, transport, own, clock, carried).run()


async def _report_keys(attester: Machine, keys: PartyKeys, asked: MemoryObjectReceiveStream[None]) -> None:
    async for _ in asked:
        # Every offer says the public key in the clear.
        await report_own_keys(attester, keys.signing.public)


def _say(errors: BaseExceptionGroup[BaseException], code: int) -> int:
    for error in _leaves(errors):
        log.error("%s", error)
    return code


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        yield from _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]


if __name__ == "__main__":
    sys.exit(main())
