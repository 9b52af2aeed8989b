"""A service, a clock, simulated vendors, and a fetcher that trusts the vendors and asks the service."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from attestation.endorsements import Cache, Fetcher, Http, Kds, Patience, Pcs, PcsSource, Services, Subject
from console import cli
from console.documents import make_anchor
from lab.simulate import sev_snp, tdx_issuer
from lab.simulate.tdx_issuer import TdxIssuer, make_root, qe_identity, tcb_info
from sealing.context import SUITE_GCM
from sealing.keys import SigningKey
from tests.amd import amd_root
from tests.attestation.tdx_forge import Forge, new_key
from tests.endorsements.world import NOW, Service, Time, running

FMSPC = "1AB0C06F0000"


@pytest.fixture(scope="session")
def amd() -> dict[str, bytes]:
    return amd_root(NOW)


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


# --- the command: the same, with what is current by this machine's clock, in files ---------------------


@pytest.fixture(scope="session")
def today() -> Forge:
    """A TDX vendor whose collateral is current now: the command goes by the machine's clock."""
    now = datetime.now(UTC)
    forge = Forge(issuer=TdxIssuer.from_files(make_root(now)))
    forge.tcb_info, forge.qe_identity = tcb_info(now), qe_identity(now)
    collateral = forge.issuer.collateral(now=now)
    forge.replaced = {name: collateral[name] for name in ("pck_crl.der", "root_ca_crl.der")}
    return forge


@pytest.fixture
def surroundings(service: Service, today: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service.serve_intel(today.endorsements(), FMSPC)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def folder(today: Forge, tmp_path: Path) -> Path:
    made = tmp_path / "machine"
    made.mkdir()
    (made / "quote.bin").write_bytes(today.quote())
    (tmp_path / "root.der").write_bytes(today.root_der)
    return made


@pytest.fixture
def fetching(service: Service, folder: Path, tmp_path: Path) -> list[str]:
    """The arguments of a fetch for the machine in `folder`."""
    return ["collateral", "fetch", "--pcs", service.base, "--root", str(tmp_path / "root.der"), str(folder)]


@pytest.fixture
def gathered(fetching: list[str], tmp_path: Path) -> Path:
    """A collateral file."""
    out = tmp_path / "collateral.cbor"
    assert cli.run([*fetching, "--out", str(out)]) == 0
    return out


@pytest.fixture
def keys(tmp_path: Path, today: Forge) -> dict[str, SigningKey]:
    """Two operators' keys, in files, with the anchor of their mesh."""
    made = {}
    for name in ("alice", "bob"):
        seed = name.encode().ljust(32, b".")
        made[name] = SigningKey(seed)
        (tmp_path / f"{name}.key").write_bytes(seed if name == "alice" else seed.hex().encode() + b"\n")
    operators = [(name, key.public) for name, key in made.items()]
    (tmp_path / "anchor").write_bytes(make_anchor(operators, 2, [today.root], 1, SUITE_GCM))
    return made
