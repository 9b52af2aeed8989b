"""Following a coordinator's audit log into files: one for each term, which only ever grows.

What a coordinator says is stored when its signed head covers it and the log before it is its beginning. A
head that does not is stored as well, and ends the following: it is the proof that there are two logs.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from console.audit_log import Finding, Head, StoredLog, entry_line, first_line, fits, head_line, read_log
from schemas.audit import TermProof, open_entry
from schemas.errors import MalformedError, Reason, UsageError
from schemas.messages import LogPage
from sealing.audit import leaf, open_head, open_term
from sealing.context import Mesh
from sealing.council import Council
from sealing.errors import SealingError

FOLDER = "audit"
PRIVATE = 0o600  # it names every party of the mesh


class ForkError(SealingError):
    """The coordinator's log is not the one that is stored; both heads are in the file, and in `finding`."""

    def __init__(self, path: Path, finding: Finding) -> None:
        super().__init__(Reason.EQUIVOCATION, f"{finding.text}; both heads are in {path}")
        self.path, self.finding = path, finding


class Source(Protocol):
    """A line to a coordinator whose Evidence was verified (`console.operator.OperatorLine`)."""

    @property
    def term_proof(self) -> TermProof:
        """Whose key signs the log."""

    async def log(self, first: int) -> LogPage:
        """Get entries from an index on."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one turn brought: into which file, of which term, and how many entries it had and has."""

    path: Path
    term: int
    before: int
    size: int


class Follower:
    """One term's file, open and locked. Made by `following`."""

    def __init__(self, path: Path, file: BinaryIO, log: StoredLog, mesh: Mesh) -> None:
        self.path = path
        self._file = file
        self._mesh = mesh
        self._key, self.term = log.key, log.term
        self._tree = log.tree
        self._last = log.last

    async def catch_up(self, source: Source) -> Fetched:
        """Store everything that the coordinator has and the file does not, or raise `ForkError`."""
        before = self._tree.size
        while True:
            head, entries = await self._batch(source)
            if head.claims.size == self._tree.size and not entries:
                return Fetched(self.path, self.term, before, self._tree.size)
            self._store(head, entries)

    async def _batch(self, source: Source) -> tuple[Head, list[bytes]]:
        """Return a head that is not behind ours, and the entries from ours up to it."""
        size = self._tree.size
        page = await source.log(size)
        signed, entries = page.head, list(page.entries)
        head = Head(open_head(signed, self._key, self._mesh, self.term), signed, 0)
        if head.claims.size < size or (head.claims.size == size and not fits(self._tree, head)):
            self._part(head)
        while size + len(entries) < head.claims.size:
            page = await source.log(size + len(entries))
            if not page.entries:
                raise MalformedError("a coordinator that has fewer entries than it signed for")
            entries += page.entries
        return head, entries[: head.claims.size - size]

    def _store(self, head: Head, entries: list[bytes]) -> None:
        for data in entries:
            index = self._tree.size
            entry = open_entry(data)
            if entry.index != index or entry.term not in (0, self.term):
                raise MalformedError("an entry that is not the one that was asked for")
            self._tree.append(leaf(self._mesh, data))
        if not fits(self._tree, head):
            self._part(head)
        # The head first: if writing is interrupted, the file says itself that something is missing.
        lines = [head_line(head.signed), *(entry_line(self._mesh, data) for data in entries)]
        self._write(b"".join(lines))
        self._last = head

    def _part(self, head: Head) -> None:
        self._write(head_line(head.signed, apart=True))
        heads = (self._last, head) if self._last else (head,)
        text = f"the coordinator's log of {head.claims.size} entries does not continue the one that is stored"
        raise ForkError(self.path, Finding("fork", text, 0, None, heads))

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UsageError(
                f"cannot write {self.path}: {error.strerror}; make room and try again"
            ) from error


@contextmanager
def following(folder: Path, council: Council, mesh: Mesh, proof: TermProof) -> Iterator[Follower]:
    """Open the file of a term's log, new or as it was left, and keep others from writing into it."""
    order = open_term(council, mesh, proof)
    path = file_of(folder, order.term)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE)
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error.strerror}; name another place") from error
    with open(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{path} is being followed already: `sealbus audit verify` reads it") from error
        yield Follower(path, file, _resumed(path, file, council, mesh, proof), mesh)


def file_of(folder: Path, term: int) -> Path:
    """Name the file of a term's log."""
    return folder / FOLDER / f"term-{term}.log"


def stored_head(folder: Path, term: int, council: Council, mesh: Mesh) -> Head | None:
    """Return the newest head of a term that is stored with all its entries; None if there is none."""
    try:
        data = file_of(folder, term).read_bytes()
    except OSError:
        return None
    return read_log(data, council, mesh).last


def _resumed(path: Path, file: BinaryIO, council: Council, mesh: Mesh, proof: TermProof) -> StoredLog:
    data = file.read()
    log = read_log(data, council, mesh)
    if log.unfinished:
        # Whoever wrote was interrupted: what no head covers whole is fetched again.
        file.truncate(log.whole)
        data = data[: log.whole] or first_line(proof)
        if not log.whole:
            file.write(data)
            file.flush()
        log = read_log(data, council, mesh)
    if log.findings:
        raise UsageError(
            f"{path}: {log.findings[0].text}; see `sealbus audit verify`, and move it away to go on"
        )
    if log.proof is None or log.proof.signing_key != proof.signing_key:
        text = f"term {log.term} was ordered for two coordinators: keep {path}, and ask who signed both"
        raise SealingError(Reason.EQUIVOCATION, text)
    return log
