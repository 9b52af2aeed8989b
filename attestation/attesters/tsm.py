"""Evidence from configfs-tsm, Linux' common interface of SEV-SNP and TDX guests (6.7 and later).

Documentation/ABI/testing/configfs-tsm-report and drivers/virt/coco/guest/report.c are its specification. Each
request has a directory of its own, which nobody else writes to by accident; on purpose root can, so what is
read is compared with what was asked.
"""

import errno
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from attestation import sev_snp, tdx
from attestation.attesters.asked import check_answer, check_question
from attestation.attesters.blocking import DEADLINE, OneAtATime
from attestation.attesters.ioctl import advice
from attestation.errors import AttesterError, EvidenceMalformedError
from attestation.sev_snp.table import MAX_TABLE, read_table
from schemas.errors import Reason
from schemas.evidence import MAX_EVIDENCE, Endorsements, Evidence

log = logging.getLogger("sealbus.tsm")

REPORTS = Path("/sys/kernel/config/tsm/report")

SEV_GUEST = "sev_guest"
MEDIA_TYPES = {SEV_GUEST: sev_snp.MEDIA_TYPE, "tdx_guest": tdx.MEDIA_TYPE}

TRIES = 5  # of a request that another writer, or an interruption, came in between of
MAX_TEXT = 64  # bytes of `provider` and of numbers
CHUNK = 64 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Report:
    media_type: str
    value: bytes
    table: bytes  # SEV-SNP's certificates, as its host laid them out


class _RacedError(Exception):
    """Somebody else wrote to our directory between our first look and our last."""


class TsmAttester:
    """The attester of a SEV-SNP or TDX guest through configfs; which of the two, the kernel says."""

    def __init__(self, reports: Path = REPORTS, *, vmpl: int = 0, deadline: float = DEADLINE) -> None:
        """`vmpl` is the privilege level to state on SEV-SNP, 0 to 3, if the guest's own is not higher."""
        self._reports = reports
        self._vmpl = vmpl
        self._kernel = OneAtATime(deadline)

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        """Obtain a report or quote over `key_binding`, or raise `AttesterError`.

        Neither platform has room for a challenge. A SEV-SNP host's certificates come along; a quote's
        collateral does not, Linux has none to give.
        """
        check_question(key_binding, challenge)
        report = await self._kernel.run(partial(self._ask, key_binding))
        try:
            endorsements = read_table(report.table)
        except EvidenceMalformedError as error:
            raise AttesterError(error.reason, f"the host's certificates: {error.detail}") from error
        evidence = Evidence(report.media_type, report.value)
        check_answer(evidence, endorsements, key_binding=key_binding, challenge=challenge)
        return evidence, endorsements

    def _ask(self, report_data: bytes) -> _Report:
        try:
            with _directory(self._reports) as entry:
                return self._request(entry, report_data)
        except OSError as error:
            raise AttesterError(Reason.UNAVAILABLE, _meaning(error)) from error

    def _request(self, entry: Path, report_data: bytes) -> _Report:
        provider = _read_text(entry / "provider")
        if provider not in MEDIA_TYPES:
            raise AttesterError(
                Reason.UNSUPPORTED_PLATFORM, "configfs-tsm has a provider that is not known here"
            )
        cause: Exception | None = None
        for _ in range(TRIES):
            try:
                return self._attempt(entry, provider, report_data)
            except _RacedError as error:
                cause = error
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EINTR, errno.EAGAIN):
                    raise
                cause = error
        raise AttesterError(
            Reason.UNAVAILABLE, "configfs-tsm stays busy: does something else write to our reports?"
        ) from cause

    def _attempt(self, entry: Path, provider: str, report_data: bytes) -> _Report:
        before = _number(entry / "generation")
        writes = 1
        if provider == SEV_GUEST:
            # Under a paravisor the guest can't state level 0, and whether its own will do is for policy.
            level = max(self._vmpl, _number(entry / "privlevel_floor"))
            _write(entry / "privlevel", str(level).encode())
            writes += 1
        _write(entry / "inblob", report_data)
        value = _read(entry / "outblob", MAX_EVIDENCE)
        table = _read(entry / "auxblob", MAX_TABLE) if provider == SEV_GUEST else b""
        # Each write counts one: any other count is another's, and the report perhaps too.
        if _number(entry / "generation") != before + writes:
            raise _RacedError
        return _Report(MEDIA_TYPES[provider], value, table)


@contextmanager
def _directory(reports: Path) -> Iterator[Path]:
    entry = reports / f"sealbus-{secrets.token_hex(16)}"
    _uninterrupted(partial(os.mkdir, entry, 0o700))
    try:
        yield entry
    finally:
        try:
            _uninterrupted(partial(os.rmdir, entry))
        except OSError as error:
            # What was read is none the worse for it; but they add up, and root should know.
            log.warning("%s stays behind: %s", entry, os.strerror(error.errno or 0))


def _uninterrupted(call: Callable[[], T]) -> T:
    # PEP 475 has Python repeat an interrupted open, read or write, but neither mkdir nor rmdir.
    for _ in range(TRIES - 1):
        try:
            return call()
        except OSError as error:
            if error.errno not in (errno.EINTR, errno.EBUSY):
                raise
    return call()


def _write(path: Path, data: bytes) -> None:
    # One write: a binary attribute is what came in until it is closed, and only then goes to the provider.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        written = os.write(descriptor, data)
    finally:
        os.close(descriptor)
    if written != len(data):
        raise AttesterError(Reason.UNAVAILABLE, "configfs-tsm took a part of what was written")


def _read(path: Path, most: int) -> bytes:
    # To the end on one descriptor: another one might see another report.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = bytearray()
        while chunk := os.read(descriptor, CHUNK):
            data += chunk
            if len(data) > most:
                raise AttesterError(Reason.TOO_LARGE, f"configfs-tsm's {path.name} is too large")
        return bytes(data)
    finally:
        os.close(descriptor)


def _read_text(path: Path) -> str:
    return _read(path, MAX_TEXT).decode("ascii", errors="replace").strip()


def _number(path: Path) -> int:
    text = _read_text(path)
    if not (text.isascii() and text.isdigit()):
        raise AttesterError(Reason.MALFORMED, f"configfs-tsm's {path.name} is not a number")
    return int(text)


def _meaning(error: OSError) -> str:
    if error.errno == errno.ENXIO:
        return "configfs-tsm has no provider: load the driver sev-guest or tdx-guest"
    if error.errno == errno.EIO:
        return "the firmware or the host's quote generation service failed: see the kernel's log"
    if error.errno == errno.EFBIG:
        return "the host's report is larger than this kernel takes: update the kernel"
    return f"configfs-tsm: {advice(error)}"
