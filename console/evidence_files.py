"""Evidence on disk: a folder of raw files, or one file that wraps Evidence with its type (CMW, RFC 9999)."""

import binascii
import os
import stat
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from attestation import nitro, sev_snp, tdx
from attestation.amd_names import MORE_CRL_FILES
from attestation.errors import AttestationError
from attestation.missing import CODES
from attestation.sev_snp.parse import REPORT_SIZE
from attestation.sev_snp.table import read_table
from console.cmw import unwrap_all
from schemas.errors import MalformedError, Reason, UsageError
from schemas.evidence import MAX_ENDORSEMENTS, MAX_EVIDENCE, NITRO, SEV_SNP, TDX, Endorsements, Evidence

# What a folder holds Evidence in, by its name.
FILES = {
    "report.bin": (SEV_SNP, sev_snp.MEDIA_TYPE),
    "quote.bin": (TDX, tdx.MEDIA_TYPE),
    "attestation.cbor": (NITRO, nitro.MEDIA_TYPE),
}
CERTIFICATE_TABLE = "auxblob.bin"  # as configfs-tsm gives it beside a report; files beside it come first
PLATFORM_OF = {media_type: platform for platform, media_type in FILES.values()}
QUOTE_HEADER = 48
QUOTE_VERSIONS = (b"\x03\x00", b"\x04\x00", b"\x05\x00")  # of SGX and TDX; behind it the kind of key, not 0
COSE_STARTS = (  # an array of 4 whose protected header has 4 bytes, tagged or not
    b"\x84\x44",
    b"\xd2\x84\x44",
)
ALGORITHM, ECDSA_P384 = slice(0x34, 0x38), b"\1\0\0\0"  # of the signature of a SEV-SNP report
UNKNOWN = "unknown"
STDIN, DESCRIPTORS = Path("/dev/stdin"), (Path("/dev/fd"), Path("/proc/self/fd"))
_AT_ONCE = os.O_RDONLY | os.O_NONBLOCK  # not waiting for somebody to write to a pipe
PEM_START, PEM_END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Found:
    """Evidence that was read, not yet looked into."""

    platform: str
    evidence: Evidence
    endorsements: Endorsements


