"""What a NATS broker says, taken apart: bytes in, one call for each command. No I/O; any input ends soon.

docs.nats.io, client protocol. nats-py's own parser is a coroutine that matches seven expressions in turn;
of what a connection costs, that was the largest part.
"""

from collections.abc import Callable
from typing import Never, Protocol

# nats-server's default for the longest control line that it takes, and more than it ever sends.
MAX_LINE = 4096
MAX_INFO = 64 * 1024  # names of a large cluster's brokers

# As much is read at once as the socket has, within a buffer that stays: a new one for each read costs the
# kernel's pages anew, which is dearer than all that is done with a small message.
READ_SIZE = 256 * 1024
_KEEP_MOST = 8 * READ_SIZE  # a buffer that one message made larger goes with it


class BrokenError(Exception):
    """The bytes are not NATS, or more than was agreed: the connection is of no more use."""


class Listener(Protocol):
    """Who is told."""

    def on_message(self, sid: int, subject: bytes, reply: bytes, payload: memoryview, headers: bytes) -> None:
        """`payload` is there until this returns."""

    def on_ping(self) -> None: ...
    def on_pong(self) -> None: ...
    def on_error(self, text: str) -> None: ...


class NatsParser:
    """Cuts a stream of bytes into commands, wherever it was cut before; bytes come by `room` and `took`."""

    def __init__(self, listener: Listener, max_payload: int) -> None:
        self._listener = listener
        self._limit = max_payload
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._wanted = 0  # bytes from the buffer's beginning that the message under way takes
        self._looked = 0  # bytes from there in which the line under way does not end
        self._others: dict[bytes, Callable[[], None]] = {
            b"PING": listener.on_ping,
            b"PONG": listener.on_pong,
            b"+OK": _nothing,
        }

    @property
    def held(self) -> int:
        """How many bytes wait for the rest of their command."""
        return self._filled

    def room(self) -> memoryview:
        """Return where the next bytes belong; never empty."""
        return self._view[self._filled :]

    def feed(self, data: bytes) -> None:
        """Take bytes that were read elsewhere; else as `took`."""
        rest = memoryview(data)
        while rest:
            room = self.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            self.took(count)

    def took(self, count: int) -> None:
        """Tell of every command that is whole now that `room` has so many more, or raise `BrokenError`.

        What is raised, by a listener too, leaves nothing of the bytes: there is room again.
        """
        buffer, end, look = self._buffer, self._filled + count, self._looked
        if end < self._wanted:
            self._filled = end
            return
        at = self._filled = self._wanted = self._looked = 0
        while at < end:
            line_end = buffer.find(b"\r\n", look, min(at + MAX_INFO, end))
            if line_end < 0:
                self._check_partial(at, end)
                # Each byte is searched once, or a line in tiny pieces costs its length's square.
                self._looked = end - at - 1
                break
            first = buffer[at]
            if first == 77:  # M
                after = self._message(at, line_end, end)
            elif first == 72:  # H
                after = self._with_headers(at, line_end, end)
            else:
                self._line(bytes(self._view[at:line_end]))
                after = line_end + 2
            if after < 0:
                break
            at = look = after
        self._move(at, end)

    def _move(self, at: int, end: int) -> None:
        """Bring what is left to the beginning of a buffer that has room for the rest of it."""
        left = end - at
        self._wanted = max(self._wanted - at, 0)
        if self._wanted >= len(self._buffer) or len(self._buffer) > max(_KEEP_MOST, self._wanted + 1):
            grown = bytearray(max(READ_SIZE, self._wanted + 1))
            grown[:left] = self._view[at:end]
            self._buffer, self._view = grown, memoryview(grown)
        elif left and at:
            self._view[:left] = bytes(self._view[at:end])
        self._filled = left

    def _message(self, at: int, line_end: int, end: int) -> int:
        words = bytes(self._view[at:line_end]).split()
        count = len(words)
        if not 4 <= count <= 5 or words[0] != b"MSG":
            _break("a message whose line is none")
        size, start = _number(words[-1], 10), line_end + 2
        after = self._payload_end(start, size, end)
        if after >= 0:
            payload = self._view[start : after - 2]
            reply = words[3] if count == 5 else b""
            self._listener.on_message(_number(words[2], 40), words[1], reply, payload, b"")
        return after

    def _with_headers(self, at: int, line_end: int, end: int) -> int:
        words = bytes(self._view[at:line_end]).split()
        count = len(words)
        if not 5 <= count <= 6 or words[0] != b"HMSG":
            _break("a message whose line is none")
        head, size, start = _number(words[-2], 10), _number(words[-1], 10), line_end + 2
        if head > size:
            _break("headers larger than their message")
        after = self._payload_end(start, size, end)
        if after >= 0:
            headers, payload = bytes(self._view[start : start + head]), self._view[start + head : after - 2]
            reply = words[3] if count == 6 else b""
            self._listener.on_message(_number(words[2], 40), words[1], reply, payload, headers)
        return after

    def _payload_end(self, start: int, size: int, end: int) -> int:
        """Return where a message ends, -1 if it is not all here."""
        if size > self._limit:
            _break("a message larger than was agreed")
        after = start + size + 2
        if after > end:
            self._wanted = after
            return -1
        if self._buffer[after - 2] != 13 or self._buffer[after - 1] != 10:
            _break("a message of another size than its line says")
        return after

    def _line(self, line: bytes) -> None:
        word = line.rstrip()
        tell = self._others.get(word)
        if tell is not None:
            tell()
        elif line.startswith(b"-ERR"):
            self._listener.on_error(line[4:].strip().decode("utf-8", "replace").lower())
        elif not (word.startswith(b"INFO ") and word.endswith(b"}")):
            _break("a command of no NATS")
        # What a broker says of itself later is ignored: where to connect is the caller's word.

    def _check_partial(self, at: int, end: int) -> None:
        limit = MAX_INFO if self._buffer.startswith(b"INFO", at) else MAX_LINE
        if end - at > limit:
            _break("a line without an end")


def _number(word: bytes, most: int) -> int:
    if not word.isdigit() or len(word) > most:
        _break("a message whose line is none")
    return int(word)


def _nothing() -> None:
    """An acknowledgement that nobody asked for."""


def _break(detail: str) -> Never:
    raise BrokenError(detail)
