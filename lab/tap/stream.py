"""The NATS client protocol as frames, in both directions (docs.nats.io, client protocol).

Pure and incremental: bytes in, frames out, whatever the pieces they come in. Bounded: a line or a payload
that is longer than any broker's is refused before it is held.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from schemas.errors import PeerError, Reason

MAX_LINE = 64 * 1024  # an INFO of a large cluster has some KiB; nats-server itself stops at 4 KiB
MAX_PAYLOAD = 64 * 1024 * 1024  # nats-server's own ceiling for max_payload, headers included
_END = b"\r\n"


class Towards(StrEnum):
    """Which way a frame travels."""

    BROKER = "broker"
    PARTY = "party"


class FrameError(PeerError):
    """The bytes are not NATS."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.MALFORMED, detail)


@dataclass(frozen=True, slots=True)
class Frame:
    """One command. `sid` is a subscription's id; `headers` and `body` are those of a message."""

    verb: str
    line: bytes = b""  # what follows the verb, where the frame is no message
    subject: str = ""
    sid: str = ""
    reply: str = ""
    headers: bytes = b""
    body: bytes = b""

    @property
    def is_message(self) -> bool:
        """Tell whether it carries a message."""
        return self.verb in _MESSAGES

    def with_body(self, body: bytes) -> "Frame":
        """Return the same message with another body."""
        return replace(self, body=body)

    def encode(self) -> bytes:
        """Return the frame as it travels."""
        if not self.is_message:
            return b"".join((self.verb.encode(), b" " if self.line else b"", self.line, _END))
        words = [self.verb, self.subject, self.sid, self.reply]
        if self.verb in _WITH_HEADERS:
            words.append(str(len(self.headers)))
        words.append(str(len(self.headers) + len(self.body)))
        line = " ".join(word for word in words if word)
        return b"".join((line.encode(), _END, self.headers, self.body, _END))


_FROM = {
    Towards.BROKER: frozenset({"CONNECT", "PUB", "HPUB", "SUB", "UNSUB", "PING", "PONG"}),
    Towards.PARTY: frozenset({"INFO", "MSG", "HMSG", "PING", "PONG", "+OK", "-ERR"}),
}
_MESSAGES = frozenset({"PUB", "HPUB", "MSG", "HMSG"})
_WITH_HEADERS = frozenset({"HPUB", "HMSG"})
_WITH_SID = frozenset({"MSG", "HMSG"})


class Splitter:
    """Splits one direction of one connection."""

    def __init__(self, towards: Towards) -> None:
        self._verbs = _FROM[towards]
        self._held = bytearray()
        self._waiting: tuple[Frame, int, int] | None = None  # message, size of headers, size of all

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are complete with `data`, or raise `FrameError`."""
        self._held += data
        frames = []
        start = 0
        while True:
            if self._waiting is None:
                end = self._held.find(_END, start, start + MAX_LINE)
                if end < 0:
                    if len(self._held) - start >= MAX_LINE:
                        raise FrameError("a line without end")
                    break
                frame = self._read(bytes(self._held[start:end]))
                start = end + len(_END)
                if frame is not None:
                    frames.append(frame)
                continue
            message, size_of_headers, size = self._waiting
            if len(self._held) - start < size + len(_END):
                break
            whole = bytes(self._held[start : start + size])
            if self._held[start + size : start + size + len(_END)] != _END:
                raise FrameError("a message longer than it says")
            start += size + len(_END)
            self._waiting = None
            frames.append(replace(message, headers=whole[:size_of_headers], body=whole[size_of_headers:]))
        del self._held[:start]
        return frames

    def _read(self, line: bytes) -> Frame | None:
        word, _, rest = line.partition(b" ")
        try:
            verb = word.decode("ascii").upper()
        except UnicodeDecodeError as error:
            raise FrameError("no command of NATS") from error
        if verb not in self._verbs:
            raise FrameError("no command of this direction")
        if verb not in _MESSAGES:
            return Frame(verb, rest)
        self._waiting = _message(verb, rest)
        return None


def _message(verb: str, rest: bytes) -> tuple[Frame, int, int]:
    try:
        words = rest.decode("utf-8").split()
    except UnicodeDecodeError as error:
        raise FrameError("a message's line that is no text") from error
    counts = 2 if verb in _WITH_HEADERS else 1
    least = 1 + (verb in _WITH_SID) + counts
    if not least <= len(words) <= least + 1:
        raise FrameError("a message's line with another number of words")
    sizes = [_size(word) for word in words[-counts:]]
    size, size_of_headers = sizes[-1], sizes[0] if counts == 2 else 0
    if size > MAX_PAYLOAD or size_of_headers > size:
        raise FrameError("a message of impossible size")
    sid = words[1] if verb in _WITH_SID else ""
    reply = words[-counts - 1] if len(words) > least else ""
    return Frame(verb, subject=words[0], sid=sid, reply=reply), size_of_headers, size


def _size(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 12):
        raise FrameError("a size that is no number")
    return int(word)
