"""The lab's TDX machines: their evidence passes for genuine everywhere but under a vendor's root."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from attestation import appraise, tdx
from attestation.errors import AttestationError
from lab.simulate.tdx import MEASURED, TdxPlatform, make_root
from schemas.errors import Reason, UsageError
from schemas.evidence import (
    MAX_ENDORSEMENTS,
    MAX_EVIDENCE,
    TDX,
    Evidence,
    PlatformValues,
    ReferenceValues,
    WorkloadValues,
)
from tests.attestation.tdx_forge import SEPT_VE_DISABLE, Forge, judge

NOW = datetime(2026, 11, 23, 12, 0, 0, 654321, tzinfo=UTC)
FILES = make_root(NOW)
MEASUREMENTS = {name: bytes([number]) * 48 for number, name in enumerate(MEASURED, 1)}
KEY_BINDING, CHALLENGE = b"\x2a" * 64, b"\x2b" * 32


@pytest.fixture
def platform() -> TdxPlatform:
    return TdxPlatform.from_files(FILES, serial=1)


@pytest.mark.parametrize("later", [timedelta(0), timedelta(days=29), timedelta(days=5 * 365)])
def test_evidence_is_genuine_and_both_verifiers_say_the_same(later: timedelta) -> None:
    now = NOW + later
    platform = TdxPlatform.from_files(FILES, serial=1)
    evidence, endorsements = platform.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=now)
    genuine = tdx.verify(evidence.value, endorsements, now=now)
    assert evidence.type == tdx.MEDIA_TYPE
    assert genuine.root == platform.root == sha256(FILES["tdx-root.der"]).hexdigest()
    assert genuine.report_data == KEY_BINDING
    assert {name: genuine.measurements[name] for name in MEASURED} == {
        name: value.hex() for name, value in MEASUREMENTS.items()
    }
    assert (genuine.status, genuine.debug, genuine.migratable, genuine.missing) == (
        "UpToDate",
        False,
        False,
        (),
    )
    assert genuine.sept_ve_disable
    assert not genuine.service_td
    judgement = judge(evidence.value, endorsements, FILES["tdx-root.der"], now=now)
    assert (judgement.status, judgement.advisories, judgement.refusal) == ("UpToDate", (), "")


def test_debug_machine_says_so(platform: TdxPlatform) -> None:
    evidence, endorsements = platform.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW, debug=True)
    assert tdx.verify(evidence.value, endorsements, now=NOW).debug
    assert "Debug" in judge(evidence.value, endorsements, FILES["tdx-root.der"], now=NOW).refusal


def test_evidence_fits_the_wire(platform: TdxPlatform) -> None:
    evidence, endorsements = platform.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
    assert len(evidence.value) <= MAX_EVIDENCE
    assert sum(map(len, endorsements.values())) <= MAX_ENDORSEMENTS


def test_machine_is_the_same_chip_after_a_restart_and_another_one_is_not(platform: TdxPlatform) -> None:
    def chip(machine: TdxPlatform) -> str:
        evidence, endorsements = machine.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
        return tdx.verify(evidence.value, endorsements, now=NOW).chip

    assert chip(platform) == chip(TdxPlatform.from_files(FILES, serial=1))
    assert chip(platform) != chip(TdxPlatform.from_files(FILES, serial=2))


def test_collateral_is_kept_while_it_has_days_to_go(platform: TdxPlatform) -> None:
    def endorsements(after: timedelta) -> dict[str, bytes]:
        _, found = platform.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW + after)
        return found

    first = endorsements(timedelta(0))
    assert endorsements(timedelta(days=14)) == first
    renewed = endorsements(timedelta(days=16))
    assert renewed != first


def test_collateral_expires(platform: TdxPlatform) -> None:
    evidence, endorsements = platform.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
    with pytest.raises(AttestationError) as caught:
        tdx.verify(evidence.value, endorsements, now=NOW + timedelta(days=30))
    assert caught.value.reason == Reason.COLLATERAL_EXPIRED


def test_what_a_caller_gets_is_its_own_copy(platform: TdxPlatform) -> None:
    _, endorsements = platform.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
    endorsements.clear()
    assert platform.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)[1]


@pytest.mark.parametrize(
    ("measurements", "key_binding"),
    [
        ({}, KEY_BINDING),
        ({**MEASUREMENTS, "mrtd": b"short"}, KEY_BINDING),
        ({**MEASUREMENTS, "pcr0": bytes(48)}, KEY_BINDING),
        (MEASUREMENTS, b"short"),
    ],
)
def test_misuse_names_the_next_step(
    platform: TdxPlatform, measurements: dict[str, bytes], key_binding: bytes
) -> None:
    with pytest.raises(UsageError):
        platform.evidence(measurements, key_binding, CHALLENGE, now=NOW)


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("damaged", [True, False], ids=["damaged", "missing"])
def test_broken_lab_state_names_the_command_that_mends_it(name: str, damaged: bool) -> None:
    files = {key: value for key, value in FILES.items() if key != name}
    if damaged:
        files[name] = b"damaged"
    with pytest.raises(UsageError, match="sealbus lab init"):
        TdxPlatform.from_files(files, serial=1)


def reference_values(root: str, measurements: dict[str, str]) -> ReferenceValues:
    pinned = {name: measurements[name] for name in MEASURED}
    return ReferenceValues(
        platforms={TDX: PlatformValues(lab_roots=(root,))},
        workloads=(WorkloadValues(workload="redactor", platform=TDX, measurements=pinned),),
    )


def test_door_accepts_the_machine_under_a_policy_that_names_the_lab_root(platform: TdxPlatform) -> None:
    evidence, endorsements = platform.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
    values = reference_values(platform.root, {name: value.hex() for name, value in MEASUREMENTS.items()})
    result = appraise(evidence, endorsements, values, key_binding=KEY_BINDING, challenge=CHALLENGE, now=NOW)
    assert (result.workload, result.lab, result.debug, result.status) == ("redactor", True, False, "UpToDate")


def test_door_refuses_a_td_whose_host_may_inject_exceptions() -> None:
    forge = Forge()
    values = reference_values(forge.root, forge.verify().measurements)

    def admit() -> str:
        evidence = Evidence(type=tdx.MEDIA_TYPE, value=forge.quote())
        return appraise(
            evidence,
            forge.endorsements(),
            values,
            key_binding=forge.td.report_data,
            challenge=CHALLENGE,
            now=NOW,
        ).workload

    assert admit() == "redactor"
    forge.td.attributes ^= SEPT_VE_DISABLE
    with pytest.raises(AttestationError) as caught:
        admit()
    assert caught.value.reason == Reason.SEPT_VE_ENABLED
