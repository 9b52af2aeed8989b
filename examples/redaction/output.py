"""Writing results: a file has its name only when it is whole.

Everything is written beside its place and renamed, so an interrupted job leaves no half file that
looks like a result; `findings.csv` and `links.json` appear last, and only if the job got that far.
"""

import csv
import errno
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO

from examples.redaction.messages import Group, Kind, Token
from examples.redaction.replacing import Mark
from schemas.errors import UsageError

MARKER = ".sealbus-results"
_OURS = frozenset((MARKER, "redacted", "findings.csv", "links.json"))
_UNFINISHED = re.compile(r"\.unfinished-\d+")
COLUMNS = ("kind", "file", "position", "count")


class OutputError(UsageError):
    """The results cannot be written; the text says what to do."""


class Results:
    """A folder of results while it is written; leaving the context removes what is not whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._redacted = folder / "redacted"
        self._made: set[Path] = set()
        self._number = 0
        self._findings = self._open(self._unfinished(folder))
        self._rows = csv.writer(self._findings, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    @classmethod
    def create(cls, folder: Path, *, replace: bool = False) -> "Results":
        """Make the folder, or with `replace` empty one that an earlier job made."""
        check(folder, replace=replace)
        with _reported(folder):
            if (folder / MARKER).is_file():
                _empty(folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MARKER).touch()
            (folder / "redacted").mkdir(exist_ok=True)
        return cls(folder)

    def __enter__(self) -> "Results":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what could not be flushed is removed below
            self._findings.close()
        for left in self.folder.glob(".unfinished-*"):
            left.unlink(missing_ok=True)

    def write(self, name: PurePosixPath, data: bytes) -> None:
        """Write a redacted document under its name."""
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise OutputError(f"{_shown(name)} is no name inside the output folder: give the folder it is in")
        target = self._redacted / name
        with _reported(target):
            if target.parent not in self._made:
                target.parent.mkdir(parents=True, exist_ok=True)
                # Nobody else should write here; a link that someone put in is not followed.
                if not target.parent.resolve().is_relative_to(self._redacted.resolve()):
                    raise OutputError(f"{target.parent} leads out of the output folder: choose another --out")
                self._made.add(target.parent)
            self._replace(target, data)

    def found(self, name: PurePosixPath, marks: Sequence[Mark]) -> None:
        """Note what was found in a document: each identifier with its first position and its count."""
        counts = Counter(mark.token for mark in marks)
        firsts: dict[Token, int] = {}
        for mark in marks:
            firsts.setdefault(mark.token, mark.start)
        with _reported(self.folder / "findings.csv"):
            for token, position in firsts.items():
                self._rows.writerow((token.kind.value, _shown(name), position, counts[token]))

    def finish(
        self, groups: Iterable[Group], names: Sequence[PurePosixPath] | dict[int, PurePosixPath]
    ) -> None:
        """Write findings.csv and links.json; `names` gives the file of each document's number."""
        with _reported(self.folder / "findings.csv"):
            self._findings.close()
            links = self._unfinished(self.folder)
            with self._open(links) as file:
                file.writelines(_links(groups, names))
            os.replace(links, self.folder / "links.json")
            os.replace(self._findings.name, self.folder / "findings.csv")

    def _replace(self, target: Path, data: bytes) -> None:
        unfinished = self._unfinished(self.folder)
        with open(unfinished, "xb") as file:
            file.write(data)
        os.replace(unfinished, target)

    def _unfinished(self, folder: Path) -> Path:
        self._number += 1
        return folder / f".unfinished-{self._number}"

    def _open(self, path: Path) -> IO[str]:
        with _reported(path):
            return open(path, "x", encoding="utf-8", newline="", errors="backslashreplace")


def _links(
    groups: Iterable[Group], names: Sequence[PurePosixPath] | dict[int, PurePosixPath]
) -> Iterator[str]:
    """Yield links.json line by line: one group a line, so that memory and reviews stay small."""
    yield '{"format": 1, "groups": ['
    separator = "\n"
    for group in groups:
        entry = {
            "documents": [_shown(names[number]) for number in group.documents],
            "identifiers": [{"kind": t.kind.value, "pseudonym": t.pseudonym} for t in group.tokens],
            "people": sum(token.kind is Kind.NAME for token in group.tokens),
        }
        yield separator + json.dumps(entry, ensure_ascii=False)
        separator = ",\n"
    yield "\n]}\n"


def _shown(name: PurePosixPath) -> str:
    # A file's name is bytes to the system; what is no UTF-8 is shown escaped.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check(folder: Path, *, replace: bool) -> None:
    """Raise `OutputError` if `Results.create` would refuse the folder now; nothing is changed."""
    with _reported(folder):
        if not folder.is_symlink() and not folder.exists():
            _require_writable(next(parent for parent in folder.absolute().parents if parent.exists()))
            return
        if not folder.is_dir() or folder.is_symlink():
            raise OutputError(f"{folder} is not a folder: choose another --out")
        _require_writable(folder)
        entries = [entry for entry in folder.iterdir() if not _UNFINISHED.fullmatch(entry.name)]
        if not entries or _abandoned(folder, entries):
            return
        if not replace:
            raise OutputError(f"{folder} exists already: choose another --out, or add --replace")
        if not (folder / MARKER).is_file() or any(entry.name not in _OURS for entry in entries):
            raise OutputError(f"{folder} holds files that are not results of sealbus: choose another --out")


def _require_writable(folder: Path) -> None:
    # Asked before a mesh is brought up for results that nobody could keep.
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} cannot be written: choose another --out")


def _abandoned(folder: Path, entries: Sequence[Path]) -> bool:
    """Tell whether a job began here and ended before its first result: then there is nothing to lose."""
    redacted = folder / "redacted"
    return (
        (folder / MARKER).is_file()
        and all(entry.name in (MARKER, redacted.name) for entry in entries)
        and not redacted.is_symlink()
        and not any(names for _, _, names in os.walk(redacted))
    )


def _empty(folder: Path) -> None:
    # The marker goes last: a removal that was interrupted can be repeated.
    for name in ("findings.csv", "links.json"):
        (folder / name).unlink(missing_ok=True)
    if (folder / "redacted").is_symlink():
        (folder / "redacted").unlink()
    elif (folder / "redacted").exists():
        shutil.rmtree(folder / "redacted")
    for left in folder.glob(".unfinished-*"):
        left.unlink(missing_ok=True)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn what the system refuses into an error with the next step."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            text = "the disk is full: free some space, or choose another --out, and run again"
        elif error.errno == errno.ENAMETOOLONG:
            text = "the name is too long for this disk: rename the file, or choose a shorter --out"
        else:
            text = f"cannot be written ({error.strerror}): choose another --out"
        raise OutputError(f"{path}: {text}") from error
