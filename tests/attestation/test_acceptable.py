"""Every rule by which genuine evidence is accepted or refused, a sentence each."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.acceptable import apart, judge, judge_binding, judge_nonce
from attestation.appraise import accepted
from attestation.claims import CRL, Genuine
from attestation.errors import NotAcceptableError
from attestation.missing import CODES
from attestation.moments import rfc3339
from attestation.sev_snp import FEATURES, SMT_DISABLED
from attestation.tdx.collateral import NAMES
from attestation.trust import Claim, Tier, status_of, vector_of
from schemas.errors import Reason
from schemas.evidence import (
    MEASURED,
    NITRO,
    PLATFORMS,
    SEV_SNP,
    TDX,
    PlatformValues,
    ProductValues,
    Publisher,
    ReferenceValues,
    Tolerance,
    WorkloadValues,
)
from tests.attestation.policies import (
    CHIP,
    KEY,
    LINES,
    NOW,
    ROOT,
    genuine,
    judged,
    milan,
    policy,
    refused_for,
    refused_without_workloads,
    tiers,
    warned_of,
    workload,
)

each_platform = pytest.mark.parametrize("platform", PLATFORMS)
MOMENT = timedelta(microseconds=1)


# --- platform and root --------------------------------------------------------------------------


@each_platform
def test_what_the_policy_names_is_accepted_and_affirmed(platform: str) -> None:
    judgement = judged(genuine(platform), policy(platform))
    assert judgement.findings == ()
    assert judgement.workload == workload(platform)
    assert status_of(vector_of(judgement.findings)) is Tier.AFFIRMING


@each_platform
def test_platform_that_the_policy_leaves_out_is_refused_whatever_else_it_says(platform: str) -> None:
    for other in set(PLATFORMS) - {platform}:
        values = msgspec.structs.replace(policy(other), workloads=(workload(platform),))
        assert refused_for(genuine(platform), values) == (Reason.PLATFORM_NOT_IN_POLICY,)
    nothing = ReferenceValues(platforms={}, workloads=())
    assert refused_for(genuine(platform), nothing) == (Reason.PLATFORM_NOT_IN_POLICY,)


@each_platform
def test_root_that_the_policy_leaves_out_is_refused(platform: str) -> None:
    for roots in ((), ("dd" * 32,), (ROOT[:-2],), (ROOT.upper(),)):
        assert refused_for(genuine(platform), policy(platform, roots=roots)) == (Reason.ROOT_NOT_IN_POLICY,)
    assert refused_for(genuine(platform), policy(platform, roots=("dd" * 32, ROOT))) == ()


def test_a_root_is_good_for_the_platform_that_names_it_and_no_other() -> None:
    values = ReferenceValues(
        platforms={SEV_SNP: PlatformValues(roots=("dd" * 32,)), NITRO: PlatformValues(roots=(ROOT,))},
        workloads=(workload(SEV_SNP),),
    )
    assert refused_for(genuine(SEV_SNP), values) == (Reason.ROOT_NOT_IN_POLICY,)


@each_platform
def test_lab_root_is_as_good_as_a_vendors_and_the_result_says_lab(platform: str) -> None:
    values = policy(platform, roots=(), lab_roots=(ROOT,))
    claims = genuine(platform)
    assert accepted(claims, judged(claims, values), values).lab
    plain = policy(platform)
    assert not accepted(claims, judged(claims, plain), plain).lab


# --- binding ------------------------------------------------------------------------------------


@each_platform
def test_keys_that_the_evidence_does_not_bind_are_refused(platform: str) -> None:
    claims = genuine(platform, nonce=bytes(32) if platform == NITRO else None)
    assert list(judge_binding(claims, bytes(64), bytes(32))) == []
    [finding] = judge_binding(claims, b"\x01" + bytes(63), bytes(32))
    assert (finding.reason, finding.tier) == (Reason.KEY_BINDING_MISMATCH, Tier.CONTRAINDICATED)


def test_only_nitro_answers_the_challenge_beside_the_keys() -> None:
    for nonce in (None, b"", bytes(31), b"\x01" * 32):
        [finding] = judge_binding(genuine(NITRO, nonce=nonce), bytes(64), bytes(32))
        assert finding.reason is Reason.CHALLENGE_UNKNOWN
    for platform in (SEV_SNP, TDX):
        assert list(judge_binding(genuine(platform), bytes(64), b"\x01" * 32)) == []


def test_key_that_a_document_carries_besides_is_refused() -> None:
    claims = genuine(NITRO, nonce=bytes(32), public_key_absent=False)
    [finding] = judge_binding(claims, bytes(64), bytes(32))
    assert finding.reason is Reason.KEY_BINDING_MISMATCH


@pytest.mark.parametrize("platform", [SEV_SNP, TDX])
def test_nonce_stands_for_report_data_with_zeros_behind_it(platform: str) -> None:
    claims = genuine(platform, report_data=b"\x07" * 32 + bytes(32))
    for nonce in (b"\x07" * 32, b"\x07" * 32 + bytes(8), claims.report_data):
        assert list(judge_nonce(claims, nonce)) == []
    for nonce in (b"", b"\x07" * 31, b"\x07" * 33, bytes(64), bytes(65), b"\x07" * 32 + bytes(33)):
        [finding] = judge_nonce(claims, nonce)
        assert finding.reason is Reason.CHALLENGE_UNKNOWN


def test_nonce_of_a_nitro_document_is_its_nonce_exactly() -> None:
    claims = genuine(NITRO, nonce=b"\x07" * 20, report_data=b"\x08" * 20)
    assert list(judge_nonce(claims, b"\x07" * 20)) == []
    for nonce in (b"\x07" * 19, b"\x07" * 20 + b"\0", b"\x08" * 20):
        [finding] = judge_nonce(claims, nonce)
        assert finding.reason is Reason.CHALLENGE_UNKNOWN


# --- isolation ----------------------------------------------------------------------------------


@each_platform
def test_debuggable_guest_is_refused_unless_its_own_workload_is_named_so(platform: str) -> None:
    claims = genuine(platform, debug=True)
    assert refused_for(claims) == (Reason.DEBUG_ENABLED,)
    other = workload(platform, "other", debuggable=True, measurements=dict.fromkeys(MEASURED[platform], "bb"))
    assert refused_for(claims, policy(platform, workload(platform), other)) == (Reason.DEBUG_ENABLED,)
    values = policy(platform, workload(platform), workload(platform, "named", debuggable=True))
    assert refused_for(claims, values) == ()
    named = judged(claims, values).workload
    assert named is not None
    assert named.workload == "named"


@each_platform
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"migratable": True}, Reason.MIGRATABLE),
        ({"service_td": True}, Reason.SERVICE_TD),
        ({"sept_ve_disable": False}, Reason.SEPT_VE_ENABLED),
        ({"unknown_attributes": True}, Reason.ATTRIBUTE_UNKNOWN),
        ({"privilege": 1}, Reason.PRIVILEGE_LEVEL),
    ],
)
def test_guest_that_is_not_its_own_is_refused_under_every_policy(
    platform: str, changes: dict[str, Any], reason: Reason
) -> None:
    claims = genuine(platform, **changes)
    assert refused_for(claims) == (reason,)
    named = workload(platform, debuggable=True)
    assert refused_for(claims, policy(platform, named)) == (reason,)
    [finding] = judged(claims, policy(platform)).findings
    assert finding.claim is Claim.RUNTIME_OPAQUE
    assert reason in refused_without_workloads(claims, PlatformValues(roots=(ROOT,)))


def test_what_a_quote_has_no_field_for_is_told_and_refused_where_the_policy_asks_for_it() -> None:
    claims = genuine(TDX, service_td=None, unstated=("service TD (quote v4, TD 1.0 body)",))
    assert warned_of(claims) == (Reason.NOT_STATED,)
    assert vector_of(judged(claims, policy(TDX)).findings)[Claim.RUNTIME_OPAQUE] == 32
    assert refused_for(claims, policy(TDX, require_stated=True)) == (Reason.NOT_STATED,)
    assert refused_for(genuine(TDX), policy(TDX, require_stated=True)) == ()


@pytest.mark.parametrize("highest", range(4))
def test_vmpl_is_accepted_up_to_the_highest_that_the_policy_names(highest: int) -> None:
    for level in range(4):
        refused = refused_for(genuine(SEV_SNP, privilege=level), policy(SEV_SNP, highest_vmpl=highest))
        assert refused == (() if level <= highest else (Reason.PRIVILEGE_LEVEL,))


# --- measurements -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "name"), [(platform, name) for platform in PLATFORMS for name in MEASURED[platform]]
)
def test_every_required_measurement_has_to_be_the_one_named(platform: str, name: str) -> None:
    seen = genuine(platform).measurements
    for changed in (
        {**seen, name: "ab" * 48},
        {**seen, name: ""},
        {k: v for k, v in seen.items() if k != name},
    ):
        claims = genuine(platform, measurements=changed)
        assert refused_for(claims) == (Reason.MEASUREMENT_NOT_IN_POLICY,)


@pytest.mark.parametrize(
    ("platform", "name"), [(platform, name) for platform in PLATFORMS for name in MEASURED[platform]]
)
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_incomplete_values_match_nothing_and_say_what_they_lack(platform: str, name: str, how: str) -> None:
    pinned = dict(workload(platform).measurements)
    seen = dict(genuine(platform).measurements)
    del pinned[name], seen[name]
    if how == "empty":
        pinned[name] = seen[name] = ""
    values = policy(platform, workload(platform, measurements=pinned))
    for claims in (genuine(platform), genuine(platform, measurements=seen)):
        assert refused_for(claims, values) == (Reason.MEASUREMENT_NOT_PINNED,)
        assert name in judged(claims, values).refusals[0].seen


@each_platform
def test_values_that_name_nothing_match_nothing(platform: str) -> None:
    values = policy(platform, workload(platform, measurements={}))
    assert refused_for(genuine(platform, measurements={}), values) == (Reason.MEASUREMENT_NOT_PINNED,)
    nobody = msgspec.structs.replace(values, workloads=())
    assert refused_for(genuine(platform), nobody) == (Reason.MEASUREMENT_NOT_IN_POLICY,)


@each_platform
def test_any_measurement_is_accepted_under_lab_roots_only(platform: str) -> None:
    anything = workload(platform, measurements={}, unsafe_any_measurement=True)
    claims = genuine(platform, measurements={"mrtd": "77" * 48})
    lab = policy(platform, anything, roots=(), lab_roots=(ROOT,))
    assert refused_for(claims, lab) == ()
    assert refused_for(claims, policy(platform, anything)) == (Reason.MEASUREMENT_NOT_IN_POLICY,)
    # What such values do pin has to be so all the same.
    narrowed = msgspec.structs.replace(anything, measurements={"mrtd": "78" * 48})
    lab = policy(platform, narrowed, roots=(), lab_roots=(ROOT,))
    assert refused_for(claims, lab) == (Reason.MEASUREMENT_NOT_IN_POLICY,)


@each_platform
def test_measurement_beyond_the_required_ones_counts_where_it_is_pinned(platform: str) -> None:
    more = {**workload(platform).measurements, "extra": "ee"}
    values = policy(platform, workload(platform, measurements=more))
    assert refused_for(genuine(platform), values) == (Reason.MEASUREMENT_NOT_IN_POLICY,)
    assert refused_for(genuine(platform, measurements=more), values) == ()


def test_values_of_another_platform_match_nothing_though_all_they_pin_is_there() -> None:
    everything = {name: "aa" * 48 for names in MEASURED.values() for name in names}
    for platform in PLATFORMS:
        for other in set(PLATFORMS) - {platform}:
            claims = genuine(platform, measurements=everything)
            values = policy(platform, workload(other))
            assert refused_for(claims, values) == (Reason.MEASUREMENT_NOT_IN_POLICY,)


def test_refusal_tells_of_the_workload_that_comes_nearest() -> None:
    names = MEASURED[TDX]
    far = workload(TDX, "far", measurements=dict.fromkeys(names, "bb"))
    near = workload(TDX, "near", measurements=dict.fromkeys(names, "aa" * 48) | {"rtmr3": "bb"})
    for order in ((far, near), (near, far)):
        [finding] = judged(genuine(TDX), policy(TDX, *order)).refusals
        assert "near" in finding.wanted
        assert "rtmr3" in finding.seen


# --- publisher ----------------------------------------------------------------------------------


def published(platform: str, **changes: Any) -> WorkloadValues:
    """Name a publisher in place of what is measured."""
    publisher = Publisher(key=KEY, minimum_svn=3 if platform == SEV_SNP else None)
    pinned = {"host_data": "aa" * 48} if platform == SEV_SNP else {}
    return workload(platform, measurements=pinned, publisher=msgspec.structs.replace(publisher, **changes))


@pytest.mark.parametrize("platform", [SEV_SNP, NITRO])
def test_publisher_stands_for_what_its_image_measures(platform: str) -> None:
    other = {**genuine(platform).measurements, "measurement": "01" * 48, "pcr0": "01" * 48, "pcr1": "01" * 48}
    claims = genuine(platform, measurements=other)
    assert refused_for(claims) == (Reason.MEASUREMENT_NOT_IN_POLICY,)
    assert refused_for(claims, policy(platform, published(platform))) == ()


@pytest.mark.parametrize("platform", [SEV_SNP, NITRO])
def test_image_of_another_publisher_or_of_none_is_refused(platform: str) -> None:
    values = policy(platform, published(platform))
    for publishers in ((), ("0e" * 48,), (KEY[:-2],)):
        claims = genuine(platform, publishers=publishers)
        assert refused_for(claims, values) == (Reason.PUBLISHER_NOT_IN_POLICY,)


def test_either_of_id_key_and_author_key_is_a_publisher() -> None:
    for publishers in (("0e" * 48, KEY), (KEY, "0e" * 48)):
        values = policy(SEV_SNP, published(SEV_SNP))
        assert refused_for(genuine(SEV_SNP, publishers=publishers), values) == ()


def test_publisher_does_not_stand_for_what_the_host_says() -> None:
    bare = msgspec.structs.replace(published(SEV_SNP), measurements={})
    assert refused_for(genuine(SEV_SNP), policy(SEV_SNP, bare)) == (Reason.MEASUREMENT_NOT_PINNED,)


@pytest.mark.parametrize(
    ("svn", "reasons"), [(2, (Reason.SVN_TOO_LOW,)), (3, ()), (4, ()), (None, (Reason.SVN_TOO_LOW,))]
)
def test_image_of_the_publisher_has_the_minimum_svn_or_a_later_one(
    svn: int | None, reasons: tuple[Reason, ...]
) -> None:
    assert refused_for(genuine(SEV_SNP, svn=svn), policy(SEV_SNP, published(SEV_SNP))) == reasons


def test_publisher_without_a_minimum_svn_matches_nothing_on_snp() -> None:
    values = policy(SEV_SNP, published(SEV_SNP, minimum_svn=None))
    assert refused_for(genuine(SEV_SNP), values) == (Reason.MEASUREMENT_NOT_PINNED,)


def test_publisher_with_an_svn_matches_nothing_on_nitro_which_states_none() -> None:
    values = policy(NITRO, published(NITRO, minimum_svn=0))
    assert refused_for(genuine(NITRO), values) == (Reason.SVN_TOO_LOW,)


def test_nothing_stands_for_measurements_on_tdx() -> None:
    values = policy(TDX, workload(TDX, measurements={}, publisher=Publisher(key=KEY)))
    assert refused_for(genuine(TDX), values) == (Reason.MEASUREMENT_NOT_PINNED,)


def test_publisher_and_measurements_both_count_where_both_are_named() -> None:
    both = workload(SEV_SNP, publisher=Publisher(key=KEY, minimum_svn=0))
    assert refused_for(genuine(SEV_SNP), policy(SEV_SNP, both)) == ()
    claims = genuine(SEV_SNP, publishers=())
    assert refused_for(claims, policy(SEV_SNP, both)) == (Reason.PUBLISHER_NOT_IN_POLICY,)
    seen = {**claims.measurements, "measurement": "01" * 48}
    claims = genuine(SEV_SNP, measurements=seen)
    assert refused_for(claims, policy(SEV_SNP, both)) == (Reason.MEASUREMENT_NOT_IN_POLICY,)


# --- chips --------------------------------------------------------------------------------------


@each_platform
def test_chip_is_one_of_the_workloads_where_it_names_any(platform: str) -> None:
    claims = genuine(platform)
    assert refused_for(claims, policy(platform, workload(platform, chips=("00", claims.chip)))) == ()
    for chips in ((), ("00",), (claims.chip.upper() + "0",), ("",)):
        values = policy(platform, workload(platform, chips=chips))
        assert refused_for(claims, values) == (Reason.CHIP_NOT_IN_POLICY,)


@each_platform
def test_masked_chip_is_none_of_a_list_even_of_one_that_names_nothing(platform: str) -> None:
    for chips in ((), ("",), ("00",)):
        values = policy(platform, workload(platform, chips=chips))
        assert refused_for(genuine(platform, chip=""), values) == (Reason.CHIP_NOT_IN_POLICY,)
    assert refused_for(genuine(platform, chip="")) == ()


def test_chip_under_a_cloud_key_is_its_own_word_and_on_no_list() -> None:
    claims = genuine(SEV_SNP, key="vlek", cloud="c")
    named = policy(SEV_SNP, workload(SEV_SNP, chips=(CHIP,)))
    assert refused_for(genuine(SEV_SNP), named) == refused_for(claims) == ()
    assert refused_for(claims, named) == (Reason.CHIP_NOT_IN_POLICY,)
    assert judged(claims, named).refusals[0].seen == "a VLEK, which proves no chip"
    assert refused_for(milan(key="vlek"), named) == (Reason.CHIP_NOT_IN_POLICY,)


@pytest.mark.parametrize(
    ("key", "demands", "reasons"),
    [
        ("vcek", {"keys": ("vcek",)}, ()),
        ("vlek", {"keys": ("vcek",)}, (Reason.KEY_NOT_IN_POLICY,)),
        ("vcek", {"keys": ("vlek",)}, (Reason.KEY_NOT_IN_POLICY,)),
        ("", {}, (Reason.KEY_NOT_IN_POLICY,)),
        ("vlek", {"clouds": ("b", "c")}, ()),
        ("vlek", {"clouds": ("b", "C")}, (Reason.CLOUD_NOT_IN_POLICY,)),
        # A chip's own key is no cloud's: to refuse it too, the policy names the kind.
        ("vcek", {"clouds": ("b",)}, ()),
    ],
)
def test_key_that_signed_is_of_a_kind_and_a_cloud_that_the_policy_names(
    key: str, demands: dict[str, Any], reasons: tuple[Reason, ...]
) -> None:
    claims = genuine(SEV_SNP, key=key, cloud="c")
    assert refused_for(claims, policy(SEV_SNP, **demands)) == reasons
    assert refused_without_workloads(claims, PlatformValues(roots=(ROOT,), **demands)) == reasons


def test_line_whose_keys_leaked_needs_a_list_of_chips() -> None:
    assert refused_for(milan()) == (Reason.CHIP_NOT_IN_POLICY,)
    assert refused_for(milan(), policy(SEV_SNP, workload(SEV_SNP, chips=(CHIP,)))) == ()
    assert refused_for(milan(), policy(SEV_SNP, products={"Milan": ProductValues()})) == (
        Reason.CHIP_NOT_IN_POLICY,
    )


def test_line_whose_keys_leaked_is_accepted_where_the_policy_says_any_chip() -> None:
    values = policy(SEV_SNP, products=LINES)
    assert refused_for(milan(), values) == ()
    assert warned_of(milan(), values) == (Reason.ADVISORY_TOLERATED,)
    # Any chip of the line is not any chip of a workload that names its own.
    named = policy(SEV_SNP, workload(SEV_SNP, chips=("00",)), products=LINES)
    assert refused_for(milan(), named) == (Reason.CHIP_NOT_IN_POLICY,)


def test_without_workloads_a_leaked_line_needs_any_chip() -> None:
    values = PlatformValues(roots=(ROOT,))
    assert refused_without_workloads(milan(), values) == (Reason.CHIP_NOT_IN_POLICY,)
    assert refused_without_workloads(milan(), msgspec.structs.replace(values, products=LINES)) == ()
    assert refused_without_workloads(genuine(SEV_SNP), values) == ()


# --- products and floors ------------------------------------------------------------------------


def test_processor_line_is_one_of_those_the_policy_names() -> None:
    assert refused_for(genuine(SEV_SNP), policy(SEV_SNP, products={"Genoa": ProductValues()})) == ()
    turin = policy(SEV_SNP, products={"Turin": ProductValues()})
    assert refused_for(genuine(SEV_SNP), turin) == (Reason.PRODUCT_NOT_IN_POLICY,)
    assert refused_for(genuine(SEV_SNP, product=""), turin) == (Reason.PRODUCT_NOT_IN_POLICY,)
    assert refused_for(genuine(SEV_SNP), policy(SEV_SNP, products={})) == (Reason.PRODUCT_NOT_IN_POLICY,)


@pytest.mark.parametrize("component", ["boot_loader", "snp", "microcode"])
def test_tcb_of_a_line_is_at_its_floor_or_above(component: str) -> None:
    svn = genuine(SEV_SNP).tcb[component]
    for floor, reasons in ((svn - 1, ()), (svn, ()), (svn + 1, (Reason.TCB_NOT_ACCEPTED,))):
        products = {"Genoa": ProductValues(minimum_tcb={component: floor})}
        assert refused_for(genuine(SEV_SNP), policy(SEV_SNP, products=products)) == reasons
        assert refused_for(genuine(SEV_SNP), policy(SEV_SNP, minimum_tcb={component: floor})) == reasons


def test_floors_of_another_line_do_not_count() -> None:
    products = {"Genoa": ProductValues(), "Turin": ProductValues(minimum_tcb={"snp": 255})}
    assert refused_for(genuine(SEV_SNP), policy(SEV_SNP, products=products)) == ()


def test_floors_of_the_platform_count_for_every_line() -> None:
    values = policy(
        SEV_SNP, products={"Genoa": ProductValues(minimum_tcb={"snp": 1})}, minimum_tcb={"snp": 255}
    )
    assert refused_for(genuine(SEV_SNP), values) == (Reason.TCB_NOT_ACCEPTED,)


def test_committed_tcb_has_floors_of_its_own() -> None:
    committed = {"boot_loader": 4, "tee": 0, "snp": 20, "microcode": 200}
    claims = genuine(SEV_SNP, committed_tcb=committed)
    for floor, reasons in ((20, ()), (21, (Reason.TCB_NOT_ACCEPTED,))):
        products = {"Genoa": ProductValues(minimum_committed_tcb={"snp": floor})}
        assert refused_for(claims, policy(SEV_SNP, products=products)) == reasons
    # Nor does a committed TCB lift the one reported.
    products = {"Genoa": ProductValues(minimum_tcb={"snp": 25})}
    claims = genuine(SEV_SNP, committed_tcb={**committed, "snp": 25})
    assert refused_for(claims, policy(SEV_SNP, products=products)) == (Reason.TCB_NOT_ACCEPTED,)


@each_platform
def test_floor_for_a_component_that_is_not_stated_refuses(platform: str) -> None:
    values = policy(platform, minimum_tcb={"fmc": 0})
    assert refused_for(genuine(platform), values) == (Reason.TCB_NOT_ACCEPTED,)
    assert "not stated" in judged(genuine(platform), values).refusals[0].seen
    products = {"Genoa": ProductValues(minimum_committed_tcb={"snp": 0})}
    claims = genuine(SEV_SNP, committed_tcb={})
    assert refused_for(claims, policy(SEV_SNP, products=products)) == (Reason.TCB_NOT_ACCEPTED,)


def test_older_collateral_than_the_policy_asks_for_is_refused() -> None:
    for number, reasons in ((19, ()), (20, (Reason.TCB_NOT_ACCEPTED,))):
        values = policy(TDX, minimum_tcb={"TCB_EVALUATION_DATA_NUMBER": number})
        assert refused_for(genuine(TDX), values) == reasons


# --- TCB status and advisories ------------------------------------------------------------------

BAD_STATUSES = (
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
)


def until(what: str, moment: datetime) -> tuple[Tolerance, ...]:
    return (Tolerance(accept=what, until=moment),)


def test_up_to_date_is_affirmed_and_hardening_needed_warned_of() -> None:
    assert warned_of(genuine(TDX)) == ()
    assert warned_of(genuine(TDX, status="SWHardeningNeeded")) == (Reason.TCB_STATUS_TOLERATED,)


@pytest.mark.parametrize("status", [*BAD_STATUSES, "SomewhatUpToDate", "uptodate", ""])
def test_every_other_status_is_refused_until_the_policy_names_it(status: str) -> None:
    claims = genuine(TDX, status=status)
    assert refused_for(claims) == (Reason.TCB_STATUS_NOT_ACCEPTED,)
    if status:
        assert refused_for(claims, policy(TDX, statuses=(status,))) == ()


def test_policy_may_ask_for_up_to_date_alone() -> None:
    values = policy(TDX, statuses=("UpToDate",))
    assert refused_for(genuine(TDX), values) == ()
    claims = genuine(TDX, status="SWHardeningNeeded")
    assert refused_for(claims, values) == (Reason.TCB_STATUS_NOT_ACCEPTED,)


def test_revoked_tcb_is_refused_whatever_the_policy_says() -> None:
    claims = genuine(TDX, status="Revoked")
    values = policy(TDX, statuses=("Revoked",), exceptions=until("Revoked", NOW + timedelta(days=1)))
    for each in (policy(TDX), values):
        assert refused_for(claims, each) == (Reason.TCB_REVOKED,)


@pytest.mark.parametrize("status", BAD_STATUSES)
def test_excepted_status_is_accepted_until_its_day_and_not_a_moment_longer(status: str) -> None:
    claims, day = genuine(TDX, status=status), NOW + timedelta(days=10)
    values = policy(TDX, exceptions=until(status, day), max_collateral_days=100)
    assert refused_for(claims, values, now=day - MOMENT) == ()
    assert refused_for(claims, values, now=day) == (Reason.TCB_STATUS_NOT_ACCEPTED,)
    assert refused_for(claims, values, now=day + MOMENT) == (Reason.TCB_STATUS_NOT_ACCEPTED,)
    assert warned_of(claims, values) == (Reason.TCB_STATUS_TOLERATED,)


def test_day_of_an_exception_without_a_date_in_utc_ends_nothing() -> None:
    day = datetime.fromisoformat("9999-12-31T23:59:59-05:00")
    claims, values = genuine(TDX, status="OutOfDate"), policy(TDX, exceptions=until("OutOfDate", day))
    assert refused_for(claims, values) == ()
    assert warned_of(claims, values) == (Reason.TCB_STATUS_TOLERATED,)


def test_day_of_an_exception_is_an_instant_in_whatever_zone_it_is_written() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=9)))
    values = policy(TDX, exceptions=until("OutOfDate", there))
    claims = genuine(TDX, status="OutOfDate")
    assert refused_for(claims, values, now=NOW - MOMENT) == ()
    assert refused_for(claims, values, now=NOW) == (Reason.TCB_STATUS_NOT_ACCEPTED,)


def test_exception_for_one_status_or_advisory_is_none_for_another() -> None:
    day = NOW + timedelta(days=1)
    for what in ("ConfigurationNeeded", "INTEL-SA-1", "outofdate", "OutOfDat"):
        values = policy(TDX, exceptions=until(what, day))
        assert refused_for(genuine(TDX, status="OutOfDate"), values) == (Reason.TCB_STATUS_NOT_ACCEPTED,)


@pytest.mark.parametrize(
    ("claims", "refused"),
    [
        ({"status": "SWHardeningNeeded"}, Reason.TCB_STATUS_NOT_ACCEPTED),
        ({"status": "UpToDate"}, Reason.TCB_STATUS_NOT_ACCEPTED),
        ({"advisories": ("SA-1",)}, Reason.ADVISORY_NOT_ACCEPTED),
    ],
)
def test_what_an_exception_names_ends_with_it_though_a_list_accepts_it(
    claims: dict[str, Any], refused: Reason
) -> None:
    [name] = claims.get("advisories") or (claims["status"],)
    for listed in ({}, {"advisories": ("SA-1",)}):
        values = policy(TDX, exceptions=until(name, NOW), **listed)
        assert refused_for(genuine(TDX, **claims), policy(TDX, **listed)) == ()
        assert refused_for(genuine(TDX, **claims), values, now=NOW - MOMENT) == ()
        assert refused_for(genuine(TDX, **claims), values) == (refused,)
        wanted = judged(genuine(TDX, **claims), values).refusals[0].wanted
        assert wanted == f"another: it was accepted until {rfc3339(NOW)}"


def test_of_two_exceptions_the_later_counts() -> None:
    values = policy(
        TDX,
        exceptions=until("OutOfDate", NOW - timedelta(days=1)) + until("OutOfDate", NOW + timedelta(days=1)),
    )
    assert refused_for(genuine(TDX, status="OutOfDate"), values) == ()


@pytest.mark.parametrize("platform", [SEV_SNP, TDX])
def test_advisory_is_told_and_accepted_where_the_policy_names_none(platform: str) -> None:
    claims = genuine(platform, advisories=("SA-1", "SA-2"))
    assert refused_for(claims) == ()
    assert warned_of(claims) == (Reason.ADVISORY_TOLERATED,)
    assert [each.seen for each in judged(claims, policy(platform)).findings] == ["SA-1", "SA-2"]


@pytest.mark.parametrize("platform", [SEV_SNP, TDX])
def test_policy_that_names_advisories_accepts_no_others(platform: str) -> None:
    claims = genuine(platform, advisories=("SA-1", "SA-2"))
    for advisories, reasons in (
        ((), (Reason.ADVISORY_NOT_ACCEPTED,)),
        (("SA-1",), (Reason.ADVISORY_NOT_ACCEPTED,)),
        (("SA-1", "SA-2"), ()),
    ):
        assert refused_for(claims, policy(platform, advisories=advisories)) == reasons
    assert refused_for(genuine(platform), policy(platform, advisories=())) == ()


def test_excepted_advisory_is_accepted_until_its_day_and_not_a_moment_longer() -> None:
    claims, day = genuine(TDX, advisories=("SA-1",)), NOW + timedelta(days=10)
    values = policy(TDX, advisories=(), exceptions=until("SA-1", day))
    assert refused_for(claims, values, now=day - MOMENT) == ()
    assert refused_for(claims, values, now=day) == (Reason.ADVISORY_NOT_ACCEPTED,)


def test_leaked_keys_of_milan_are_an_advisory_that_a_policy_may_refuse() -> None:
    values = policy(SEV_SNP, workload(SEV_SNP, chips=(CHIP,)), advisories=())
    assert refused_for(milan(), values) == (Reason.ADVISORY_NOT_ACCEPTED,)


# --- features, collateral, age ------------------------------------------------------------------


@pytest.mark.parametrize("feature", [*FEATURES, SMT_DISABLED])
def test_feature_that_the_policy_asks_for_has_to_be_on(feature: str) -> None:
    values = policy(SEV_SNP, features=(feature,))
    assert refused_for(genuine(SEV_SNP, features=frozenset({feature})), values) == ()
    others = frozenset({*FEATURES, SMT_DISABLED} - {feature})
    claims = genuine(SEV_SNP, features=others)
    assert refused_for(claims, values) == (Reason.FEATURE_ABSENT,)
    [finding] = judged(claims, values).refusals
    assert (finding.claim, finding.wanted) == (Claim.CONFIGURATION, feature)


def test_absent_revocation_list_is_a_warning_unless_the_policy_requires_one() -> None:
    claims = genuine(SEV_SNP, missing=(CRL,))
    assert warned_of(claims) == (Reason.NO_REVOCATION_LIST,)
    assert vector_of(judged(claims, policy(SEV_SNP)).findings)[Claim.HARDWARE] == 32
    assert refused_for(claims, policy(SEV_SNP, require_crl=True)) == (Reason.NO_REVOCATION_LIST,)
    assert refused_for(genuine(SEV_SNP), policy(SEV_SNP, require_crl=True)) == ()
    # Where its age counts, it has to be there.
    assert refused_for(claims, policy(SEV_SNP, max_collateral_days=9)) == (Reason.NO_REVOCATION_LIST,)


@given(
    missing=st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
    status=st.sampled_from(["", "UpToDate"]),
)
def test_whatever_tdx_collateral_is_absent_refuses_and_each_file_has_its_code(
    missing: list[str], status: str
) -> None:
    refused = refused_for(genuine(TDX, missing=tuple(missing), status=status))
    assert refused == (Reason.NO_COLLATERAL, *(CODES[name] for name in missing))


@pytest.mark.parametrize("days", [1, 3, 366])
@pytest.mark.parametrize("platform", [SEV_SNP, TDX])
def test_collateral_is_as_old_as_the_policy_allows_and_no_older(platform: str, days: int) -> None:
    values = policy(platform, max_collateral_days=days)
    issued = NOW - timedelta(days=days)
    assert refused_for(genuine(platform, collateral_time=issued), values) == ()
    claims = genuine(platform, collateral_time=issued - MOMENT)
    assert refused_for(claims, values) == (Reason.COLLATERAL_TOO_OLD,)
    assert refused_for(claims) == ()


def test_evidence_that_states_a_time_is_as_old_as_the_policy_allows_and_no_older() -> None:
    for seconds in (1, 300, 86_400):
        values = policy(NITRO, max_evidence_seconds=seconds)
        signed = NOW - timedelta(seconds=seconds)
        assert refused_for(genuine(NITRO, time=signed), values) == ()
        assert refused_for(genuine(NITRO, time=signed - MOMENT), values) == (Reason.EVIDENCE_TOO_OLD,)
    assert refused_for(genuine(NITRO, time=NOW - timedelta(seconds=301))) == (Reason.EVIDENCE_TOO_OLD,)


def test_evidence_of_a_clock_that_runs_ahead_is_accepted_for_a_minute() -> None:
    ahead = NOW + timedelta(minutes=1)
    assert refused_for(genuine(NITRO, time=ahead)) == ()
    assert refused_for(genuine(NITRO, time=ahead + MOMENT)) == (Reason.EVIDENCE_TOO_OLD,)


def test_evidence_that_states_no_time_has_no_age() -> None:
    for platform in (SEV_SNP, TDX):
        values = policy(platform, max_evidence_seconds=1)
        assert refused_for(genuine(platform), values, now=NOW + timedelta(days=1)) == ()


# --- all at once --------------------------------------------------------------------------------


def test_everything_that_is_amiss_is_told_and_the_first_is_the_reason() -> None:
    claims = genuine(
        TDX,
        root="dd" * 32,
        debug=True,
        migratable=True,
        service_td=True,
        sept_ve_disable=False,
        unknown_attributes=True,
        status="OutOfDate",
        advisories=("SA-1",),
        missing=("pck_crl.der",),
        collateral_time=NOW - timedelta(days=90),
        measurements={},
    )
    values = policy(TDX, minimum_tcb={"PCESVN": 99}, advisories=(), max_collateral_days=30)
    binding = [*judge_binding(claims, b"\x01" * 64, bytes(32))]
    judgement = judge(claims, values, binding=binding, now=NOW)
    reasons = [
        Reason.ROOT_NOT_IN_POLICY,
        Reason.KEY_BINDING_MISMATCH,
        Reason.DEBUG_ENABLED,
        Reason.MIGRATABLE,
        Reason.SERVICE_TD,
        Reason.SEPT_VE_ENABLED,
        Reason.ATTRIBUTE_UNKNOWN,
        Reason.NO_COLLATERAL,
        Reason.NO_PCK_CRL,
        Reason.COLLATERAL_TOO_OLD,
        Reason.TCB_NOT_ACCEPTED,
        Reason.TCB_STATUS_NOT_ACCEPTED,
        Reason.ADVISORY_NOT_ACCEPTED,
        Reason.MEASUREMENT_NOT_IN_POLICY,
    ]
    assert [each.reason for each in judgement.refusals] == reasons
    assert judgement.workload is None
    with pytest.raises(NotAcceptableError) as refusal:
        accepted(claims, judgement, values)
    assert (refusal.value.reason, *refusal.value.also) == tuple(reasons)


def test_refusal_of_one_thing_has_nothing_beside_it() -> None:
    claims, values = genuine(NITRO, root="dd" * 32), policy(NITRO)
    with pytest.raises(NotAcceptableError, match="the policy wants one of") as refusal:
        accepted(claims, judged(claims, values), values)
    assert (refusal.value.reason, refusal.value.also) == (Reason.ROOT_NOT_IN_POLICY, ())


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("ab" * 48, "cd" * 48, ("abababababababab…", "cdcdcdcdcdcdcdcd…")),
        # Values that differ at the end alone, and one that was cut short, don't look the same.
        ("ab" * 47 + "01", "ab" * 47 + "02", ("…abababab01", "…abababab02")),
        ("ab" * 48, "ab" * 32, ("abababababababab…, 48 bytes", "abababababababab…, 32 bytes")),
        ("", "ab" * 48, ("", "abababababababab…")),
    ],
)
def test_two_values_that_differ_are_told_apart(one: str, other: str, told: tuple[str, str]) -> None:
    assert apart(one, other) == told


def test_warnings_refuse_nothing_and_are_in_the_result() -> None:
    claims = genuine(SEV_SNP, missing=(CRL,), advisories=("SA-1",))
    judgement = judged(claims, policy(SEV_SNP))
    assert set(tiers(judgement).values()) == {Tier.WARNING}
    result = accepted(claims, judgement, policy(SEV_SNP))
    assert result.warnings == (Reason.NO_REVOCATION_LIST, Reason.ADVISORY_TOLERATED)
    assert result.advisories == ("SA-1",)


# --- more demands never accept more -------------------------------------------------------------

Change = Callable[[PlatformValues, WorkloadValues], tuple[PlatformValues, WorkloadValues]]


def demanding(**changes: Any) -> Change:
    return lambda values, named: (msgspec.structs.replace(values, **changes), named)


def naming(**changes: Any) -> Change:
    return lambda values, named: (values, msgspec.structs.replace(named, **changes))


def raising(which: str, component: str, by: int) -> Change:
    def change(values: PlatformValues, named: WorkloadValues) -> tuple[PlatformValues, WorkloadValues]:
        def raised(floors: dict[str, int]) -> dict[str, int]:
            return {**floors, component: floors.get(component, 0) + by}

        if which == "platform":
            return msgspec.structs.replace(values, minimum_tcb=raised(values.minimum_tcb)), named
        products = {
            name: msgspec.structs.replace(line, **{which: raised(getattr(line, which))})
            for name, line in (values.products or {"Genoa": ProductValues()}).items()
        }
        return msgspec.structs.replace(values, products=products), named

    return change


def pinning(name: str, value: str) -> Change:
    # A value that is already pinned stays: another in its place is another demand, not one more.
    return lambda values, named: (
        values,
        msgspec.structs.replace(named, measurements={name: value, **named.measurements}),
    )


def pinning_at_last(values: PlatformValues, named: WorkloadValues) -> tuple[PlatformValues, WorkloadValues]:
    # Under a manufacturer's root such values match nothing, so to take the word back is no demand there.
    return values, msgspec.structs.replace(named, unsafe_any_measurement=False) if values.lab else named


COMPONENTS = st.sampled_from(["snp", "microcode", "PCESVN", "fmc"])
DEMANDS: st.SearchStrategy[Change] = st.one_of(
    st.just(demanding(require_crl=True)),
    st.just(demanding(require_stated=True)),
    st.just(demanding(keys=("vcek",))),
    st.just(demanding(clouds=("c",))),
    st.sampled_from(["SA-1", "SWHardeningNeeded", "OutOfDate", "UpToDate"]).map(
        lambda each: demanding(exceptions=until(each, NOW))
    ),
    st.just(demanding(highest_vmpl=0)),
    st.just(demanding(max_collateral_days=1)),
    st.just(demanding(max_evidence_seconds=1)),
    st.just(demanding(statuses=("UpToDate",))),
    st.just(demanding(statuses=())),
    st.just(demanding(advisories=())),
    st.just(demanding(exceptions=())),
    st.just(demanding(roots=(), lab_roots=())),
    st.sampled_from(sorted(FEATURES)).map(lambda each: demanding(features=("tsme", each))),
    st.just(naming(debuggable=False)),
    st.just(naming(chips=())),
    st.just(pinning_at_last),
    st.builds(
        raising,
        st.sampled_from(["platform", "minimum_tcb", "minimum_committed_tcb"]),
        COMPONENTS,
        st.integers(0, 30),
    ),
    st.builds(pinning, st.sampled_from(["image_id", "rtmr3", "pcr8"]), st.sampled_from(["aa" * 48, "bb"])),
    st.sampled_from(["aa", KEY]).map(lambda key: naming(publisher=Publisher(key=key, minimum_svn=3))),
)


@st.composite
def claims_of(draw: st.DrawFn) -> Genuine:
    platform = draw(st.sampled_from(PLATFORMS))
    claims = genuine(platform)
    rarely = st.sampled_from([False] * 5 + [True])
    if platform == SEV_SNP:
        claims = replace(
            claims,
            product=draw(st.sampled_from(["Genoa", "Milan"])),
            key=draw(st.sampled_from(["vcek", "vlek"])),
            cloud=draw(st.sampled_from(["c", "d"])),
            privilege=draw(st.integers(0, 1)),
            missing=draw(st.sampled_from([(), (CRL,)])),
            features=draw(st.frozensets(st.sampled_from(sorted(FEATURES)))),
        )
    elif platform == TDX:
        claims = replace(
            claims,
            status=draw(st.sampled_from(["UpToDate", "SWHardeningNeeded", "OutOfDate", "Revoked"])),
            unstated=draw(st.sampled_from([(), ("service TD",)])),
            collateral_time=NOW - draw(st.sampled_from([timedelta(hours=1), timedelta(days=9)])),
        )
    else:
        claims = replace(claims, time=NOW - draw(st.sampled_from([timedelta(0), timedelta(minutes=2)])))
    return replace(
        claims,
        debug=draw(rarely),
        chip=draw(st.sampled_from([claims.chip, ""])),
        advisories=draw(st.sampled_from([(), ("SA-1",)])),
        publishers=draw(st.sampled_from([(), (KEY,)])),
    )


@st.composite
def policies_for(draw: st.DrawFn, platform: str) -> tuple[PlatformValues, WorkloadValues]:
    lab = draw(st.booleans())
    values = PlatformValues(
        roots=() if lab else (ROOT,),
        lab_roots=(ROOT,) if lab else (),
        products=draw(st.sampled_from([None, LINES])) if platform == SEV_SNP else None,
        statuses=draw(st.sampled_from([("UpToDate", "SWHardeningNeeded"), ("UpToDate", "OutOfDate")])),
        advisories=draw(st.sampled_from([None, ("SA-1",)])),
        exceptions=draw(st.sampled_from([(), until("OutOfDate", NOW + timedelta(days=1))])),
        features=draw(st.sampled_from([(), ("tsme",)])),
        highest_vmpl=draw(st.integers(0, 1)),
        max_collateral_days=draw(st.sampled_from([None, 30])),
    )
    named = workload(
        platform,
        debuggable=draw(st.booleans()),
        # Milan's chips are named or not: to name them is not one demand more but another.
        chips=draw(st.sampled_from([None, (CHIP, "i-0123456789abcdef0")])),
        # Elsewhere no policy may say so, and such values match nothing.
        unsafe_any_measurement=lab and draw(st.booleans()),
    )
    return values, named


@settings(max_examples=600)
@given(data=st.data())
def test_no_demand_turns_a_refusal_into_an_acceptance(data: st.DataObject) -> None:
    claims = data.draw(claims_of())
    values, named = data.draw(policies_for(claims.platform))
    more_values, more_named = data.draw(DEMANDS)(values, named)

    def accepts(platform: PlatformValues, pinned: WorkloadValues) -> bool:
        whole = ReferenceValues(platforms={claims.platform: platform}, workloads=(pinned,))
        return not refused_for(claims, whole)

    assert accepts(values, named) or not accepts(more_values, more_named)
