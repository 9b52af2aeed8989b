"""What a new policy makes of an appraisal that an older one accepted, one change at a time."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from coordinator.eviction import Verdict, judge
from coordinator.ledger import Party, without_chip
from schemas.evidence import (
    SEV_SNP,
    TDX,
    AttestationResult,
    PlatformValues,
    ProductValues,
    Publisher,
    Tolerance,
)
from schemas.messages import ENCLAVE
from schemas.pinning import Pinned
from schemas.policy import Policy, Workload
from tests.coordinator.world import START, World

CHIP = "ab" * 16
MEASURED_AS = dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid"), "11" * 48)
PLATFORM = PlatformValues(
    roots=("aa" * 32, "bb" * 32),
    minimum_tcb={"pcesvn": 5},
    statuses=("UpToDate", "OutOfDate"),
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
    found=without_chip(RESULT),
    chip=RESULT.chip,
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


FLOORED = ProductValues(minimum_tcb={"snp": 5}, minimum_committed_tcb={"snp": 4}, any_chip=True)
TOLERANT = PlatformValues(
    roots=("aa" * 32,),
    statuses=("UpToDate", "OutOfDate"),
    advisories=("SA-1", "SA-2"),
    exceptions=(Tolerance(accept="SA-3", until=datetime(2027, 1, 1, tzinfo=UTC)),),
    products={"Genoa": FLOORED, "Milan": FLOORED},
    features=("tsme",),
    clouds=("a", "b"),
    highest_vmpl=2,
    max_collateral_days=20,
    max_evidence_seconds=200,
)


@pytest.mark.parametrize(
    ("field", "stricter", "looser"),
    [
        ("statuses", ("OutOfDate",), ("OutOfDate", "SWHardeningNeeded", "UpToDate")),
        ("advisories", ("SA-1",), None),
        ("advisories", (), ("SA-1", "SA-2", "SA-9")),
        (
            "exceptions",
            (),
            (*TOLERANT.exceptions, Tolerance(accept="SA-4", until=datetime.max.replace(tzinfo=UTC))),
        ),
        ("features", ("ecc", "tsme"), ()),
        ("highest_vmpl", 1, 3),
        ("max_collateral_days", 19, None),
        ("keys", ("vcek",), ("vcek", "vlek")),
        ("clouds", ("a",), None),
        ("clouds", ("c",), ("a", "b", "c")),
        ("require_stated", True, False),
        ("max_evidence_seconds", 199, 201),
        ("products", {"Genoa": FLOORED}, {"Genoa": FLOORED, "Milan": FLOORED, "Turin": FLOORED}),
        ("products", None, TOLERANT.products),
        (
            "products",
            {"Genoa": FLOORED, "Milan": msgspec.structs.replace(FLOORED, minimum_tcb={"snp": 6})},
            {"Genoa": FLOORED, "Milan": msgspec.structs.replace(FLOORED, minimum_tcb={})},
        ),
        (
            "products",
            {"Genoa": FLOORED, "Milan": msgspec.structs.replace(FLOORED, minimum_committed_tcb={"snp": 5})},
            {"Genoa": FLOORED, "Milan": msgspec.structs.replace(FLOORED, minimum_committed_tcb={"snp": 3})},
        ),
        (
            "products",
            {"Genoa": FLOORED, "Milan": msgspec.structs.replace(FLOORED, any_chip=False)},
            TOLERANT.products,
        ),
    ],
)
def test_who_was_admitted_under_looser_demands_has_to_prove_again(
    field: str, stricter: Any, looser: Any
) -> None:
    def verdict(value: Any) -> Verdict:
        changed = msgspec.structs.replace(TOLERANT, **{field: value})
        return judge(PARTY, policy(platform=TOLERANT), policy(platform=changed))

    assert judge(PARTY, policy(platform=TOLERANT), policy(platform=TOLERANT)) is Verdict.STAYS
    assert verdict(stricter) is Verdict.MUST_PROVE
    assert verdict(looser) is Verdict.STAYS


def test_advisories_that_were_never_listed_are_no_promise() -> None:
    listed = msgspec.structs.replace(TOLERANT, advisories=("SA-1",))
    unlisted = msgspec.structs.replace(TOLERANT, advisories=None)
    assert judge(PARTY, policy(platform=unlisted), policy(platform=listed)) is Verdict.MUST_PROVE


@pytest.mark.parametrize("name", ["SA-1", "OutOfDate"])
def test_an_end_for_what_was_accepted_without_one_has_to_be_proved(name: str) -> None:
    # Whether it has come, and for whom, the result does not say.
    day = datetime(2027, 1, 1, tzinfo=UTC)
    ends = msgspec.structs.replace(
        TOLERANT, exceptions=(*TOLERANT.exceptions, Tolerance(accept=name, until=day))
    )
    assert judge(PARTY, policy(platform=TOLERANT), policy(platform=ends)) is Verdict.MUST_PROVE
    assert judge(PARTY, policy(platform=ends), policy(platform=ends)) is Verdict.STAYS


def test_a_list_of_chips_that_is_new_on_sev_snp_has_to_be_proved() -> None:
    # A VLEK may have signed, and then the chip in the result is the report's own word.
    measured = {"measurement": "11" * 48, "host_data": "22" * 32}
    result = msgspec.structs.replace(RESULT, platform=SEV_SNP, measurements=measured, status="")

    def of(chips: tuple[str, ...] | None) -> Policy:
        pinned = Pinned(measurements=measured, debuggable=True, chips=chips)
        workloads = {"worker": Workload(roles=("work",), on={SEV_SNP: pinned})}
        return World().policy(
            platforms={SEV_SNP: PlatformValues(roots=("aa" * 32,))},
            workloads=workloads,
            clients={},
            classes={},
            tools={},
            rules=(),
        )

    party = msgspec.structs.replace(PARTY, found=without_chip(result), chip=result.chip)
    assert judge(party, of(None), of((CHIP,))) is Verdict.MUST_PROVE
    assert judge(party, of((CHIP,)), of((CHIP,))) is Verdict.STAYS


def test_a_list_of_chips_that_goes_has_to_be_made_up_for() -> None:
    # The processor line is not in the result, and one whose keys leaked is accepted from named chips only.
    named = msgspec.structs.replace(PINNED, chips=(CHIP,))
    assert judge(PARTY, policy(pinned=named), policy()) is Verdict.MUST_PROVE
    assert judge(PARTY, policy(), policy(pinned=named)) is Verdict.STAYS


def test_a_publisher_that_is_new_or_another_has_to_be_proved() -> None:
    def by(key: str) -> Policy:
        return policy(pinned=msgspec.structs.replace(PINNED, publisher=Publisher(key=key)))

    assert judge(PARTY, policy(), by("aa")) is Verdict.MUST_PROVE
    assert judge(PARTY, by("aa"), by("bb")) is Verdict.MUST_PROVE
    assert judge(PARTY, by("aa"), by("aa")) is Verdict.STAYS
    assert judge(PARTY, by("aa"), policy()) is Verdict.STAYS


def test_masked_chip_is_none_of_those_that_a_policy_names() -> None:
    party = msgspec.structs.replace(PARTY, chip="")
    changed = msgspec.structs.replace(PINNED, chips=(CHIP,))
    assert judge(party, policy(), policy(pinned=changed)) is Verdict.OUT
