"""Real TDX quotes with Intel's collateral of their time, and synthetic ones under a test root."""

import os
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attestation import tdx
from attestation.claims import Genuine
from attestation.errors import AttestationError
from attestation.tdx.collateral import NAMES
from schemas.errors import Reason
from schemas.evidence import Endorsements
from tests.attestation.tdx_forge import judge

EVIDENCE = Path(
    os.environ.get("SEALBUS_EVIDENCE") or Path(__file__).parents[3] / "shared" / "evidence"
).resolve()
FOLDERS = sorted((EVIDENCE / "tdx").glob("*/quote.bin"))
NOT_ENDORSEMENTS = {"quote.bin", "meta.json", "test_root.der"}

REFUSALS = {
    "neg-derived-v4-expired-collateral": Reason.COLLATERAL_EXPIRED,
    "neg-derived-v4-foreign-fmspc": Reason.COLLATERAL_MISMATCH,
    "neg-derived-v4-mrtd-flipped": Reason.SIGNATURE_INVALID,
    "neg-v4-notcblevel-50806f-spr": Reason.TCB_NOT_RECOGNIZED,
    "neg-v4-notcblevel-b0c06f-tappd": Reason.TCB_NOT_RECOGNIZED,
    "neg-v5-notcblevel-90c06f-trustee5": Reason.TCB_NOT_RECOGNIZED,
}
UNDER_TEST_ROOT = {
    "neg-derived-testroot-pck-revoked": Reason.CERTIFICATE_REVOKED,
}


@dataclass(frozen=True)
class Vector:
    name: str
    quote: bytes
    endorsements: Endorsements
    test_root: bytes
    meta: dict[str, Any]

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.meta["valid_at"])

    def verify(self) -> Genuine | AttestationError:
        try:
            return tdx.verify(self.quote, self.endorsements, now=self.now)
        except AttestationError as error:
            return error


def load(name: str) -> Vector:
    folder = EVIDENCE / "tdx" / name
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return Vector(
        name=name,
        quote=files["quote.bin"],
        endorsements={key: value for key, value in files.items() if key not in NOT_ENDORSEMENTS},
        test_root=files.get("test_root.der", b""),
        meta=msgspec.json.decode(files["meta.json"]),
    )


def names(prefix: str = "", *, collateral: bool = True) -> list[str]:
    chosen = [
        path.parent.name
        for path in FOLDERS
        if path.parent.name.startswith(prefix) and (path.parent / "tcb_info.json").exists() == collateral
    ]
    return chosen or ["absent"]


@pytest.fixture(scope="module")
def evidence() -> None:
    if not FOLDERS:
        absent = f"no TDX evidence under {EVIDENCE}: point SEALBUS_EVIDENCE at the vectors"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)


@pytest.fixture
def vector(request: pytest.FixtureRequest, evidence: None) -> Vector:
    return load(request.param)


@pytest.fixture(scope="module")
def intel_root(evidence: None) -> bytes:
    return (EVIDENCE / "roots" / "intel-sgx-root.der").read_bytes()


@pytest.mark.parametrize("vector", names(), indirect=True)
def test_vector_is_as_genuine_as_it_says_under_the_pinned_intel_root(
    vector: Vector, intel_root: bytes
) -> None:
    verdict = vector.verify()
    pinned = sha256(intel_root).hexdigest()
    accepted = isinstance(verdict, Genuine) and verdict.root == pinned
    assert accepted == (vector.meta["expect"] == "ok")
    if vector.name in REFUSALS:
        assert isinstance(verdict, AttestationError)
        assert verdict.reason == REFUSALS[vector.name]


@pytest.mark.parametrize("vector", names("v"), indirect=True)
def test_vector_claims_what_its_description_says(vector: Vector) -> None:
    verdict = vector.verify()
    assert isinstance(verdict, Genuine)
    # What service TD is bound, nothing here can judge: that one is, refuses.
    measured = {name: value for name, value in vector.meta["measurement"].items() if name != "mrservicetd"}
    assert verdict.measurements == measured
    assert verdict.report_data.hex() == vector.meta["report_data"]
    assert verdict.status == vector.meta["tcb_status"]
    assert verdict.tcb["PCESVN"] == vector.meta["TCB"]["pcesvn"]
    assert [verdict.tcb[f"SGX_TCB_COMP_{n:02}"] for n in range(1, 17)] == vector.meta["TCB"]["pck_svn"]
    assert verdict.debug == ("td-debug" in vector.meta["production_policy"]["reasons"])
    assert bool(verdict.service_td) == ("mrservicetd!=0" in vector.meta["production_policy"]["reasons"])
    assert verdict.sept_ve_disable == ("sept_ve_disable=0" not in vector.meta["production_policy"]["reasons"])


@pytest.mark.parametrize("vector", names("v"), indirect=True)
def test_vector_leaves_production_policy_what_it_needs_to_refuse(vector: Vector) -> None:
    verdict = vector.verify()
    assert isinstance(verdict, Genuine)
    clean = verdict.status == "UpToDate" and verdict.sept_ve_disable
    clean = clean and not (verdict.debug or verdict.migratable or verdict.service_td)
    assert clean == (vector.meta["production_policy"]["verdict"] == "accept")


@pytest.mark.parametrize("vector", names(), indirect=True)
def test_vector_is_judged_as_the_independent_verifier_judges_it(vector: Vector, intel_root: bytes) -> None:
    judgement = judge(vector.quote, vector.endorsements, vector.test_root or intel_root, now=vector.now)
    verdict = vector.verify()
    if judgement.refusal:
        # It mixes in policy: what it refuses is here refused, or claimed for the policy to refuse.
        assert isinstance(verdict, AttestationError) or (
            verdict.debug or verdict.service_td or not verdict.sept_ve_disable or verdict.status == "Revoked"
        )
    else:
        assert isinstance(verdict, Genuine)
        assert (verdict.status, verdict.advisories) == (judgement.status, judgement.advisories)


@pytest.mark.parametrize("vector", names("neg-derived-testroot"), indirect=True)
def test_synthetic_vector_is_as_it_says_under_its_own_root(vector: Vector) -> None:
    verdict = vector.verify()
    if vector.name in UNDER_TEST_ROOT:
        assert isinstance(verdict, AttestationError)
        assert verdict.reason == UNDER_TEST_ROOT[vector.name]
        return
    assert isinstance(verdict, Genuine)
    assert verdict.root == sha256(vector.test_root).hexdigest()
    assert verdict.status == vector.meta["with_test_root"]["mine"]["tcb_status"]
    assert verdict.debug == vector.name.endswith("-debug")


@pytest.mark.parametrize("vector", names(collateral=False), indirect=True)
def test_quote_without_collateral_is_genuine_and_says_what_was_not_checked(vector: Vector) -> None:
    verdict = vector.verify()
    assert isinstance(verdict, Genuine)
    assert (verdict.missing, verdict.status) == (NAMES, "")
