"""From the cache if it is good, from the service if not; checked either way before anybody gets it."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

import anyio.to_thread

from attestation.bundles.subjects import Files, Subject, Validity
from attestation.endorsements.cache import Cache, Entry
from attestation.endorsements.checks import check
from attestation.endorsements.errors import EndorsementError, WrongDocumentError
from attestation.endorsements.flights import Flights
from attestation.endorsements.http import Clock, Http, Response
from attestation.endorsements.newer import Kept, choose
from schemas.errors import Reason

log = logging.getLogger("sealbus.endorsements")

LASTING = timedelta(days=3650)  # for what does not change: kept until it expires
DAILY = timedelta(days=1)  # for what is renewed: asked for again, though what is kept is still valid


class How(StrEnum):
    """Where a document came from."""

    FETCHED = "fetched"
    CACHED = "cached"
    KEPT = "kept"  # the service failed or served an older one; what was kept is still valid


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request: of what, where, how large at most, and how its answer becomes files."""

    subject: Subject
    url: str
    limit: int  # bytes
    refresh: timedelta
    unpack: Callable[[Response], Files]  # raises `EndorsementError`


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document that is what was asked for, and current."""

    subject: Subject
    files: Files = field(repr=False)
    validity: Validity
    fetched: datetime
    how: How
    why: str = ""  # what the service did wrong, if the document was kept
    older: bool = False  # it served an older one than this


class Fetcher:
    """Fetches endorsements under `roots` (SHA-256 of the DER, hexadecimal), for one event loop.

    A service's faults can only keep documents from coming: they never make one pass that is not checked, nor
    an expired one serve. Without a cache everything is asked for every time.
    """

    def __init__(
        self, http: Http, *, roots: Collection[str], cache: Cache | None = None, clock: Clock | None = None
    ) -> None:
        self._http = http
        self._roots = frozenset(roots)
        self._cache = cache
        self._clock = clock or Clock()
        self._flights: Flights[Fetched] = Flights()

    async def get(self, wanted: Wanted) -> Fetched:
        """Return the document, or raise `EndorsementError`. Concurrent equal requests are one."""
        return await self._flights.fly(wanted.url, lambda: self._get(wanted))

    async def _get(self, wanted: Wanted) -> Fetched:
        kept = await self._kept(wanted)
        if kept is not None and timedelta(0) <= self._clock.now() - kept.fetched < wanted.refresh:
            return kept
        try:
            fetched = await self._fetch(wanted, once=kept is not None)
        except EndorsementError as error:
            if kept is None or kept.validity.expires <= self._clock.now():
                raise
            log.warning("%s: kept what was fetched before: %s", wanted.subject, error)
            return replace(kept, how=How.KEPT, why=str(error))
        # Both are signed; the newer one knows more. An old list would hide what was revoked since. What is
        # kept is read again: it may be another process's by now, or have expired, and still be the newer one.
        if (entry := await self._load(wanted)) is not None:
            files, older = choose(wanted.subject, fetched.files, entry.files, roots=self._roots)
            if older is not None:
                return self._outranked(wanted, Entry(files, entry.fetched), older)
        await self._keep(wanted, fetched)
        return fetched

    def _outranked(self, wanted: Wanted, entry: Entry, older: Kept) -> Fetched:
        try:
            kept = self._checked(wanted, entry)
        except EndorsementError as error:
            raise WrongDocumentError(
                Reason.VERSION_NOT_NEWER,
                f"{wanted.subject}: the service serves one that was {older.came}, and served one before that "
                f"was {older.held} and is of no use any more; without the cache it is taken",
            ) from error
        why = f"the service served an older one, {older.came}"
        return replace(kept, how=How.KEPT, why=why, older=True)

    async def _fetch(self, wanted: Wanted, *, once: bool) -> Fetched:
        response = await self._http.get(wanted.url, limit=wanted.limit, once=once)
        files = wanted.unpack(response)
        now = self._clock.now()
        validity = check(wanted.subject, files, roots=self._roots, now=now)
        return Fetched(wanted.subject, files, validity, now, How.FETCHED)

    async def _kept(self, wanted: Wanted) -> Fetched | None:
        entry = await self._load(wanted)
        if entry is None:
            return None
        try:
            return self._checked(wanted, entry)
        except EndorsementError as error:
            log.info("%s: what was kept is of no use any more: %s", wanted.subject, error)
            return None

    async def _load(self, wanted: Wanted) -> Entry | None:
        if self._cache is None:
            return None
        return await anyio.to_thread.run_sync(self._cache.load, wanted.url)

    def _checked(self, wanted: Wanted, entry: Entry) -> Fetched:
        validity = check(wanted.subject, entry.files, roots=self._roots, now=self._clock.now())
        return Fetched(wanted.subject, entry.files, validity, entry.fetched, How.CACHED)

    async def _keep(self, wanted: Wanted, fetched: Fetched) -> None:
        if self._cache is None:
            return
        try:
            entry = Entry(fetched.files, fetched.fetched)
            await anyio.to_thread.run_sync(self._cache.save, wanted.url, entry)
        except OSError as error:
            log.warning("%s: not kept on disk: %s", wanted.subject, error.strerror)
