"""What a NATS broker says, taken apart: bytes in, one call for each command. No I/O; any input ends soon.

docs.nats.io, client protocol. nats-py's own parser is a coroutine that matches seven expressions in turn;
of what a connection costs, that was the largest part.
"""

import re
from collections.abc import Callable
from typing import Never, Protocol

# nats-server's default for the longest control line that it takes, and more than it ever sends.
MAX_LINE = 4096
MAX_INFO = 64 * 1024  # names of a large cluster's brokers

_MESSAGE = re.compile(rb"MSG[ \t]+([^ \t]+)[ \t]+([0-9]{1,40})[ \t]+(?:([^ \t]+)[ \t]+)?([0-9]{1,10})")
_WITH_HEADERS = re.compile(
    rb"HMSG[ \t]+([^ \t]+)[ \t]+([0-9]{1,40})[ \t]+(?:([^ \t]+)[ \t]+)?([0-9]{1,10})[ \t]+([0-9]{1,10})"
)


class BrokenError(Exception):
    """The bytes are not NATS, or more than was agreed: the connection is of no more use."""


class Listener(Protocol):
    """Who is told."""

    def on_message(self, sid: int, subject: bytes, reply: bytes, payload: bytes, headers: bytes) -> None: ...
    def on_ping(self) -> None: ...
    def on_pong(self) -> None: ...
    def on_error(self, text: str) -> None: ...


class NatsParser:
    """Cuts a stream of bytes into commands, wherever it was cut before."""

    def __init__(self, listener: Listener, max_payload: int) -> None:
        self._listener = listener
        self._limit = max_payload
        self._rest = b""
        self._others: dict[bytes, Callable[[], None]] = {
            b"PING": listener.on_ping,
            b"PONG": listener.on_pong,
            b"+OK": _nothing,
        }

    def feed(self, data: bytes) -> None:
        """Tell of every command that is whole now, or raise `BrokenError`."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        while at < end:
            line_end = data.find(b"\r\n", at, at + MAX_INFO)
            if line_end < 0:
                self._check_partial(data, at, end)
                break
            first = data[at]
            if first == 77:  # M
                after = self._message(data, at, line_end, end)
            elif first == 72:  # H
                after = self._with_headers(data, at, line_end, end)
            else:
                self._line(data[at:line_end])
                after = line_end + 2
            if after < 0:
                break
            at = after
        if at < end:
            self._rest = data[at:] if at else data

    def _message(self, data: bytes, at: int, line_end: int, end: int) -> int:
        found = _MESSAGE.fullmatch(data, at, line_end)
        if found is None:
            _break("a message whose line is none")
        size = int(found[4])
        start = line_end + 2
        after = self._payload_end(data, start, size, end)
        if after >= 0:
            payload = data[start : start + size]
            self._listener.on_message(int(found[2]), found[1], found[3] or b"", payload, b"")
        return after

    def _with_headers(self, data: bytes, at: int, line_end: int, end: int) -> int:
        found = _WITH_HEADERS.fullmatch(data, at, line_end)
        if found is None:
            _break("a message whose line is none")
        head, size = int(found[4]), int(found[5])
        if head > size:
            _break("headers larger than their message")
        start = line_end + 2
        after = self._payload_end(data, start, size, end)
        if after >= 0:
            headers, payload = data[start : start + head], data[start + head : start + size]
            self._listener.on_message(int(found[2]), found[1], found[3] or b"", payload, headers)
        return after

    def _payload_end(self, data: bytes, start: int, size: int, end: int) -> int:
        """Return where a message ends, -1 if it is not all here."""
        if size > self._limit:
            _break("a message larger than was agreed")
        after = start + size + 2
        if after > end:
            return -1
        if data[after - 2 : after] != b"\r\n":
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

    def _check_partial(self, data: bytes, at: int, end: int) -> None:
        limit = MAX_INFO if data.startswith(b"INFO", at) else MAX_LINE
        if end - at > limit:
            _break("a line without an end")


def _nothing() -> None:
    """An acknowledgement that nobody asked for."""


def _break(detail: str) -> Never:
    raise BrokenError(detail)
