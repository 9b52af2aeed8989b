"""What `sealbus collateral fetch` does: for each piece of evidence, ask the vendor's service for the rest."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from attestation.endorsements import (
    Cache,
    Clock,
    Fetched,
    Fetcher,
    Http,
    Kds,
    Patience,
    Pcs,
    PcsSource,
    Services,
    collect,
    needs_of,
)
from attestation.errors import AttestationError
from console.evidence_files import read
from schemas.errors import PeerError, UsageError

USER_AGENT = "sealbus-collateral"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to ask, what to trust, where to keep."""

    kds: str
    pcs: PcsSource
    roots: tuple[str, ...]
    cache: Path | None
    tls_authority: Path | None = None
    patience: Patience = field(default_factory=Patience)
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one piece of evidence: the documents, or why they can't be had."""

    path: Path
    platform: str
    fetched: tuple[Fetched, ...] = ()
    error: PeerError | None = None


async def fetch_all(
    paths: Sequence[Path],
    settings: Settings,
    *,
    notice: Callable[[str], None],
    seen: Callable[[Fetched], None],
) -> list[Outcome]:
    """Fetch for each path in turn; one that fails does not keep the others from their documents."""
    async with httpx.AsyncClient(
        verify=_tls(settings.tls_authority),
        headers={"user-agent": USER_AGENT},
        timeout=httpx.Timeout(settings.patience.deadline, connect=settings.patience.connecting),
    ) as client:
        http = Http(client, patience=settings.patience, clock=settings.clock, notice=notice)
        cache = Cache(settings.cache) if settings.cache is not None else None
        fetcher = Fetcher(http, roots=settings.roots, cache=cache, clock=settings.clock)
        services = Services(Kds(fetcher, settings.kds), Pcs(fetcher, settings.pcs))
        return [await _fetch(path, services, seen) for path in paths]


async def _fetch(path: Path, services: Services, seen: Callable[[Fetched], None]) -> Outcome:
    found = read(path)
    try:
        needs = needs_of(found.evidence, found.endorsements)
    except AttestationError as error:
        raise UsageError(f"{path} can't be read as {found.platform} evidence: {error}") from error
    try:
        fetched = await collect(needs, found.endorsements, services, seen=seen)
    except PeerError as error:
        return Outcome(path, found.platform, error=error)
    return Outcome(path, found.platform, fetched)


def _tls(authority: Path | None) -> ssl.SSLContext | bool:
    if authority is None:
        return True
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{authority} holds no certificate authorities in PEM: name another file") from error
