"""A simulated machine: measures an image, launches exactly that, and mints Evidence for its child alone.

The child has nothing of its host: no inherited descriptor but one end of a socket pair, no environment
but the measured one, no standard input. Whoever holds the other end of the pair gets Evidence, so it
never leaves the machine. What the child says on it is a stranger's: junk gets an error, nothing more.
"""

import asyncio
import contextlib
import io
import logging
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

import anyio
from anyio import to_thread
from anyio.abc import Process, TaskStatus

from lab.descriptor import (
    LENGTH,
    MAX_REQUEST,
    EvidenceRequest,
    read_request,
    write_error,
    write_evidence,
    write_host,
)
from lab.evidence import Minted, keep
from lab.image import Builder, Image, Spec, Staged
from schemas.errors import MalformedError, Reason, UsageError
from schemas.evidence import Endorsements, Evidence

log = logging.getLogger(__name__)


class Simulator(Protocol):
    """A simulated chip, of any platform."""

    def evidence(
        self,
        measurements: dict[str, bytes],
        key_binding: bytes,
        challenge: bytes,
        *,
        now: datetime,
        debug: bool = False,
    ) -> tuple[Evidence, Endorsements]:
        """Mint Evidence, and the Endorsements that a host would have at hand."""
        ...


class Machine:
    """One machine of a platform: runs one child at a time, any number of times."""

    def __init__(
        self,
        name: str,
        platform: str,
        simulator: Simulator,
        builder: Builder,
        spec: Spec,
        *,
        output: Path,
        clock: Callable[[], datetime],
        host: Mapping[str, str] | None = None,
        debug: bool = False,
        keep: Path | None = None,
    ) -> None:
        self.name = name
        self.platform = platform
        self.spec = spec
        self._simulator = simulator
        self._builder = builder
        self._output = output
        self._clock = clock
        self._host = dict(host or {})
        self._debug = debug
        self._keep = keep
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """Name the child's process, None while there is none."""
        return self._process.pid if self._process is not None else None

    async def run(self, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED) -> int:
        """Measure, launch and serve one child; report its pid as started, return how it ended.

        The result is its exit status, or the negative number of the signal that ended it. Cancelled, the
        machine kills its child. The child also dies with the thread that called this, and with its process.
        """
        if self._process is not None:
            raise UsageError(f"machine {self.name} is running already; stop it first")
        staged = await to_thread.run_sync(self._measure)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, _append(self._output) as output:
                process = await anyio.open_process(
                    staged.command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=staged.interpreter.directory,
                    env=staged.environment,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl-C reaches the lab alone, which then stops its machines
                )
            self._process = process
            try:
                task_status.started(process.pid)
                return await self._attend(process, ours, staged.image.measurements(self.platform))
            finally:
                self._process = None
                with anyio.CancelScope(shield=True):
                    await _end(process)

    @property
    def simulator(self) -> Simulator:
        """The chip that mints its Evidence."""
        return self._simulator

    def altered(
        self,
        name: str,
        output: Path,
        *,
        nats_url: str,
        spec: Spec | None = None,
        simulator: Simulator | None = None,
        debug: bool = False,
    ) -> "Machine":
        """Return another machine like this one but for what is given: its owner can do that."""
        return Machine(
            name,
            self.platform,
            simulator or self._simulator,
            self._builder,
            spec or self.spec,
            output=output,
            clock=self._clock,
            host={**self._host, "nats_url": nats_url},
            debug=debug,
        )

    def kill(self) -> None:
        """Kill the child at once, as a power cut would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def terminate(self) -> None:
        """Ask the child to end."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def _measure(self) -> Staged:
        return self._builder.stage(self.image())

    def image(self) -> Image:
        """Measure, from their sources, what the next launch would run."""
        return self._builder.build(self.spec)

    async def _attend(self, process: Process, ours: socket.socket, measurements: dict[str, bytes]) -> int:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve, ours, measurements)
            status = await process.wait()
            tasks.cancel_scope.cancel()
        return status

    async def _serve(self, ours: socket.socket, measurements: dict[str, bytes]) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            # A child that hangs up, or dies in the middle of a request, is served no longer.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                    if length > MAX_REQUEST:
                        # Where the next frame would begin is not known any more.
                        writer.write(write_error(Reason.TOO_LARGE))
                        await writer.drain()
                        return
                    writer.write(await self._answer(await reader.readexactly(length), measurements))
                    await writer.drain()
        finally:
            # Not a close, which would wait for a child that does not read.
            writer.transport.abort()

    async def _answer(self, body: bytes, measurements: dict[str, bytes]) -> bytes:
        try:
            request = read_request(body)
        except MalformedError as error:
            log.info("machine %s: refused a request: %s", self.name, error)
            return write_error(error.reason)
        if not isinstance(request, EvidenceRequest):
            return write_host(self._host)
        # One request is answered before the next is read: a chip is serial.
        return await to_thread.run_sync(self._mint, measurements, request)

    def _mint(self, measurements: dict[str, bytes], request: EvidenceRequest) -> bytes:
        now = self._clock()
        evidence, endorsements = self._simulator.evidence(
            dict(measurements),
            request.key_binding,
            request.challenge,
            now=now,
            debug=self._debug,
        )
        if self._keep is not None:
            time = int(now.timestamp() * 1000)
            minted = Minted(time, request.key_binding, request.challenge, evidence, endorsements)
            try:
                keep(self._keep, minted)
            except UsageError as error:
                # The enclave is served all the same: only an export misses it.
                log.warning("machine %s: %s", self.name, error)
        return write_evidence(evidence, endorsements)


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.aclose()


def _append(path: Path) -> io.FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)
    except OSError as error:
        raise UsageError(f"cannot write a machine's output to {path}: {error.strerror}") from error
