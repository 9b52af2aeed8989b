"""Which files a job has: the paths given, walked without following what leads elsewhere.

Lazy, so that a job of many files needs memory for none of them. Names are relative to the folder
given, so nothing can be written outside the results; with several paths each has its own folder.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from examples.redaction.reading import SYNTAXES, supported
from schemas.errors import UsageError


class Source(NamedTuple):
    """A file to redact, and the name of its result."""

    path: Path
    name: PurePosixPath


class Passed(NamedTuple):
    """Something that is not redacted and why; `failed` if it should have been."""

    name: PurePosixPath
    reason: str
    failed: bool = False


def walk(roots: Sequence[Path], out: Path) -> Iterator[Source | Passed]:
    """Yield what the given files and folders hold, in order of name, but for what is in `out`."""
    results = os.path.realpath(out)
    for root, prefix in zip(roots, _prefixes(roots), strict=True):
        if root.is_dir():
            yield from _folder(root, prefix, results)
        else:
            yield _file(root, prefix / root.name)


def refuse(roots: Sequence[Path], out: Path) -> None:
    """Raise `UsageError` for absent roots, only files that cannot be redacted, and results over the input."""
    results = os.path.realpath(out)
    for root in roots:
        try:
            real = os.path.realpath(root, strict=True)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UsageError(f"{root} is a loop of symbolic links: name the file itself") from error
            raise UsageError(f"{root} cannot be read ({error.strerror}): name a file or a folder") from error
        if os.path.commonpath((results, real)) == results:
            raise UsageError(f"{root} lies in the output folder {out}: choose another --out")
    if roots and not any(root.is_dir() or supported(root.name) for root in roots):
        names = ", ".join(root.name for root in roots)
        raise UsageError(f"{names}: of no supported type; name files of {', '.join(SYNTAXES)}, or a folder")


def _prefixes(roots: Sequence[Path]) -> list[PurePosixPath]:
    """Return the folder of each root's results: none for a single one, else one of its own."""
    if len(roots) == 1:
        return [PurePosixPath()]
    taken: set[str] = set()
    prefixes: list[PurePosixPath] = []
    for root in roots:
        own = Path(os.path.abspath(root))
        # Files stand side by side where their names allow it.
        label = own.name if root.is_dir() else ""
        key, number = (own.name, 1)
        while key in taken:
            number += 1
            key = f"{own.name}-{number}"
        taken.add(key)
        if number > 1:
            label = key
        prefixes.append(PurePosixPath(label) if label else PurePosixPath())
    return prefixes


def _file(path: Path, name: PurePosixPath) -> Source | Passed:
    return Source(path, name) if supported(path.name) else Passed(name, "of no supported type")


def _folder(root: Path, prefix: PurePosixPath, results: str) -> Iterator[Source | Passed]:
    pending = [(root, prefix)]
    while pending:
        folder, name = pending.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            yield Passed(name, f"cannot be read: {error.strerror}", failed=True)
            continue
        folders: list[tuple[Path, PurePosixPath]] = []
        for entry in entries:
            path, own = Path(entry.path), name / entry.name
            if entry.is_symlink():
                yield _link(path, own)
            elif entry.is_dir(follow_symlinks=False):
                if os.path.realpath(path) != results:
                    folders.append((path, own))
            elif entry.is_file(follow_symlinks=False):
                yield _file(path, own)
            else:
                yield Passed(own, "not a regular file")
        pending += reversed(folders)


def _link(path: Path, name: PurePosixPath) -> Passed:
    # A link's target is either in the folder, and found there, or outside, and was not given.
    try:
        os.stat(path)
    except OSError as error:
        reason = "a loop of symbolic links" if error.errno == errno.ELOOP else "a broken symbolic link"
        return Passed(name, reason, failed=supported(path.name))
    target, own = os.path.realpath(path), os.path.realpath(path.parent)
    if own == target or own.startswith(target + os.sep):
        return Passed(name, "a loop of symbolic links")
    return Passed(name, "a symbolic link, not followed")
