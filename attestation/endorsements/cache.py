"""Documents on disk by the request that got them. What is read back is checked like what was fetched.

A check finds what is forged or expired, not what is old: whoever can write here could have an old list served
as today's, and the service not asked. So only a folder that no other user can write to is a cache.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from attestation.bundles.subjects import Files
from attestation.whole_files import write_whole
from schemas import codec
from schemas.codec import Message
from schemas.errors import MalformedError, UsageError

MAX_ENTRY = 1024 * 1024
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# Neither what a link leads to, nor a pipe, which nobody may ever write to.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIGEST = 32


class _Stored(Message, frozen=True):
    request: str
    fetched: int  # seconds since 1970
    files: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a request gave, and when."""

    files: Files
    fetched: datetime


class Cache:
    """A folder of entries: each a SHA-256, and what it is of. Processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, request: str) -> Entry | None:
        """Return the entry; None if there is none that can be read whole, and is this user's.

        Raises `UsageError` if other users may write here.
        """
        try:
            data = self._read(self._path(request).name)
        except OSError:
            return None
        if sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            return None
        try:
            stored = codec.decode(data[_DIGEST:], _Stored)
            fetched = datetime.fromtimestamp(stored.fetched, UTC)
        except (MalformedError, ValueError, OverflowError, OSError):
            return None
        return Entry(stored.files, fetched) if stored.request == request else None

    def save(self, request: str, entry: Entry) -> None:
        """Keep an entry in place of an older one; raise `OSError` if the disk does not, or as `load` does."""
        body = codec.encode(_Stored(request, int(entry.fetched.timestamp()), entry.files))
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._folder_of_ours():
            write_whole(self._path(request), sha256(body).digest() + body, mode=0o600)

    def _read(self, name: str) -> bytes:
        with self._folder_of_ours() as folder:
            descriptor = os.open(name, _READ, dir_fd=folder)
        try:
            status = os.fstat(descriptor)
            # What others put here before they were kept out is not ours.
            if not stat.S_ISREG(status.st_mode) or _whose(status) or status.st_size > MAX_ENTRY:
                return b""
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_ENTRY)
        finally:
            os.close(descriptor)

    @contextmanager
    def _folder_of_ours(self) -> Iterator[int]:
        """Open the folder, so that what is looked at is what is read; raise `UsageError` if it is shared."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if problem := _whose(os.fstat(descriptor)):
                raise UsageError(
                    f"{self._folder} is no safe cache, for {problem}: who writes there can bring old lists "
                    "back; delete it, name another folder, or do without a cache"
                )
            yield descriptor
        finally:
            os.close(descriptor)

    def _path(self, request: str) -> Path:
        return self._folder / sha256(request.encode()).hexdigest()


def _whose(status: os.stat_result) -> str:
    """Say what lets another user write to it; nothing if nothing does."""
    if status.st_uid != os.geteuid():
        return "it is another user's"
    if status.st_mode & _OTHERS_WRITE:
        return f"others may write to it (mode {stat.S_IMODE(status.st_mode):o})"
    return ""
