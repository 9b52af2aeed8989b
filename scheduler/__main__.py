"""Run the scheduler: `python -m scheduler --mesh HEX`.

SEALBUS_NATS_URL names the broker and SEALBUS_NKEY_SEED the account. Exit codes: 0 stopped, 2 usage,
3 the broker could not be reached or refused. SIGTERM and SIGINT stop it.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

import anyio
from anyio.abc import TaskStatus

from scheduler.core import Core
from scheduler.logs import log_to_stderr
from scheduler.service import Service, host_clock
from schemas.errors import UsageError
from transport import Credentials, TransportError, connect

log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds for the broker to come up beside us
DONE, USAGE, UNREACHABLE = 0, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal, and return the exit code."""
    options = _options(arguments)
    log_to_stderr()
    code = DONE
    try:
        anyio.run(_run, options.mesh, options.status_file)
    except* UsageError as errors:
        code = _fail(errors, USAGE)
    except* TransportError as errors:
        code = _fail(errors, UNREACHABLE)
    return code


async def _run(mesh: bytes, status_file: Path | None) -> None:
    url = os.environ.get("SEALBUS_NATS_URL")
    if not url:
        raise UsageError("set SEALBUS_NATS_URL to the broker, for example nats://127.0.0.1:4222")
    seed = os.environ.get("SEALBUS_NKEY_SEED")
    credentials = Credentials(seed=seed) if seed else None
    stop, ready = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as group:
        await group.start(_stop_on_signal, ready, stop, group.cancel_scope)
        log.info("connecting")
        async with connect(url, name="scheduler", credentials=credentials, patience=PATIENCE) as transport:
            core = Core(SystemRandom(), max_payload=transport.max_payload)
            service = Service(transport, mesh, core, clock=host_clock(), status_file=status_file)
            await service.run(stop, ready=ready)
        group.cancel_scope.cancel()


async def _stop_on_signal(
    ready: anyio.Event, stop: anyio.Event, everything: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    """Stop in order at the first signal; at once at the second, or while there is nothing in hand."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if stop.is_set() or not ready.is_set():
                everything.cancel()
            stop.set()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scheduler", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mesh", type=_mesh_id, required=True, metavar="HEX", help="the mesh id, 64 digits")
    parser.add_argument("--status-file", type=Path, metavar="PATH", help="write the totals here every second")
    return parser.parse_args(arguments)


def _mesh_id(text: str) -> bytes:
    try:
        mesh = bytes.fromhex(text)
    except ValueError:
        mesh = b""
    if len(mesh) != 32:
        raise argparse.ArgumentTypeError("a mesh id is 64 hexadecimal digits")
    return mesh


def _fail(errors: BaseExceptionGroup[UsageError] | BaseExceptionGroup[TransportError], code: int) -> int:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    log.error("failed", extra={"error": str(error)})
    return code


if __name__ == "__main__":
    sys.exit(main())
