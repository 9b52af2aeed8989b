"""One connection to a NATS broker: the only module that imports nats.

nats-py gives the handshake, NKey authentication and TLS. The rest is replaced, because
version 2.16 (pinned; these are its private methods, and tests/transport holds us to them)
- sends PING ahead of commands that it still buffers, so a flush proves nothing about a subscription;
- ends its read loop without telling anyone when bytes do not parse, or when the waiter of a PONG was
  cancelled, and closes for good on most errors of the broker;
- swallows cancellation in publish, and passes each message through two queues and three tasks.
So it never reconnects here: a wire lives once, `lost` says that it ended, and its owner opens another.
"""

import array
import asyncio
import contextlib
import fcntl
import termios
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import nats.errors
import nkeys
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from schemas.errors import UsageError
from transport.errors import NotPermittedError, UnavailableError
from transport.interface import Pace, Taker
from transport.nats_parser import BrokenError, NatsParser
from transport.nats_protocol import MAX_BROKER_PAYLOAD

# Write and yield after this much, so that one busy publisher neither starves the loop nor grows the buffer.
WRITE_CHUNK = 256 * 1024
# What a small message costs besides its bytes, in the same coin.
PER_MESSAGE = 1024
# From so many bytes on, joining what is written costs more than writing it piece by piece.
WRITE_IN_PARTS = 32 * 1024
# What may wait for a broker that does not read: as much as nats-server itself holds for a slow consumer.
# Publishers wait long before; acknowledgements, subscriptions and answers do not, and end the connection.
UNREAD_MOST = 64 * 1024 * 1024
# A broker may announce more than it may make us buffer: payload, headers and one control line.
BUFFER_ROOM = 128 * 1024

# Seconds between looks at what a slow broker has taken: the kernel tells nobody.
LOOK = 0.1

# Of a loop's timers, whose grain is a millisecond, the least that lets others have their turn.
_PAUSE_LEAST = 0.0005
_PONG = b"PONG\r\n"

Route = Callable[[str, str, bytes, bytes], None]
OnRefused = Callable[[str], None]

# What nats-py's handshake and parser can raise on bytes of a broker's choice.
_FOREIGN = (
    nats.errors.Error,
    OSError,
    TimeoutError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
)


def check_seed(seed: str) -> None:
    """Refuse what is not an NKey seed, before anything is tried with it."""
    try:
        _ = nkeys.from_seed(bytearray(seed.encode())).public_key
    except (nkeys.NkeysError, ValueError, TypeError) as error:
        raise UsageError("not an NKey seed: it is one line of base32 that begins with SU") from error


