"""The proxy: one loopback port for each party, so that it knows who is who without believing names.

A shell around splitter, recorder and script. What does not parse ends its connection, no more; a rule that
fails, or a recording that cannot be written, ends the tap: a demo must not go on without either.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup

from lab.tap.recording import Recorder
from lab.tap.script import Passing, Script
from lab.tap.stream import Frame, FrameError, Splitter, Towards
from schemas.errors import UsageError

HOST = "127.0.0.1"
READ = 256 * 1024
LINGER = 1.0  # seconds for the last words to a side that reads slowly


class _Line:
    """One direction of one connection."""

    def __init__(self, writer: asyncio.StreamWriter, towards: Towards) -> None:
        self.writer = writer
        self.towards = towards
        self.splitter = Splitter(towards)

    def send(self, frames: tuple[Frame, ...]) -> None:
        """Write frames, unless the other side is gone."""
        if not self.writer.is_closing():
            self.writer.write(b"".join(frame.encode() for frame in frames))


class Tap:
    """Made by `open_tap`."""

    def __init__(
        self, host: str, port: int, recorder: Recorder, path: Path, script: Script, tasks: TaskGroup
    ) -> None:
        self._host, self._port = host, port
        self._tasks = tasks
        self.recorder = recorder
        self.path = path
        self.script = script
        self.refused = 0  # connections that spoke no NATS
        self._servers: list[asyncio.Server] = []
        self._urls: dict[str, str] = {}
        self._closed = False
        self._connections = 0
        self._lines: dict[tuple[str, Towards], tuple[int, _Line]] = {}  # the latest of each party

    async def listen(self, party: str, *, host: str = HOST, port: int = 0) -> str:
        """Return where a party connects; each has a port of its own."""
        if party in self._urls:
            return self._urls[party]

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._closed:  # it was accepted before, and comes now
                writer.transport.abort()
                return
            self._tasks.start_soon(self._serve, party, reader, writer)

        server = await asyncio.start_server(accept, host, port)
        self._servers.append(server)
        self._urls[party] = f"nats://{host}:{server.sockets[0].getsockname()[1]}"
        return self._urls[party]

    def inject(self, party: str, towards: Towards, frame: Frame) -> None:
        """Say something of one's own on a party's connection, to it or to the broker in its name."""
        connection, line = self._lines.get((party, towards), (0, None))
        if line is None or line.writer.is_closing():
            raise UsageError(f"{party} has no connection to say something on")
        self.recorder.write(connection, party, towards, b"", (frame,))
        self.recorder.count(towards, 1)
        self.recorder.flush()
        line.send((frame,))

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        for server in self._servers:
            server.close()

    async def _serve(self, party: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        async with _ending(writer):
            try:
                theirs, broker = await asyncio.open_connection(self._host, self._port)
            except OSError:
                return  # the broker is away: the party finds its connection closed and tries again
            async with _ending(broker):
                up, down = _Line(broker, Towards.BROKER), _Line(writer, Towards.PARTY)
                self._lines[party, Towards.BROKER] = connection, up
                self._lines[party, Towards.PARTY] = connection, down
                async with anyio.create_task_group() as pumps:
                    for source, line in ((reader, up), (theirs, down)):
                        pumps.start_soon(self._pump, connection, party, source, line, pumps)

    async def _pump(
        self, connection: int, party: str, reader: asyncio.StreamReader, line: _Line, both: TaskGroup
    ) -> None:
        while data := await _read(reader):
            try:
                frames = line.splitter.feed(data)
            except FrameError:
                self.refused += 1
                break
            out: list[bytes] = []
            for frame in frames:
                self._pass(connection, party, line, frame, out)
            self.recorder.flush()
            if out and not await _write(line.writer, b"".join(out)):
                break
        both.cancel_scope.cancel()  # one side has ended, so the other does

    def _pass(self, connection: int, party: str, line: _Line, frame: Frame, out: list[bytes]) -> None:
        towards = line.towards
        arrived = frame.encode()
        if not frame.is_message:
            sent = _own(frame)
            self.recorder.write(connection, party, towards, arrived, None if sent is frame else (sent,))
            out.append(arrived if sent is frame else sent.encode())
            return
        going = self.script.judge(Passing(party, towards, frame)) if self.script.rules else None
        if going is None:
            self.recorder.write(connection, party, towards, arrived, None)
            self.recorder.count(towards, 1)
            out.append(arrived)
            return
        self.recorder.write(connection, party, towards, arrived, going.frames)
        self.recorder.count(towards, len(going.frames))
        if going.after > 0:
            asyncio.get_running_loop().call_later(going.after, line.send, going.frames)
        else:
            out.extend(each.encode() for each in going.frames)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read what there is; nothing from a side that is gone."""
    try:
        return await reader.read(READ)
    except OSError:
        return b""


async def _write(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Write when the other side has room; tell whether it is there."""
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        return False
    return True


@asynccontextmanager
async def _ending(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close a connection at the end, whether or not the other side reads to it."""
    try:
        yield
        writer.close()
        with anyio.move_on_after(LINGER), contextlib.suppress(OSError):
            await writer.wait_closed()
    finally:
        writer.transport.abort()


def _own(frame: Frame) -> Frame:
    """Keep parties from learning of ways around the tap."""
    if frame.verb != "INFO":
        return frame
    try:
        info = json.loads(frame.line)
    except ValueError:
        return frame
    if not isinstance(info, dict) or "connect_urls" not in info:
        return frame
    del info["connect_urls"]
    return replace(frame, line=json.dumps(info).encode())


@asynccontextmanager
async def open_tap(url: str, path: Path, script: Script | None = None) -> AsyncIterator[Tap]:
    """Put a tap before the broker at `url`, recording to `path`, for as long as the block lasts."""
    parts = urlsplit(url)
    if parts.scheme != "nats" or not parts.hostname:
        raise UsageError("a tap reads what passes: name a broker without TLS (nats://HOST:PORT)")
    recorder = Recorder(path)
    try:
        async with anyio.create_task_group() as tasks:
            tap = Tap(parts.hostname, parts.port or 4222, recorder, path, script or Script(), tasks)
            try:
                yield tap
            finally:
                tap.close()
                tasks.cancel_scope.cancel()
    finally:
        recorder.close()
