"""Evidence that was recorded in folders, to be judged by a policy as it would have been at that time."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

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


class _Meta(msgspec.Struct):
    """What stands beside evidence that `sealbus lab evidence` wrote out; the rest of it is ignored."""

    valid_at: str | None = None


def recordings(paths: Iterable[Path], at: datetime | None) -> list[Recording]:
    """Read all evidence in some folders and those below, to be judged at a time or when it was recorded.

    Raise `UsageError` if there is none, or some can't be read.
    """
    found = [recording for path in paths for recording in _below(path, at)]
    if not found:
        raise UsageError(f"there is no evidence in there: name folders with {', '.join(FILES)}")
    return found


def _below(top: Path, at: datetime | None) -> Iterator[Recording]:
    if not top.is_dir():
        yield Recording(str(top), read(top), at or datetime.now(UTC))
        return
    count = 0
    for folder, folders, names in os.walk(top):
        folders.sort()
        if not set(names) & set(FILES):
            continue
        count += 1
        if count > MOST:
            raise UsageError(f"{top} holds over {MOST} folders of evidence: name a smaller one")
        place = Path(folder)
        name = str(place.relative_to(top)) if place != top else place.name
        yield Recording(name, read(place), at or _recorded(place / META))


def _recorded(meta: Path) -> datetime:
    """Return when evidence was valid by the note beside it; now if there is none."""
    if not meta.is_file():
        return datetime.now(UTC)
    try:
        stated = msgspec.json.decode(files.read(meta, files.MAX_SMALL), type=_Meta).valid_at
        moment = None if stated is None else datetime.fromisoformat(stated)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageError(f"{meta} can't be read: mend it, remove it, or say the time with --at") from error
    if moment is None:
        return datetime.now(UTC)
    if moment.tzinfo is None:
        raise UsageError(f"{meta}: valid_at names no time zone: end it with Z")
    return moment
