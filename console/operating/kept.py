"""The console's own files about a mesh: what it has seen, receipts that it holds, the policy in force.

One folder for each mesh. Every file is replaced whole, under a lock, so that neither two consoles at once nor
one that is killed take the memory back.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from console.operating.memory import Memory, Sighting, advance, empty, learn
from console.policy import files
from schemas import codec
from schemas.codec import Message
from schemas.errors import MalformedError, UsageError
from schemas.messages import Bytes32, Event, Signed

STATE = "SEALBUS_STATE"
MAX_KEPT = 4 * 1024 * 1024  # an event of a MiB, its receipt, and room
MEMORY, LOCK, RECEIPTS, POLICY = "seen.cbor", "lock", "receipts", "policy.signed"


class KeptReceipt(Message, frozen=True):
    """An event with the coordinator's signed word that it is in force, and the key that signed."""

    event: Event
    receipt: Signed
    key: Bytes32


def default_state() -> Path:
    """Return where consoles keep what they have seen, unless they are told another place."""
    if named := os.environ.get(STATE):
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "sealbus"


class Kept:
    """One mesh's folder, made when something is first kept in it."""

    def __init__(self, base: Path, mesh: bytes) -> None:
        self._mesh = mesh
        self.root = base / mesh.hex()

    def memory(self) -> Memory:
        """Return what was seen so far, or raise `UsageError` if the file is no memory of this mesh."""
        path = self.root / MEMORY
        if not path.exists():
            return empty(self._mesh)
        try:
            memory = codec.decode(files.read(path, MAX_KEPT), Memory)
        except MalformedError as error:
            raise UsageError(
                f"{path} is damaged: take it from a backup; without it this console believes whatever "
                "coordinator the operators ever ordered"
            ) from error
        if memory.mesh != self._mesh:
            raise UsageError(f"{path} is about another mesh: put it where it came from")
        return memory

    def note(self, seen: Sighting) -> None:
        """Remember what a coordinator showed, or raise `RememberedError` and remember nothing."""
        self._remember(seen, advance)

    def learn(self, seen: Sighting) -> None:
        """Remember what a receipt told."""
        self._remember(seen, learn)

    def _remember(self, seen: Sighting, step: Callable[[Memory, Sighting], Memory]) -> None:
        with self._locked():
            before = self.memory()
            after = step(before, seen)
            if after != before:
                self._replace(self.root / MEMORY, codec.encode(after))

    def keep(self, kept: KeptReceipt, *, term: int, index: int) -> Path:
        """Keep a receipt that was verified; return its file."""
        path = self.receipt(kept.event.kind, term=term, index=index)
        with self._locked():
            self._folder(path.parent)
            self._replace(path, codec.encode(kept))
        return path

    def receipt(self, kind: str, *, term: int, index: int) -> Path:
        """Name the file of a receipt."""
        return self.root / RECEIPTS / f"{term:012}-{index:012}-{kind}.cbor"

    def revocations(self) -> list[Event]:
        """Return every revocation that a coordinator has acknowledged to this console, in their order."""
        folder = self.root / RECEIPTS
        found: dict[tuple[bytes, ...], Event] = {}
        for path in sorted(folder.glob("*-revocation.cbor")) if folder.exists() else ():
            try:
                event = codec.decode(files.read(path, MAX_KEPT), KeptReceipt).event
            except MalformedError as error:
                raise UsageError(f"{path} is damaged: take it from a backup, or remove it") from error
            found.setdefault(event.documents, event)
        return list(found.values())

    def keep_policy(self, signed: bytes) -> None:
        """Keep the signed policy that is in force: it says which coordinator to believe."""
        with self._locked():
            self._replace(self.root / POLICY, signed)

    def policy(self) -> bytes | None:
        """Return the signed policy that was last seen in force."""
        path = self.root / POLICY
        return files.read(path, files.MAX_SIGNED) if path.exists() else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._folder(self.root) / LOCK
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, files.PRIVATE)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _folder(self, path: Path) -> Path:
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(f"cannot make {path}: {error.strerror}") from error
        return path

    def _replace(self, path: Path, data: bytes) -> None:
        files.replace(path, data)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a crash may bring the older file back
        finally:
            os.close(folder)
