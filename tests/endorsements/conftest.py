"""A service, a clock, simulated vendors, and a fetcher that trusts the vendors and asks the service."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from attestation.endorsements import Cache, Fetcher, Http, Kds, Patience, Pcs, PcsSource, Services, Subject
from lab.simulate import sev_snp, tdx_issuer
from tests.attestation.tdx_forge import Forge, new_key
from tests.endorsements.world import NOW, Service, Time, running

FMSPC = "1AB0C06F0000"


@pytest.fixture(scope="session")
def amd() -> dict[str, bytes]:
    return sev_snp.make_root(NOW)


@pytest.fixture(scope="session")
def chip(amd: dict[str, bytes]) -> sev_snp.SevSnpChip:
    return sev_snp.SevSnpChip.from_files(amd, serial=1)


@pytest.fixture(scope="session")
def intel() -> Forge:
    return Forge()


@pytest.fixture
def processor(intel: Forge, monkeypatch: pytest.MonkeyPatch) -> Forge:
    """A platform that the other of the PCK authorities certified, under the same root."""
    monkeypatch.setitem(tdx_issuer.NAMES, "processor", "Lab SGX PCK Processor CA")
    root, key = intel.issuer.root, new_key()
    certificate = tdx_issuer._issue(
        "processor", key.public_key(), root.certificate, root.key, NOW, path_length=0
    )
    return Forge(issuer=replace(intel.issuer, pck_ca=tdx_issuer.Authority(certificate, key)))


@pytest.fixture
def vcek(chip: sev_snp.SevSnpChip) -> Subject:
    return Subject("vcek", ("Genoa", chip.chip_id.hex(), sev_snp.TCB.hex()))


@pytest.fixture
def vcek_target(chip: sev_snp.SevSnpChip) -> str:
    return f"/vcek/v1/Genoa/{chip.chip_id.hex()}?blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219"


@pytest.fixture
def service(chip: sev_snp.SevSnpChip, intel: Forge, vcek_target: str) -> Iterator[Service]:
    """Serves one Genoa chip and one TDX platform family."""
    with running() as started:
        started.serve_amd(chip.endorsements, "Genoa", vcek_target)
        started.serve_intel(intel.endorsements(), FMSPC)
        yield started


@pytest.fixture
def time() -> Time:
    return Time()


@dataclass
class Desk:
    """The clients, and what they keep."""

    http: Http
    kds: Kds
    pcs: Pcs
    cache: Path
    notices: list[str]

    @property
    def services(self) -> Services:
        return Services(self.kds, self.pcs)


@pytest.fixture
async def client(anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as opened:
        yield opened


@pytest.fixture
def desk(
    client: httpx.AsyncClient,
    service: Service,
    time: Time,
    chip: sev_snp.SevSnpChip,
    intel: Forge,
    tmp_path: Path,
) -> Desk:
    cache, notices = tmp_path / "cache", list[str]()
    http = Http(client, patience=Patience(attempts=4), clock=time.clock, notice=notices.append)
    fetcher = Fetcher(http, roots=(chip.root, intel.root), cache=Cache(cache), clock=time.clock)
    return Desk(http, Kds(fetcher, service.base), Pcs(fetcher, PcsSource(service.base)), cache, notices)