class UnreadableError(UsageError):
    """A file is there and is not what it should be; `reason` says why, as of bytes that a peer sends."""

    def __init__(self, text: str, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(text)
        self.reason = reason


def read(path: Path) -> Found:
    """Read Evidence with its Endorsements, or raise `UsageError` that says what to do."""
    try:
        if path.is_dir():
            return _read_folder(path)
        data = read_bounded(path, 2 * MAX_EVIDENCE)
        raw = _raw(data)
        return unwrap(path, data) if raw is None else Found(*raw, read_endorsements(path.parent))
    except OSError as error:
        raise UsageError(f"cannot read {error.filename or path}: {error.strerror}") from error


def read_bounded(path: Path, limit: int, *, pipe: bool = False) -> bytes:
    """Read a file of at most `limit` bytes, or raise `UsageError`: a larger one is not read on.

    A pipe that this process was given, as /dev/stdin or by process substitution, is read to its end. Whatever
    else is no regular file is refused, for it may never end, or begin; `pipe`: a pipe with a name is not.
    """
    try:
        number = _descriptor(path)
        if number is not None and stat.S_ISFIFO(path.stat().st_mode):
            # By its number, because a pipe may have a name too, and to open that would be to wait again.
            with os.fdopen(os.dup(number), "rb") as file:
                return _checked(path, file.read(limit + 1), limit)
        with _opened(path, os.O_RDONLY if pipe else _AT_ONCE) as (descriptor, mode):
            if not (stat.S_ISREG(mode) or (pipe and stat.S_ISFIFO(mode))):
                named = stat.S_ISFIFO(mode)
                what = "a pipe with a name, which may never be written to" if named else "no file"
                raise UsageError(f"cannot read {path}: it is {what}; give a regular file or /dev/stdin")
            return _read(path, descriptor, limit)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"cannot read {str(path)!r}: that names no file") from error


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[tuple[int, int]]:
    """Open what a path names and say what it is: what is looked at is what is read."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        yield descriptor, os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def _read(path: Path, descriptor: int, limit: int) -> bytes:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return _checked(path, file.read(limit + 1), limit)


def _checked(path: Path, data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        text = f"{path} has over {limit} bytes, more than genuine ones: check which file it is"
        raise UnreadableError(text, Reason.TOO_LARGE)
    return data


def _raw(data: bytes) -> tuple[str, Evidence] | None:
    """Tell what raw evidence is, by its frame, and None if it is none; parsers say whether it really is."""
    # One that was cut short, or has more behind it, is to be told by the same words as in a folder.
    signed_as_snp = data[ALGORITHM] == ECDSA_P384 and data[:1] != b"\0"
    if (len(data) == REPORT_SIZE or signed_as_snp) and not any(data[1:4]):
        return SEV_SNP, Evidence(sev_snp.MEDIA_TYPE, data)
    if len(data) >= QUOTE_HEADER and data[:2] in QUOTE_VERSIONS and any(data[2:4]):
        return TDX, Evidence(tdx.MEDIA_TYPE, data)
    if data.startswith(COSE_STARTS):
        return NITRO, Evidence(nitro.MEDIA_TYPE, data)
    return None


def _descriptor(path: Path) -> int | None:
    """Return which descriptor of this process a path means, None if it means none."""
    if path == STDIN:
        return 0
    number = path.name
    of_process = path.parent in DESCRIPTORS and number.isascii() and number.isdigit()
    return int(number) if of_process else None


def each_once(paths: Iterable[Path]) -> list[Path]:
    """Leave out what was named before, in whatever words; the first stay."""
    once: dict[str, Path] = {}
    for path in paths:
        once.setdefault(os.path.realpath(path), path)
    return list(once.values())


def refuse_closed(folder: Path) -> None:
    """Raise `UsageError` for a folder whose files nobody here may look at: they would count as absent."""
    if not os.access(folder, os.X_OK):
        raise UsageError(f"cannot look into {folder}: give this user the right to enter it (x)")


def holds(folder: Path, platform: str) -> bool:
    """Say whether a folder has raw evidence of a platform."""
    return any(os.path.lexists(folder / name) for name, (of, _) in FILES.items() if of == platform)


def _read_folder(folder: Path) -> Found:
    refuse_closed(folder)
    present = [name for name in FILES if os.path.lexists(folder / name)]
    if len(present) != 1:
        what = "more than one of" if present else "none of"
        raise UsageError(f"{folder} holds {what} {', '.join(FILES)}: name a folder with exactly one")
    platform, media_type = FILES[present[0]]
    value = read_bounded(folder / present[0], MAX_EVIDENCE)
    return Found(platform, Evidence(media_type, value), read_endorsements(folder))


def read_endorsements(folder: Path) -> Endorsements:
    """Read what a folder holds of endorsements, by their names; certificates may be PEM in any of them.

    Raise `UsageError` for one that is there and holds nothing: taken for absent, it would only be warned of.
    """
    refuse_closed(folder)
    endorsements: Endorsements = {}
    table = folder / CERTIFICATE_TABLE
    if os.path.lexists(table):
        try:
            endorsements |= read_table(_read_beside(table))
        except AttestationError as error:
            text = f"{table} is no certificate table: {error}; take it away to do without"
            raise UnreadableError(text, error.reason) from error
    for name in (*CODES, *MORE_CRL_FILES):
        file = folder / name
        if os.path.lexists(file):
            data = _read_beside(file)
            if not data:
                raise UnreadableError(f"{file} is empty: fetch it again, or take it away to do without")
            endorsements[name] = as_der(data) if name.endswith(".der") else data
    return endorsements


def _read_beside(file: Path) -> bytes:
    try:
        with _opened(file, _AT_ONCE) as (descriptor, mode):
            if stat.S_ISREG(mode):
                return _read(file, descriptor, MAX_ENDORSEMENTS)
        what = "is no regular file"
    except FileNotFoundError:
        what = "leads nowhere"
    except OSError as error:
        what = f"can't be read ({error.strerror})"
    raise UsageError(f"{file} {what}: put the endorsement itself there, or take it away to do without")


def as_der(data: bytes) -> bytes:
    """Return the first certificate of PEM as DER, and whatever else as it is."""
    if not data.lstrip().startswith(PEM_START):
        return data
    body = data.partition(PEM_START)[2].partition(PEM_END)[0]
    try:
        return b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        return data  # the parser says what is wrong with it


def _text_of_evidence(data: bytes) -> str:
    """Name the form in which raw evidence was written as text, "" if it was not."""
    text = b"".join(data.split())
    for form, decode in (("hexadecimal", binascii.unhexlify), ("base64", partial(b64decode, validate=True))):
        with suppress(binascii.Error):
            if _raw(decode(text)) is not None:
                return form
    return ""


def unwrap(path: Path, data: bytes) -> Found:
    """Read the Evidence in a CMW that a file holds, or raise `UsageError`."""
    try:
        wrapped = unwrap_all(data)
    except MalformedError as error:
        if form := _text_of_evidence(data):
            raise UnreadableError(f"{path} is evidence written as {form}: decode it first") from error
        raise UnreadableError(
            f"{path} is no evidence: neither a raw report, quote or document, nor a CMW (an array of media "
            f"type and value, or a collection of these); name one, or a folder with {', '.join(FILES)}"
        ) from error
    known = [each for each in wrapped if each[0] in PLATFORM_OF]
    if len(known) > 1:
        raise UsageError(
            f"{path} holds {len(known)} pieces of evidence, and one is judged at a time: split it"
        )
    # Of media types that are not known here, the judge says that they are none he judges.
    media_type, value = (known or wrapped)[0]
    platform = PLATFORM_OF.get(media_type, UNKNOWN)
    # What travels beside a wrapped message is whatever lies beside it.
    return Found(platform, Evidence(media_type, value), read_endorsements(path.parent))
