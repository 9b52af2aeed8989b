"""Collateral that a process carries: a bundle that the mesh's operators signed, as a file of its host.

It completes Evidence that came without collateral, or with older. Whoever hands the file over is trusted in
nothing: a bundle that too few operators signed, that is of another mesh, or older than one seen here, is not
used; an older document in a newer bundle takes no newer one's place; and verification checks what is in it
like anything else. Nothing is fetched.
"""

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from anyio import to_thread

from attestation.attesters.attester import Machine
from attestation.attesters.own_machine import COLLATERAL
from attestation.bundles.bundle import SKEW, completed, decode_signed, open_bundle, unverified_bundle
from attestation.bundles.outranking import Outranking, outranking, standing
from attestation.errors import AttesterError
from schemas.collateral import MAX_COLLATERAL, Entries
from schemas.errors import MalformedError, PeerError, Reason, UsageError
from schemas.evidence import MAX_ENDORSEMENTS, Endorsements, Evidence
from schemas.messages import Millis
from sealing.context import Mesh
from sealing.council import Council, follow
from sealing.errors import SealingError

log = logging.getLogger("sealbus.collateral")
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def _wall() -> Millis:
    return time.time_ns() // 1_000_000


class Carried:
    """The bundle in a file, read again when it changes; safe to use from several threads."""

    def __init__(
        self, path: Path, council: Council, mesh: Mesh, *, clock: Callable[[], Millis] = _wall
    ) -> None:
        """Read the file; raise `UsageError` if it holds no bundle that this mesh's operators signed.

        `clock` only keeps out a bundle of the future, which would shut out all that follow.
        """
        self._path, self._council, self._mesh, self._clock = path, council, mesh, clock
        self._lock = threading.Lock()
        self._newest: Millis = 0
        self._entries: Entries = ()
        self._above: tuple[Outranking, ...] = ()
        self._due: Millis | None = None
        try:
            self._seen = _stamp(path)
            self._read()
        except (OSError, ValueError, PeerError) as error:  # a NUL in the name is a ValueError
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"{path} is no collateral that this mesh's operators signed: {why}; "
                "`sealbus collateral status FILE --anchor ANCHOR` says how it stands"
            ) from error

    def complete(
        self, evidence: Evidence, endorsements: Endorsements, council: Council | None = None
    ) -> Endorsements:
        """Return `endorsements` with what is absent, or older than the bundle's, from there. Reads a file.

        `council`: the operators as the caller knows them by now; no other bundle of those before is taken.
        """
        return completed(evidence, endorsements, self._current(council))

    def _current(self, council: Council | None) -> Entries:
        with self._lock:
            if council is not None and council.version > self._council.version:
                self._council = council
            stamp = _stamp(self._path)
            try:
                # Seen is also what can't be used, and told once; but for what only had to wait for its time.
                if stamp != self._seen or (self._due is not None and self._clock() >= self._due):
                    self._seen, self._due = stamp, None
                    self._read()
            except (OSError, PeerError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                log.warning("%s is not used, what was there before is: %s", self._path, why)
            if not self._above:
                return self._entries
            return standing(self._entries, self._above, now=self._now())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1000, UTC)

    def _read(self) -> None:
        # A pipe might never be written to: what is opened is looked at, and not what was there before.
        with open(os.open(self._path, _READ), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise MalformedError("it is no regular file")
            data = file.read(2 * MAX_COLLATERAL + 1)
        if len(data) > 2 * MAX_COLLATERAL:
            raise MalformedError("a bundle is not as large")
        signed = decode_signed(data)
        try:
            bundle = open_bundle(self._council, self._mesh, data, now=self._clock(), newest=self._newest)
        except SealingError as error:
            if error.reason is Reason.NOT_YET_VALID:
                self._due = unverified_bundle(signed).issued - SKEW
            raise
        # A process that was shown a change of operators does not forget it with the next bundle.
        self._council = follow(self._council, signed.operators)
        now = self._now()
        above = [each.entry for each in self._above if now <= each.expires]
        self._above = outranking([*above, *self._entries], bundle.entries)
        self._newest, self._entries = bundle.issued, bundle.entries
        if self._above:
            subjects = ", ".join(sorted({each.entry.subject for each in self._above}))
            log.warning("%s: what was there before was newer, and goes on: %s", self._path, subjects)


class CarryingMachine:
    """A machine whose Evidence goes out with what the bundle has for it, for verifiers that carry none."""

    def __init__(self, machine: Machine, carried: Carried) -> None:
        self._machine, self._carried = machine, carried

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        """Obtain Evidence, with endorsements completed."""
        evidence, endorsements = await self._machine.evidence(key_binding, challenge)
        completed = await to_thread.run_sync(self._carried.complete, evidence, endorsements)
        if sum(map(len, completed.values())) > MAX_ENDORSEMENTS:
            raise AttesterError(Reason.TOO_LARGE, "the endorsements are too large together")
        return evidence, completed

    async def host(self) -> dict[str, str]:
        """Return the machine's settings."""
        return await self._machine.host()

    def close(self) -> None:
        """Give the machine's device back."""
        self._machine.close()


async def carried_by(settings: Mapping[str, str], council: Council, mesh: Mesh) -> Carried | None:
    """Open the bundle that a host's settings name, None if they name none; raise `UsageError` if bad."""
    path = settings.get(COLLATERAL)
    return None if not path else await to_thread.run_sync(Carried, Path(path), council, mesh)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes with a file; None if it can't be seen: whoever reads it is told why, and once."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