def check_url(url: str) -> None:
    """Refuse what is not a broker's URL, before anybody waits for it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("nats", "tls") and parts.hostname and (parts.port or 4222)
    except ValueError:
        usable = None
    if not usable:
        raise UsageError("a broker's URL is nats://HOST:PORT or tls://HOST:PORT")


class _Reading(asyncio.BufferedProtocol):
    """What stands between socket and wire once the handshake is done."""

    def __init__(self, wire: "Wire", max_payload: int) -> None:
        self.bug: Exception | None = None
        self._handing_on = False  # a read; what comes out of that is not the socket's
        self._wire = wire
        self._parser = NatsParser(wire, max_payload, wire.takers)
        self.closed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def get_buffer(self, _hint: int) -> memoryview:
        return self._parser.room

    def buffer_updated(self, count: int) -> None:
        wire = self._wire
        if wire.is_lost:
            return
        self._handing_on = True
        try:
            self._parser.took(count)
        except (BrokenError, UnicodeDecodeError) as error:
            wire.broken(error)
        for reader in wire.readers:
            reader()
        self._handing_on = False

    def early(self, data: bytes) -> None:
        """Take what was read before this stood here."""
        rest = memoryview(data)
        while rest:
            room = self.get_buffer(-1)
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            self.buffer_updated(count)

    def eof_received(self) -> None:
        self._wire.end()

    def connection_lost(self, exc: Exception | None) -> None:
        # asyncio closes a connection whose protocol raised: an error of a route is ours, not the broker's.
        if exc is not None and (self._handing_on or not isinstance(exc, OSError)):
            self.bug = exc
        self._room.set()
        self.closed.set()
        self._wire.end()

    def pause_writing(self) -> None:
        self._wire.stuck = True
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()
        self._wire.drained()

    async def writable(self) -> None:
        """Wait while the socket takes no more."""
        await self._room.wait()


class _PacedReading(_Reading):
    """Reads no faster than its pace, so that the time that is left is somebody else's."""

    def __init__(self, wire: "Wire", max_payload: int, pace: Pace, transport: asyncio.Transport) -> None:
        super().__init__(wire, max_payload)
        self._pace = pace
        self._transport = transport
        self._behind_since: float | None = None

    def get_buffer(self, hint: int) -> memoryview:
        return super().get_buffer(hint)[: self._pace.most]

    def buffer_updated(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        super().buffer_updated(count)
        now = loop.time()
        if count < self._pace.most:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since > self._pace.behind:
            self._wire.broken(BrokenError("more than is read here"))
        self._transport.pause_reading()
        loop.call_later(max(self._pace.rest * (now - begun), _PAUSE_LEAST), self._go_on)

    def _go_on(self) -> None:
        if not self._wire.is_lost:
            self._transport.resume_reading()


class Wire(Client):
    """A connection that ends once. `routes` and `takers` map subscription ids to who gets their messages."""

    def __init__(
        self,
        routes: dict[int, Route],
        takers: dict[int, Taker],
        on_refused: OnRefused,
        readers: Sequence[Callable[[], None]],
        pace: Pace | None = None,
    ) -> None:
        super().__init__()
        self._pace = pace
        self.readers = readers  # told after each read, when all that it brought has been handed on
        self.lost = asyncio.Event()
        self.is_lost = False  # the same, for who asks with every message
        self.stuck = False  # the socket takes no more
        self._routes = routes
        self.takers = takers
        self._on_refused = on_refused
        self._reading: _Reading | None = None
        self._socket: asyncio.WriteTransport | None = None
        self._out: list[bytes] = []
        self._unsent = 0  # bytes of payload in it
        self.left = 0  # bytes that the broker had not taken when a `ping` with `most` last looked
        self._since_yield = 0
        self._scheduled = False
        self._owes_pong = False
        self._last_error: Exception | None = None

    async def open(self, url: str, *, name: str, seed: str | None, patience: float) -> None:
        """Connect once, or raise `UnavailableError` or `NotPermittedError`."""
        try:
            async with asyncio.timeout(patience):
                await self.connect(
                    url,
                    name=name,
                    nkeys_seed_str=seed,
                    error_cb=self._note_error,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=max(1, round(patience)),
                )
        except _FOREIGN as error:
            await self.abandon()
            if "authorization violation" in str(error).lower():
                raise NotPermittedError("the broker refused these credentials") from error
            raise UnavailableError("the broker cannot be reached") from (self._last_error or error)
        except asyncio.CancelledError:
            await self.abandon()
            raise
        limit = self.max_payload
        if not self.is_connected or type(limit) is not int or not 1024 <= limit <= MAX_BROKER_PAYLOAD:
            await self.abandon()
            raise UnavailableError("the broker's greeting is not usable")

    def send(self, frame: bytes) -> bool:
        """Buffer a command; True asks the caller to `await breathe()` before it sends more."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write)
        return self.put(len(frame), (frame,))

    def put(self, size: int, parts: Sequence[bytes]) -> bool:
        """Do as `send` with a command in parts; it leaves at the next `push`, or with what is sent.

        `size` is that of its payload: what can be large.
        """
        self._out += parts
        self._unsent += size
        self._since_yield += PER_MESSAGE + size
        return self._since_yield >= WRITE_CHUNK

    def push(self) -> None:
        """Write what is buffered now, and not at the end of the turn."""
        out = self._out
        if not out:
            return
        unsent, self._out, self._unsent = self._unsent, [], 0
        if not self.is_lost:
            transport = self._socket or self._streams()[1].transport
            if unsent < WRITE_IN_PARTS:
                transport.write(b"".join(out))
            else:
                transport.writelines(out)
            if self.stuck and transport.get_write_buffer_size() > UNREAD_MOST:
                self.broken(BrokenError("a broker that does not read"))

    async def breathe(self) -> None:
        """Write, wait while the broker does not read, and let others run."""
        self._since_yield = 0
        self._write()
        if self._reading is not None:
            await self._reading.writable()
        await asyncio.sleep(0)

    async def ping(self, patience: float, most: float | None = None) -> None:
        """Wait until the broker has read all that was sent before, or raise `UnavailableError`.

        With `most`, so long in all, and `patience` is for a broker that takes nothing at all meanwhile.
        """
        loop = asyncio.get_running_loop()
        pong: asyncio.Future[bool] = loop.create_future()
        now = loop.time()
        until = last = now + patience
        left = 0
        if most is not None:
            left, last = self._untaken(), now + most
        self._pongs.append(pong)
        self.send(b"PING\r\n")
        ended = asyncio.ensure_future(self.lost.wait())
        try:
            while not (pong.done() or self.is_lost) and now < min(until, last):
                pause = min(until, last) - now if most is None else LOOK
                await asyncio.wait((pong, ended), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                now = loop.time()
                if most is not None and not self.is_lost:
                    former, left = left, self._untaken()
                    until = now + patience if left < former else until
        finally:
            self.left = left
            ended.cancel()
            answered = pong.done()
            pong.cancel()
        if not answered:
            # A broker that does not answer a PING holds a connection that is of no use.
            self.end()
            raise UnavailableError("the broker does not answer")

    def _untaken(self) -> int:
        """Count the bytes that wait here, or in the kernel, until the other side's kernel has them."""
        transport = self._streams()[1].transport
        waiting = sum(map(len, self._out)) + transport.get_write_buffer_size()
        if transport.is_closing():
            return waiting
        queued = array.array("i", [0])
        with contextlib.suppress(OSError):  # a kernel that does not tell
            fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return waiting + queued[0]

    def end(self) -> None:
        """Say that the connection is of no more use."""
        self.is_lost = True
        self.lost.set()

    async def abandon(self) -> None:
        """Drop the socket with whatever is unsent, and raise what a route raised."""
        self.end()
        self._status = Client.CLOSED
        if self._reading_task is not None:
            self._reading_task.cancel()
        if isinstance(self._transport, TcpTransport) and self._transport._io_writer is not None:  # noqa: SLF001
            # Closing would first wait for a broker that may never read again; nats-py offers no abort.
            _, writer = self._streams()
            writer.transport.abort()
            if self._reading is not None:
                await self._reading.closed.wait()
            else:
                await self._closed_early(writer)
        if self._reading_task is not None:
            await asyncio.wait((self._reading_task,))
            if not self._reading_task.cancelled():
                self._reading_task.result()

    async def _closed_early(self, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.wait_closed()
        except OSError as error:
            self._last_error = error

    def _streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tcp = cast("TcpTransport", self._transport)
        return cast("asyncio.StreamReader", tcp._io_reader), cast("asyncio.StreamWriter", tcp._io_writer)  # noqa: SLF001

    def _write(self) -> None:
        self._scheduled = False
        self.push()

    def broken(self, error: Exception) -> None:
        """End the connection, because what came on it is not NATS."""
        self._last_error = error
        self.end()

    async def _note_error(self, error: Exception) -> None:
        self._last_error = error

    # What follows replaces nats-py's methods of the same names.

    async def _read_loop(self) -> None:
        # From here on bytes go straight from the socket to the parser: no stream, no task between.
        reader, writer = self._streams()
        most, socket = self.max_payload + BUFFER_ROOM, cast("asyncio.Transport", writer.transport)
        reading = (
            _Reading(self, most) if self._pace is None else _PacedReading(self, most, self._pace, socket)
        )
        self._reading = reading
        early = bytes(reader._buffer)  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio gives no other way
        writer.transport.set_protocol(reading)
        self._socket = writer.transport
        if early:
            reading.early(early)
        if reader.at_eof():
            self.end()
        socket.resume_reading()
        await self.lost.wait()
        if reading.bug is not None:
            raise reading.bug

    async def _flusher(self) -> None:
        """Do nothing: `send` schedules its own write."""

    async def _ping_interval(self) -> None:
        """Do nothing: the owner pings."""

    async def _flush_pending(self, force_flush: bool = False) -> None:
        """Do nothing: as `_flusher`."""

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        self.send(cmd)

    def on_message(self, sid: int, subject: bytes, reply: bytes, payload: memoryview, headers: bytes) -> None:
        """Hand a message to who subscribed."""
        route = self._routes.get(sid)
        if route is not None:
            route(subject.decode(), reply.decode(), bytes(payload), headers)

    def on_ping(self) -> None:
        """Answer, once for all that were asked while the answer could not leave."""
        if self.stuck:
            self._owes_pong = True
        elif not (self._out and self._out[-1] is _PONG):
            self.send(_PONG)

    def drained(self) -> None:
        """Go on when the socket takes more, with what was asked meanwhile."""
        self.stuck = False
        if self._owes_pong:
            self._owes_pong = False
            self.send(_PONG)

    def on_pong(self) -> None:
        """Tell who waits; who answers what nobody asked may read nothing and only seem to be there."""
        if not self._pongs:
            raise BrokenError("an answer to no PING")
        waiter = self._pongs.pop(0)
        if not waiter.done():
            waiter.set_result(True)

    def on_error(self, text: str) -> None:
        """Take a refusal of one subject as such; any other error ends the connection."""
        if "permissions violation" in text:
            self._on_refused(text)
            return
        self._last_error = nats.errors.Error("the broker ended the connection")
        self.end()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # The brokers that it names are ignored: where to connect is the caller's word.
        server = self._current_server
        if initial_connection and server and server.uri.scheme == "tls" and not info.get("tls_required"):
            # Before credentials are sent: nats-py would go on in the clear, as a man in the middle likes.
            raise nats.errors.SecureConnWantedError
