"""What a NATS broker says, taken apart: bytes in, one call for each command. No I/O; any input ends soon.

docs.nats.io, client protocol. nats-py's own parser is a coroutine that matches seven expressions in turn;
of what a connection costs, that was the largest part.
"""

import re
from collections.abc import Callable, Mapping
from typing import Never, Protocol

from transport.interface import Taker

# nats-server's default for the longest control line that it takes, and more than it ever sends.
MAX_LINE = 4096
MAX_INFO = 64 * 1024  # names of a large cluster's brokers

# As much is read at once as the socket has, within a buffer that stays: a new one for each read costs the
# kernel's pages anew, which is dearer than all that is done with a small message.
READ_SIZE = 256 * 1024
_KEEP_MOST = 8 * READ_SIZE  # a buffer that one message made larger goes with it

# Subject, subscription, reply; then sizes. Each word ends where the next begins, so a match costs its length.
_MESSAGE = re.compile(rb"MSG\s+(\S+)\s+(\d{1,40})\s+(?:(\S+)\s+)?(\d{1,10})\s*")
_WITH_HEADERS = re.compile(rb"HMSG\s+(\S+)\s+(\d{1,40})\s+(?:(\S+)\s+)?(\d{1,10})\s+(\d{1,10})\s*")


class BrokenError(Exception):
    """The bytes are not NATS, or more than was agreed: the connection is of no more use."""


class Listener(Protocol):
    """Who is told of all that no taker gets."""

    def on_message(self, sid: int, subject: bytes, reply: bytes, payload: memoryview, headers: bytes) -> None:
        """`payload` is there until this returns."""

    def on_ping(self) -> None: ...
    def on_pong(self) -> None: ...
    def on_error(self, text: str) -> None: ...


class NatsParser:
    """Cuts a stream of bytes into commands, wherever it was cut before.

    The next bytes belong into `room`, which is never empty; `took` is told how many came. The payload of a
    subscription that is among `takers` goes there, and is there until that returns.
    """

    def __init__(
        self, listener: Listener, max_payload: int, takers: Mapping[int, Taker] | None = None
    ) -> None:
        self._listener = listener
        self._takers = {} if takers is None else takers
        self._limit = max_payload
        self._buffer = bytearray(READ_SIZE)
        self._view = self.room = memoryview(self._buffer)
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

    def feed(self, data: bytes) -> None:
        """Take bytes that were read elsewhere; else as `took`."""
        rest = memoryview(data)
        while rest:
            room = self.room
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            self.took(count)

    def took(self, count: int) -> None:
        """Tell of every command that is whole now that `room` has so many more, or raise `BrokenError`.

        What is raised, by a listener too, leaves nothing of the bytes: there is room again.
        """
        # On the way of every message, so in one piece.
        buffer, end, look = self._buffer, self._filled + count, self._looked
        if end < self._wanted:
            self._keep(end)
            return
        at = self._filled = self._wanted = self._looked = 0
        self.room = self._view
        while at < end:
            line_end = buffer.find(b"\r\n", look, min(at + MAX_INFO, end))
            if line_end < 0:
                self._check_partial(at, end)
                # Each byte is searched once, or a line in tiny pieces costs its length's square.
                self._looked = end - at - 1
                break
            first, start = buffer[at], line_end + 2
            if first == 77:  # M
                found = _MESSAGE.fullmatch(buffer, at, line_end)
                if found is None:
                    _break("a message whose line is none")
                subject, sid, reply, size = found.groups(b"")
                after = start + int(size) + 2
                whole = after <= end and buffer[after - 2] == 13 and buffer[after - 1] == 10
                if not (whole and after - start - 2 <= self._limit) and not self._is_here(start, after, end):
                    break
                taker = self._takers.get(int(sid))
                if taker is not None:
                    taker(self._view[start : after - 2])
                else:
                    self._listener.on_message(int(sid), subject, reply, self._view[start : after - 2], b"")
            elif first == 72:  # H
                after = self._with_headers(at, line_end, end)
                if after < 0:
                    break
            else:
                self._line(bytes(self._view[at:line_end]))
                after = start
            at = look = after
        if at < end or len(buffer) > _KEEP_MOST:
            self._move(at, end)

    def _keep(self, count: int) -> None:
        self._filled = count
        self.room = self._view[count:]

    def _move(self, at: int, end: int) -> None:
        """Bring what is left to the beginning of a buffer that has room for the rest of it."""
        left = end - at
        self._wanted = max(self._wanted - at, 0)
        if self._wanted >= len(self._buffer) or len(self._buffer) > max(_KEEP_MOST, self._wanted + 1):
            grown = bytearray(max(READ_SIZE, self._wanted + 1))
            grown[:left] = self._view[at:end]
            self._buffer, self._view = grown, memoryview(grown)
        elif at:
            self._view[:left] = bytes(self._view[at:end])
        self._keep(left)

    def _with_headers(self, at: int, line_end: int, end: int) -> int:
        found = _WITH_HEADERS.fullmatch(self._buffer, at, line_end)
        if found is None:
            _break("a message whose line is none")
        subject, sid, reply, head, size = found.groups(b"")
        start = line_end + 2
        body, after = start + int(head), start + int(size) + 2
        if body > after - 2:
            _break("headers larger than their message")
        if not self._is_here(start, after, end):
            return -1
        headers, payload = bytes(self._view[start:body]), self._view[body : after - 2]
        taker = self._takers.get(int(sid))
        if taker is not None:
            taker(payload)
        else:
            self._listener.on_message(int(sid), subject, reply, payload, headers)
        return after

    def _is_here(self, start: int, after: int, end: int) -> bool:
        """Tell whether a payload with its end of line is all here, or raise."""
        if after - start - 2 > self._limit:
            _break("a message larger than was agreed")
        if after > end:
            self._wanted = after
            return False
        if self._buffer[after - 2] != 13 or self._buffer[after - 1] != 10:
            _break("a message of another size than its line says")
        return True

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


def _nothing() -> None:
    """An acknowledgement that nobody asked for."""


def _break(detail: str) -> Never:
    raise BrokenError(detail)
