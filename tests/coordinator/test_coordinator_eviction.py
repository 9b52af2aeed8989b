"""What a new policy makes of an appraisal that an older one accepted, one change at a time."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from coordinator.eviction import Verdict, judge
from coordinator.ledger import Party
from schemas.evidence import TDX, AttestationResult, PlatformValues
from schemas.messages import ENCLAVE
from schemas.pinning import Pinned
from schemas.policy import Policy, Workload
from tests.coordinator.world import START, World

CHIP = "ab" * 16
MEASURED_AS = dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid"), "11" * 48)
PLATFORM = PlatformValues(
    roots=("aa" * 32, "bb" * 32), minimum_tcb={"pcesvn": 5}, statuses=("UpToDate", "OutOfDate")
)
PINNED = Pinned(measurements=MEASURED_AS, debuggable=True)
RESULT = AttestationResult(
    platform=TDX,
    workload="worker",
    workload_id=bytes(32),
    measurements={**MEASURED_AS, "report_id": "22"},
    chip=CHIP,
    debug=True,
    lab=False,
    status="OutOfDate",
)
PARTY = Party(
    instance=bytes(32),
    kind=ENCLAVE,
    roles=("work",),
    signing_key=bytes(32),
    result=RESULT,
    admission=b"",
    term=1,
    expires=START,
    session_id=bytes(8),
)


def policy(platform: PlatformValues = PLATFORM, pinned: Pinned = PINNED) -> Policy:
    workloads = {"worker": Workload(roles=("work",), on={TDX: pinned})}
    return World().policy(
        platforms={TDX: platform}, workloads=workloads, clients={}, classes={}, tools={}, rules=()
    )


def test_unchanged_policy_keeps_everyone() -> None:
    assert judge(PARTY, policy(), policy()) is Verdict.STAYS


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"statuses": ("UpToDate",)}, Verdict.OUT),
        ({"roots": (), "lab_roots": ("aa" * 32, "bb" * 32)}, Verdict.OUT),
        ({"roots": ("aa" * 32,)}, Verdict.MUST_PROVE),
        ({"roots": ("aa" * 32, "bb" * 32, "cc" * 32)}, Verdict.STAYS),
        ({"minimum_tcb": {"pcesvn": 6}}, Verdict.MUST_PROVE),
        ({"minimum_tcb": {"pcesvn": 5, "sgx": 0}}, Verdict.MUST_PROVE),
        ({"minimum_tcb": {"pcesvn": 4}}, Verdict.STAYS),
        ({"minimum_tcb": {}}, Verdict.STAYS),
        ({"require_crl": True}, Verdict.MUST_PROVE),
    ],
)
def test_change_of_what_a_platform_must_be(changes: dict[str, Any], verdict: Verdict) -> None:
    changed = msgspec.structs.replace(PLATFORM, **changes)
    assert judge(PARTY, policy(), policy(platform=changed)) is verdict


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"debuggable": False}, Verdict.OUT),
        ({"chips": ("cd" * 16,)}, Verdict.OUT),
        ({"chips": (CHIP, "cd" * 16)}, Verdict.STAYS),
        ({"measurements": {**MEASURED_AS, "mrtd": "33" * 48}}, Verdict.OUT),
        ({"measurements": {**MEASURED_AS, "extra": "22"}}, Verdict.OUT),
        ({"measurements": {**MEASURED_AS, "report_id": "22"}}, Verdict.STAYS),
    ],
)
def test_change_of_what_a_workload_must_be(changes: dict[str, Any], verdict: Verdict) -> None:
    changed = msgspec.structs.replace(PINNED, **changes)
    assert judge(PARTY, policy(), policy(pinned=changed)) is verdict


def test_masked_chip_is_none_of_those_that_a_policy_names() -> None:
    masked = msgspec.structs.replace(RESULT, chip="")
    party = replace(PARTY, result=masked)
    changed = msgspec.structs.replace(PINNED, chips=(CHIP,))
    assert judge(party, policy(), policy(pinned=changed)) is Verdict.OUT
