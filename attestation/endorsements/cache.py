"""Documents on disk by the request that got them. What is read back is checked like what was fetched."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from attestation.subjects import Files
from attestation.whole_files import write_whole
from schemas import codec
from schemas.codec import Message
from schemas.errors import MalformedError

MAX_ENTRY = 1024 * 1024
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
        """Return the entry; None if there is none that can be read whole."""
        try:
            with self._path(request).open("rb") as file:
                data = file.read(MAX_ENTRY + 1)
        except OSError:
            return None
        if len(data) > MAX_ENTRY or sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            return None
        try:
            stored = codec.decode(data[_DIGEST:], _Stored)
            fetched = datetime.fromtimestamp(stored.fetched, UTC)
        except (MalformedError, ValueError, OverflowError, OSError):
            return None
        return Entry(stored.files, fetched) if stored.request == request else None

    def save(self, request: str, entry: Entry) -> None:
        """Keep an entry in place of an older one; raise `OSError` if the disk does not."""
        body = codec.encode(_Stored(request, int(entry.fetched.timestamp()), entry.files))
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._path(request), sha256(body).digest() + body, mode=0o600)

    def _path(self, request: str) -> Path:
        return self._folder / sha256(request.encode()).hexdigest()
