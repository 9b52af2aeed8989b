"""What a client keeps of its submissions in a file, so that a later process of it takes them up.

No payload is kept: of a task its id, class, label and times, and the tokens that it was sealed under; of a
result the sealed frame. The secret that reply keys derive from is in the file too, so it is as confidential
as the client's key. Lines are appended before what they tell of is done; a killed process loses none, and a
machine that loses power may lose the last ones.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.errors import UsageError
from schemas.limits import DAY
from schemas.messages import Bytes16, Bytes32, Millis, Name, Payload

FORMAT = "sealbus journal 1"
KEPT = 7 * DAY  # after a task has expired: whoever comes back later than that asks for nothing any more
SLACK = 4 * 1024 * 1024  # bytes of lines that say nothing any more, above which the file is written anew
LONGEST_LABEL = 256


class Head(msgspec.Struct, frozen=True, tag="journal", forbid_unknown_fields=True):
    """Whose journal this is, and what its reply keys derive from."""

    format: str
    mesh: Bytes32
    client: Bytes32  # its public key
    secret: Bytes32
    reply_to: Bytes16

    def __repr__(self) -> str:
        return f"Head({self.format})"


class Sent(msgspec.Struct, frozen=True, tag="sent", forbid_unknown_fields=True):
    """A task is about to be sent, sealed under the epoch of `token`: for the first time, or again."""

    id: Bytes16
    task_class: Name
    label: Annotated[str, Meta(max_length=LONGEST_LABEL)]
    issued: Millis
    expires: Millis
    token: Bytes16


class Ended(msgspec.Struct, frozen=True, tag="ended", forbid_unknown_fields=True):
    """The result of a task has come: sealed, as it came."""

    id: Bytes16
    frame: Payload

    def __repr__(self) -> str:
        return f"Ended({self.id.hex()}, {len(self.frame)} bytes)"


class Forgotten(msgspec.Struct, frozen=True, tag="forgotten", forbid_unknown_fields=True):
    """Nobody wants to know of a task any more."""

    id: Bytes16


class Entry(msgspec.Struct):
    """A task that was not forgotten: each of its sealings, and its result if that has come."""

    sent: list[Sent]
    ended: Ended | None = None


_Line = Head | Sent | Ended | Forgotten
_decoder = msgspec.json.Decoder(_Line)


class JournalError(UsageError):
    """A journal that cannot be used: another's, in use, or damaged."""


class Journal:
    """An open journal; `open_journal` makes it, and no other process has it open."""

    def __init__(self, path: Path, descriptor: int, head: Head, entries: dict[bytes, Entry]) -> None:
        self.head = head
        self._path = path
        self._descriptor = descriptor
        self._entries = entries
        self._size = os.fstat(descriptor).st_size

    def entries(self) -> dict[bytes, Entry]:
        """Return what was not forgotten, by task id, in the order of submission."""
        return dict(self._entries)

    def entry(self, task_id: bytes) -> Entry | None:
        """Return what is known of a task that was not forgotten."""
        return self._entries.get(task_id)

    def sent(self, sent: Sent) -> None:
        """Note that a task is about to be sent."""
        self._write(sent)
        self._entries.setdefault(sent.id, Entry([])).sent.append(sent)

    def ended(self, task_id: bytes, frame: bytes) -> None:
        """Note the result of a task, before the broker is told that it was read."""
        if task_id in self._entries:
            ended = Ended(task_id, frame)
            self._write(ended)
            self._entries[task_id].ended = ended

    def forget(self, task_id: bytes) -> None:
        """Let go of a task."""
        if self._entries.pop(task_id, None) is not None:
            self._write(Forgotten(task_id))
            self._tidy()

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)

    def _tidy(self) -> None:
        # Not oftener than what is written anew has been written once more: each byte is copied a few times.
        if self._size > SLACK and self._size > 2 * sum(map(len, _lines(self.head, self._entries))):
            former, self._descriptor = self._descriptor, _replace(self._path, self.head, self._entries)
            os.close(former)
            self._size = os.fstat(self._descriptor).st_size

    def _write(self, line: _Line) -> None:
        data = msgspec.json.encode(line) + b"\n"
        _write_all(self._path, self._descriptor, data)
        self._size += len(data)


@contextmanager
def open_journal(
    path: Path, mesh: bytes, client: bytes, *, now: Millis, random: Callable[[int], bytes] = os.urandom
) -> Iterator[Journal]:
    """Open, or make, the journal of `client` (its public key) in a mesh; raise `JournalError`."""
    descriptor = _locked(path)
    try:
        head, entries = _read(path, descriptor)
        if head is None:
            head = Head(FORMAT, mesh, client, random(32), random(16))
        if (head.format, head.mesh, head.client) != (FORMAT, mesh, client):
            raise JournalError(f"{path} is the journal of another client or mesh: name another file")
        kept = {key: entry for key, entry in entries.items() if entry.sent[-1].expires + KEPT > now}
        former, descriptor = descriptor, _replace(path, head, kept)
        os.close(former)
        journal = Journal(path, descriptor, head, kept)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        yield journal
    finally:
        journal.close()


def _locked(path: Path) -> int:
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise JournalError(f"cannot open the journal {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had it may have written it anew meanwhile: then this is a file without a name.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise JournalError(
                f"{path} is in use by another process: end it, or name another file"
            ) from error
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _read(path: Path, descriptor: int) -> tuple[Head | None, dict[bytes, Entry]]:
    with open(os.dup(descriptor), "rb") as file:
        file.seek(0)
        *lines, _torn = file.read().split(b"\n")
    head: Head | None = None
    entries: dict[bytes, Entry] = {}
    for number, line in enumerate(lines, 1):
        try:
            told = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise JournalError(f"{path}, line {number}, is not of a journal: name another file") from error
        match told:
            case Head() if number == 1:
                head = told
            case Sent() if head is not None:
                entries.setdefault(told.id, Entry([])).sent.append(told)
            case Ended() if told.id in entries:
                entries[told.id].ended = told
            case Forgotten():
                entries.pop(told.id, None)
            case _:
                raise JournalError(f"{path}, line {number}, is out of place: name another file")
    if head is None and lines:
        raise JournalError(f"{path} is not a journal: name another file")
    return head, entries


def _lines(head: Head, entries: dict[bytes, Entry]) -> Iterator[bytes]:
    yield msgspec.json.encode(head) + b"\n"
    for entry in entries.values():
        for line in (*entry.sent, *([entry.ended] if entry.ended else [])):
            yield msgspec.json.encode(line) + b"\n"


def _replace(path: Path, head: Head, entries: dict[bytes, Entry]) -> int:
    """Write a journal anew, whole or not at all; return its locked descriptor."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(fresh, flags, 0o600)
    except OSError as error:
        raise JournalError(f"cannot write the journal {fresh}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for line in _lines(head, entries):
            _write_all(fresh, descriptor, line)
        os.fsync(descriptor)
        os.replace(fresh, path)
    except BaseException:
        os.close(descriptor)
        fresh.unlink(missing_ok=True)
        raise
    return descriptor


def _write_all(path: Path, descriptor: int, data: bytes) -> None:
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError as error:
        raise JournalError(f"cannot write the journal {path}: {error.strerror}") from error
