"""Evidence that was recorded in folders, to be judged by a policy as it would have been at that time."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from attestation.moments import read_rfc3339
from console.evidence_files import FILES, Found, read
from console.policy import files
from schemas.errors import UsageError

MOST = 10_000  # recordings: a folder with more is hardly one of evidence
META = "meta.json"


class Recording(NamedTuple):
    """Evidence with the time to judge it at."""

    name: str
    found: Found
    at: datetime


class Unread(NamedTuple):
    """Evidence, or a folder of it, that can't be read, and why; it says nothing about the policy."""

    name: str
    problem: str


class _Meta(msgspec.Struct):
    """What stands beside evidence that `sealbus lab evidence` wrote out; the rest of it is ignored."""

    valid_at: str | None = None


def recordings(paths: Iterable[Path], at: datetime | None) -> list[Recording]:
    """Read all evidence in some folders and those below, to be judged at a time or when it was recorded.

    Raise `UsageError` if there is none, or some can't be read.
    """
    found = []
    for each in readings(paths, at):
        if isinstance(each, Unread):
            raise UsageError(each.problem)
        found.append(each)
    return found


def readings(paths: Iterable[Path], at: datetime | None) -> list[Recording | Unread]:
    """Do the same, except that what can't be read keeps nobody from the rest; raise if nothing is there."""
    seen: set[str] = set()
    found = [each for path in paths for each in _below(path, at, seen)]
    if not found:
        raise UsageError(f"there is no evidence in there: name folders with {', '.join(FILES)}")
    return found


def _below(top: Path, at: datetime | None, seen: set[str]) -> Iterator[Recording | Unread]:
    if not top.is_dir():
        if _is_new(top, seen):
            yield _one(top, str(top), at, None)
        return
    count = 0
    closed: list[OSError] = []
    for folder, folders, names in os.walk(top, onerror=closed.append):
        folders.sort()
        if not {*names, *folders} & set(FILES):
            continue
        count += 1
        if count > MOST:
            raise UsageError(f"{top} holds over {MOST} folders of evidence: name a smaller one")
        place = Path(folder)
        if not _is_new(place, seen):
            continue
        name = str(place.relative_to(top)) if place != top else place.name
        yield _one(place, name, at, place / META)
    for error in closed:
        yield Unread(str(error.filename), f"cannot read {error.filename}: {error.strerror}")


def _is_new(place: Path, seen: set[str]) -> bool:
    # Named twice, or within another that is named, it is one enclave all the same.
    real = os.path.realpath(place)
    if real in seen:
        return False
    seen.add(real)
    return True


def _one(path: Path, name: str, at: datetime | None, note: Path | None) -> Recording | Unread:
    try:
        found = read(path)
        return Recording(name, found, at or (datetime.now(UTC) if note is None else _recorded(note)))
    except UsageError as error:
        return Unread(name, str(error))


def _recorded(meta: Path) -> datetime:
    """Return when evidence was valid by the note beside it; now if there is none."""
    if not os.path.lexists(meta):
        return datetime.now(UTC)
    try:
        stated = msgspec.json.decode(files.read(meta, files.MAX_SMALL), type=_Meta).valid_at
        moment = None if stated is None else read_rfc3339(stated)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageError(f"{meta} can't be read: mend it, remove it, or say the time with --at") from error
    if moment is None:
        return datetime.now(UTC)
    if moment.tzinfo is None:
        raise UsageError(f"{meta}: valid_at names no time zone: end it with Z")
    return moment
