"""Files that operators work with: bounded reads, and writes that leave an old file whole or a new one."""

import os
import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from console.evidence_files import read_bounded
from schemas.errors import UsageError
from schemas.evidence import ReferenceValues
from schemas.evidence_policy import parse_for_evidence
from schemas.policy import Policy, parse
from schemas.toml_errors import MAX_TEXT

MAX_POLICY = 2 * MAX_TEXT  # of characters that may have more than one byte; the reader counts those
MAX_SIGNED = 16 * 1024 * 1024  # 64 operators, each with policy and profile of 64 KiB and more
SIGNED = ".signed"
MAX_SMALL = 64 * 1024  # keys and anchors

PRIVATE, PUBLIC = 0o600, 0o644


def read_small_text(path: Path) -> str:
    """Read the text of a public key, or raise `UsageError`."""
    return read_text(path, MAX_SMALL)


def read_text(path: Path, limit: int = MAX_POLICY) -> str:
    """Read a policy's text, or raise `UsageError`."""
    try:
        return read(path, limit).decode()
    except UnicodeDecodeError as error:
        if path.suffix == SIGNED:
            raise UsageError(
                f"{path} holds signatures: name the policy's text, {path.with_suffix('')}"
            ) from error
        raise UsageError(f"{path} is not UTF-8 text: name one that is, or save it as that") from error


def read_policy(path: Path) -> Policy:
    """Read a policy, or raise `UsageError` that names its file, line and column."""
    return parse(read_text(path), title(path))


def read_reference_values(path: Path) -> ReferenceValues:
    """Read what a policy judges evidence by, or raise `UsageError` that names its file, line and column."""
    return read_judging(path)[0]


def read_judging(path: Path) -> tuple[ReferenceValues, str]:
    """Do the same, and give the SHA-256 of the policy's text, by which a result names it."""
    text = read_text(path)
    return parse_for_evidence(text, title(path)).reference_values(), sha256(text.encode()).hexdigest()


def title(path: Path) -> str:
    """Return what errors call a policy's file."""
    return f"the policy {path}"


def read(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes, or raise `UsageError`."""
    return read_bounded(path, limit)


def write_new(
    path: Path, data: bytes, mode: int = PUBLIC, *, before: Callable[[], None] | None = None
) -> None:
    """Write a file that is not there yet, or raise `UsageError`: nobody's key or policy is overwritten.

    `before` is done once it is sure that the file can be there, and before anything is in it.
    """
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            try:
                if before is not None:
                    before()
            except BaseException:
                path.unlink()
                raise
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise UsageError(f"{path} exists already: name another, or remove it if nobody needs it") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def replace(path: Path, data: bytes, *, before: Callable[[], None] | None = None) -> None:
    """Write a file whole in place of an older one, or raise `UsageError` and leave that.

    `before` is done once all of it is written, and before it takes the older one's place.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_new(temporary, data)
    try:
        if before is not None:
            before()
        temporary.rename(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
