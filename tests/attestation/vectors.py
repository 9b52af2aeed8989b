"""Real evidence, by the folder that SEALBUS_EVIDENCE names: all platforms, genuine and not."""

import os
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attestation import nitro, sev_snp, tdx
from attestation.vendors import VENDOR_ROOTS
from schemas.evidence import (
    MEASURED,
    NITRO,
    SEV_SNP,
    TDX,
    Endorsements,
    Evidence,
    PlatformValues,
    ProductValues,
    ReferenceValues,
    WorkloadValues,
)

DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "evidence"
EVIDENCE = Path(os.environ.get("SEALBUS_EVIDENCE") or DEFAULT).resolve()
FILES = {
    SEV_SNP: ("report.bin", sev_snp.MEDIA_TYPE),
    TDX: ("quote.bin", tdx.MEDIA_TYPE),
    NITRO: ("attestation.cbor", nitro.MEDIA_TYPE),
}
NOT_ENDORSEMENTS = {"meta.json", "test_root.der", *(name for name, _ in FILES.values())}
PRODUCTS = {"Milan": ProductValues(any_chip=True), "Genoa": ProductValues(), "Turin": ProductValues()}


@dataclass(frozen=True)
class Vector:
    """One folder of evidence and what its collectors say of it."""

    folder: Path
    evidence: Evidence
    endorsements: Endorsements
    test_root: bytes
    meta: dict[str, Any]

    @property
    def platform(self) -> str:
        return self.folder.parent.name

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.meta["valid_at"])

    @property
    def genuine(self) -> bool:
        return bool(self.meta["expect"] == "ok")

    def policy(self, measurements: dict[str, str]) -> ReferenceValues:
        """Write the policy under which this evidence is as good as it gets."""
        pinned = {name: measurements.get(name, "00") for name in MEASURED[self.platform]}
        roots = VENDOR_ROOTS[self.platform]
        lab_roots = (sha256(self.test_root).hexdigest(),) if self.test_root else ()
        demands = PlatformValues(
            roots=() if lab_roots else roots,
            lab_roots=lab_roots,
            products=PRODUCTS if self.platform == SEV_SNP else None,
        )
        return ReferenceValues(
            platforms={self.platform: demands},
            workloads=(WorkloadValues(workload="vector", platform=self.platform, measurements=pinned),),
        )


@cache
def load(folder: Path) -> Vector:
    """Read one vector."""
    name, media_type = FILES[folder.parent.name]
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return Vector(
        folder=folder,
        evidence=Evidence(media_type, files[name]),
        endorsements={key: value for key, value in files.items() if key not in NOT_ENDORSEMENTS},
        test_root=files.get("test_root.der", b""),
        meta=msgspec.json.decode(files["meta.json"]),
    )


def folders(*platforms: str) -> list[Path]:
    """List the vectors of these platforms."""
    return sorted(each.parent for name in platforms for each in EVIDENCE.glob(f"{name}/*/meta.json"))


def parameters(found: list[Path]) -> list[Any]:
    """Give a parameter for each folder, or one that says that there are none."""
    return [pytest.param(each, id=f"{each.parent.name}/{each.name}") for each in found] or [None]


def present(folder: Path | None) -> Path:
    """Return a folder, or skip the test that has none; in CI, fail it."""
    if folder is not None:
        return folder
    message = "no evidence vectors: set SEALBUS_EVIDENCE to the folder that holds sev-snp/, tdx/ and nitro/"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
