"""Documents put into a collateral file, or beside evidence, where an older one takes no newer one's place.

Another `sealbus` may do the same at the same time: what is there is read, compared and replaced in one act.
"""

import fcntl
import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attestation.bundles.bundle import encode_file
from attestation.bundles.subjects import Files
from attestation.endorsements import Fetched
from attestation.endorsements.gather import entry_of, merge
from attestation.endorsements.newer import Kept, choose
from console.collateral_files import read_unsigned, save, save_beside
from console.evidence_files import read_endorsements
from schemas.collateral import CollateralEntry, Entries
from schemas.errors import UsageError

WAIT = 20.0  # seconds for another program's turn, which takes milliseconds
_POLL = 0.05


def put_into_file(
    out: Path, came: Sequence[CollateralEntry], *, roots: Collection[str], anyway: bool = False
) -> tuple[Entries, tuple[Kept, ...]]:
    """Add to a collateral file or make it; return what it holds then, and what of it stayed.

    `anyway`: older documents too. Raises `UsageError`; the file is as it was then.
    """
    with alone_in(out.parent):
        entries: Entries = read_unsigned(out) if out.exists() else ()
        if anyway:
            new = {entry.subject for entry in came}
            entries = tuple(entry for entry in entries if entry.subject not in new)
        merged, kept = merge(entries, came, roots=roots)
        if merged:
            save(out, encode_file(merged))
    return merged, kept


def put_beside(
    folder: Path, fetched: Sequence[Fetched], *, roots: Collection[str], anyway: bool = False
) -> tuple[Kept, ...]:
    """Write documents beside evidence; return which of those that are there stayed. Raises `UsageError`."""
    files: Files = {}
    kept = []
    with alone_in(folder):
        held = {} if anyway else read_endorsements(folder)
        for each in fetched:
            chosen, why = choose(each.subject, each.files, held, roots=roots)
            files |= each.subject.given(chosen)
            if why is not None:
                kept.append(why)
        save_beside(folder, files)
    return tuple(kept)


def put_fetched(
    out: Path, fetched: Sequence[Fetched], *, roots: Collection[str], anyway: bool = False
) -> tuple[Kept, ...]:
    """Add what was fetched to a collateral file; return which of those that are there stayed."""
    return put_into_file(out, [entry_of(each) for each in fetched], roots=roots, anyway=anyway)[1]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, once no other program that asks does; raise `UsageError` if one goes on."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot write in {folder}: {error.strerror}; name another place") from error
    try:
        _hold(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _hold(descriptor: int, folder: Path) -> None:
    end = time.monotonic() + WAIT
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            # Whoever may read the folder can hold it for ever.
            if time.monotonic() > end:
                raise UsageError(f"another program holds {folder}: run this again when it is done") from error
            time.sleep(_POLL)
        except OSError:
            return None  # some network file systems hold no folder: two programs at once are rarer than those
