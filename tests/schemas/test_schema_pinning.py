"""The part of a policy about evidence: what contradicts itself is refused, naming the line to mend."""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from schemas import policy
from schemas.errors import UsageError
from schemas.evidence import (
    MEASURED,
    NITRO,
    PLATFORMS,
    SEV_SNP,
    TDX,
    PlatformValues,
    ProductValues,
    Publisher,
    Tolerance,
    WorkloadValues,
)
from schemas.evidence_policy import parse_for_evidence
from schemas.pinning import (
    Pinned,
    check_pinned,
    check_platforms,
    may_match_both,
)
from schemas.vendor_roots import VENDOR_ROOTS

ROOT = "aa" * 32  # a simulator's
TDX_ROOT = VENDOR_ROOTS[TDX][0]
KEY = "0f" * 48
NOW = datetime(2026, 11, 23, tzinfo=UTC)
NEXT_YEAR = datetime(2027, 11, 23, tzinfo=UTC)


def vendor(platform: str, **changes: Any) -> PlatformValues:
    return msgspec.structs.replace(PlatformValues(roots=VENDOR_ROOTS[platform]), **changes)


def lab(**changes: Any) -> PlatformValues:
    return msgspec.structs.replace(PlatformValues(lab_roots=(ROOT,)), **changes)


def pinned(platform: str, **changes: Any) -> Pinned:
    measured = Pinned(measurements=dict.fromkeys(MEASURED[platform], "11" * 48))
    return msgspec.structs.replace(measured, **changes)


# --- platforms ----------------------------------------------------------------------------------


def test_all_platforms_of_one_kind_hold_together() -> None:
    check_platforms({platform: vendor(platform) for platform in PLATFORMS})
    check_platforms(dict.fromkeys(PLATFORMS, lab()))


@pytest.mark.parametrize(
    ("platforms", "text"),
    [
        ({"sgx": vendor(TDX)}, "platforms.sgx: sealbus knows only sev-snp, tdx, nitro"),
        ({"SEV-SNP": vendor(SEV_SNP)}, "platforms.SEV-SNP: sealbus knows only"),
        ({TDX: PlatformValues()}, "platforms.tdx: name the SHA-256 of at least one manufacturer's root"),
        ({SEV_SNP: vendor(SEV_SNP), TDX: lab()}, "platforms mix lab_roots with manufacturers' roots"),
        ({TDX: vendor(TDX, lab_roots=(ROOT,))}, "platforms mix lab_roots with manufacturers' roots"),
        (
            {NITRO: lab(roots=VENDOR_ROOTS[NITRO]), TDX: lab()},
            "platforms mix lab_roots with manufacturers' roots",
        ),
        (
            {NITRO: lab(lab_roots=(ROOT, VENDOR_ROOTS[NITRO][0]))},
            "platforms.nitro.lab_roots: names a manufacturer's root",
        ),
        ({SEV_SNP: lab(lab_roots=(VENDOR_ROOTS[TDX][0],))}, "sev-snp.lab_roots: names a manufacturer's root"),
        (
            {TDX: vendor(TDX, products={"Genoa": ProductValues()})},
            "platforms.tdx.products: only sev-snp has it",
        ),
        ({NITRO: vendor(NITRO, features=("ecc",))}, "platforms.nitro.features: only sev-snp has it"),
        ({TDX: vendor(TDX, highest_vmpl=1)}, "platforms.tdx.highest_vmpl: only sev-snp has it"),
        ({TDX: vendor(TDX, require_crl=True)}, "platforms.tdx.require_crl: only sev-snp has it"),
        (
            {NITRO: vendor(NITRO, max_collateral_days=9)},
            "nitro.max_collateral_days: only sev-snp and tdx have it",
        ),
        (
            {SEV_SNP: vendor(SEV_SNP, products={})},
            "platforms.sev-snp.products: names none, so it refuses all",
        ),
        ({TDX: vendor(TDX, keys=("vcek",))}, "platforms.tdx.keys: only sev-snp has it"),
        ({NITRO: vendor(NITRO, clouds=("c",))}, "platforms.nitro.clouds: only sev-snp has it"),
        ({SEV_SNP: vendor(SEV_SNP, require_stated=True)}, "sev-snp.require_stated: only tdx has it"),
        ({SEV_SNP: vendor(SEV_SNP, keys=())}, "platforms.sev-snp.keys: names none, so it refuses all"),
        ({SEV_SNP: vendor(SEV_SNP, clouds=())}, "platforms.sev-snp.clouds: names none, so it refuses all"),
        (
            {SEV_SNP: vendor(SEV_SNP, keys=("vcek",), clouds=("c",))},
            "platforms.sev-snp.clouds: only a VLEK names its cloud, and `keys` accepts none",
        ),
        # A root that nobody vouches for would stand among the manufacturers' as if it were theirs.
        ({TDX: vendor(TDX, roots=(*VENDOR_ROOTS[TDX], ROOT))}, f"tdx.roots: {ROOT[:16]}… is none of tdx's"),
        ({TDX: vendor(TDX, roots=VENDOR_ROOTS[NITRO])}, "is none of tdx's manufacturer's"),
        ({SEV_SNP: vendor(SEV_SNP, roots=(ROOT,))}, "a simulator's or a test's root goes in `lab_roots`"),
        ({TDX: vendor(TDX, statuses=("UpToDate", "Revoked"))}, "there is no TCB status 'Revoked' to accept"),
        ({TDX: vendor(TDX, statuses=("uptodate",))}, "there is no TCB status 'uptodate' to accept"),
        ({TDX: vendor(TDX, statuses=("",))}, "there is no TCB status '' to accept"),
    ],
)
def test_platforms_that_contradict_themselves_are_refused(
    platforms: dict[str, PlatformValues], text: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        check_platforms(platforms)


def test_what_is_of_a_platform_may_be_said_of_it() -> None:
    check_platforms(
        {
            SEV_SNP: vendor(
                SEV_SNP,
                products={"Genoa": ProductValues()},
                keys=("vlek",),
                clouds=("cloud.example",),
                max_collateral_days=30,
                features=("ecc",),
                highest_vmpl=3,
                require_crl=True,
            ),
            TDX: vendor(
                TDX, max_collateral_days=30, require_stated=True, statuses=("TDRelaunchAdvised", "OutOfDate")
            ),
        }
    )


# --- pinned values ------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_every_measurement_that_is_required_has_to_be_there(platform: str, how: str) -> None:
    check_pinned(("workloads", "w", "on", platform), pinned(platform), {platform: vendor(platform)})
    for name in MEASURED[platform]:
        measurements = dict(pinned(platform).measurements)
        measurements.pop(name)
        if how == "empty":
            measurements[name] = ""
        text = f"workloads.w.on.{platform}: measurement '{name}' is required"
        with pytest.raises(UsageError, match=re.escape(text)):
            check_pinned(
                ("workloads", "w", "on", platform),
                Pinned(measurements=measurements),
                {platform: vendor(platform)},
            )


@pytest.mark.parametrize(
    ("platform", "values", "text"),
    [
        (TDX, pinned(TDX, unsafe_any_measurement=True), "unsafe_any_measurement is for lab_roots only"),
        (TDX, pinned(TDX, chips=()), "w.tdx.chips: names none, so it refuses all: leave it out for any"),
        (TDX, pinned(TDX, publisher=Publisher(key=KEY)), "w.tdx.publisher: tdx has none"),
        (
            SEV_SNP,
            pinned(SEV_SNP, publisher=Publisher(key="00" * 48, minimum_svn=0)),
            "w.sev-snp.publisher.key: zeros are what evidence without a publisher has",
        ),
        (
            NITRO,
            pinned(NITRO, publisher=Publisher(key="00" * 48)),
            "w.nitro.publisher.key: zeros are what evidence without a publisher has",
        ),
        (
            SEV_SNP,
            pinned(SEV_SNP, publisher=Publisher(key=KEY)),
            "w.sev-snp.publisher: minimum_svn is required, or every old image would do",
        ),
        (
            NITRO,
            pinned(NITRO, publisher=Publisher(key=KEY, minimum_svn=1)),
            "w.nitro.publisher: Nitro states no security version",
        ),
        (
            SEV_SNP,
            Pinned(publisher=Publisher(key=KEY, minimum_svn=1)),
            "w.sev-snp: measurement 'host_data' is required",
        ),
    ],
)
def test_values_that_would_match_more_or_less_than_they_say_are_refused(
    platform: str, values: Pinned, text: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        check_pinned(("w", platform), values, {platform: vendor(platform)})


def test_list_of_chips_where_only_cloud_keys_are_accepted_refuses_all_and_is_refused() -> None:
    named = pinned(SEV_SNP, chips=("ab" * 64,))
    check_pinned(("w", SEV_SNP), named, {SEV_SNP: vendor(SEV_SNP)})
    with pytest.raises(UsageError, match=r"w\.sev-snp\.chips: a VLEK proves no chip"):
        check_pinned(("w", SEV_SNP), named, {SEV_SNP: vendor(SEV_SNP, keys=("vlek",))})


def test_values_of_a_platform_that_the_policy_does_not_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"coordinators\.tdx: the policy names no such platform"):
        check_pinned(("coordinators", TDX), pinned(TDX), {SEV_SNP: vendor(SEV_SNP)})


def test_publisher_stands_for_measurements_where_somebody_checks_it_at_launch() -> None:
    snp = Pinned(measurements={"host_data": "11"}, publisher=Publisher(key=KEY, minimum_svn=0))
    check_pinned(("w", SEV_SNP), snp, {SEV_SNP: vendor(SEV_SNP)})
    check_pinned(("w", NITRO), Pinned(publisher=Publisher(key=KEY)), {NITRO: vendor(NITRO)})


def test_any_measurement_may_be_said_in_a_lab() -> None:
    for platform in PLATFORMS:
        check_pinned(("w", platform), Pinned(unsafe_any_measurement=True), {platform: lab()})


def test_pinned_values_are_those_of_the_workload_with_nothing_lost() -> None:
    values = Pinned(
        measurements={"measurement": "11"},
        publisher=Publisher(key=KEY, minimum_svn=7),
        debuggable=True,
        chips=("00ff",),
        unsafe_any_measurement=True,
    )
    assert values.values("redactor", SEV_SNP) == WorkloadValues(
        workload="redactor",
        platform=SEV_SNP,
        measurements={"measurement": "11"},
        publisher=Publisher(key=KEY, minimum_svn=7),
        debuggable=True,
        chips=("00ff",),
        unsafe_any_measurement=True,
    )
    assert set(Pinned.__struct_fields__) | {"workload", "platform"} == set(WorkloadValues.__struct_fields__)


# --- two workloads that look the same -----------------------------------------------------------

A, B = {"pcr0": "aa"}, {"pcr0": "bb"}
LONG_KEY = "0e" * 48


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Pinned(measurements=A), Pinned(measurements=A), True),
        (Pinned(measurements=A), Pinned(measurements=B), False),
        (Pinned(measurements=A), Pinned(measurements={"pcr1": "bb"}), True),
        (Pinned(measurements=A, chips=("01",)), Pinned(measurements=A, chips=("02",)), False),
        (Pinned(measurements=A, chips=("01", "02")), Pinned(measurements=A, chips=("02",)), True),
        (Pinned(measurements=A, chips=("01",)), Pinned(measurements=A), True),
        (Pinned(publisher=Publisher(key=KEY)), Pinned(publisher=Publisher(key=KEY)), True),
        (Pinned(publisher=Publisher(key=KEY)), Pinned(measurements=A), True),
        (
            Pinned(publisher=Publisher(key=KEY, minimum_svn=1)),
            Pinned(publisher=Publisher(key=KEY, minimum_svn=9)),
            True,
        ),
        (Pinned(unsafe_any_measurement=True), Pinned(measurements=A), True),
    ],
)
def test_two_workloads_match_one_piece_of_evidence_or_cannot(one: Pinned, other: Pinned, both: bool) -> None:
    assert may_match_both(NITRO, one, other) is may_match_both(NITRO, other, one) is both


def of(key: str, **measurements: str) -> Pinned:
    return Pinned(measurements=measurements, publisher=Publisher(key=key))


OTHER_KEY, THIRD_KEY = "0f" * 48, "0a" * 48


@pytest.mark.parametrize(
    ("platform", "one", "other", "both"),
    [
        # One may be the ID key's digest and the other the author key's, of one image.
        (SEV_SNP, of(LONG_KEY), of(OTHER_KEY), True),
        (SEV_SNP, of(LONG_KEY, host_data="aa"), of(OTHER_KEY, host_data="aa"), True),
        (SEV_SNP, of(LONG_KEY, host_data="aa"), of(OTHER_KEY, host_data="bb"), False),
        (SEV_SNP, of(LONG_KEY, host_data="aa"), of(OTHER_KEY, host_data="aa", family_id="01"), True),
        (SEV_SNP, of(LONG_KEY, family_id="02"), of(OTHER_KEY, family_id="01"), False),
        (SEV_SNP, of(LONG_KEY, id_key_digest=LONG_KEY), of(OTHER_KEY, id_key_digest=OTHER_KEY), False),
        (SEV_SNP, of(LONG_KEY, id_key_digest=LONG_KEY), of(OTHER_KEY, author_key_digest=OTHER_KEY), True),
        (SEV_SNP, of(LONG_KEY, id_key_digest=THIRD_KEY), of(OTHER_KEY), False),
        (SEV_SNP, of(LONG_KEY), Pinned(measurements={"id_key_digest": OTHER_KEY}), True),
        (
            SEV_SNP,
            of(LONG_KEY),
            Pinned(measurements={"id_key_digest": OTHER_KEY, "author_key_digest": OTHER_KEY}),
            False,
        ),
        (SEV_SNP, of(LONG_KEY), of(LONG_KEY), True),
        (NITRO, of(LONG_KEY), of(OTHER_KEY), False),
        (NITRO, of(LONG_KEY), Pinned(measurements={"pcr8": OTHER_KEY}), False),
        (NITRO, of(LONG_KEY), Pinned(measurements={"pcr8": LONG_KEY}), True),
    ],
)
def test_two_publishers_may_both_have_signed_where_evidence_states_two_keys(
    platform: str, one: Pinned, other: Pinned, both: bool
) -> None:
    assert may_match_both(platform, one, other) is may_match_both(platform, other, one) is both
    apart = [replace(each, chips=(chip,)) for each, chip in ((one, "01"), (other, "02"))]
    assert not may_match_both(platform, *apart)


# --- a policy for evidence alone ----------------------------------------------------------------

EVIDENCE_ONLY = f"""
[platforms.tdx]
roots = ["{TDX_ROOT}"]
statuses = ["UpToDate"]
max_collateral_days = 30
exceptions = [{{ accept = "OutOfDate", until = 2027-01-01T00:00:00+09:00 }}]

[platforms.sev-snp]
roots = ["{VENDOR_ROOTS[SEV_SNP][0]}"]
products.Milan = {{ any_chip = true, minimum_tcb = {{ snp = 22 }} }}

[coordinators.sev-snp]
measurements = {{ host_data = "{"01" * 32}" }}
publisher = {{ key = "{KEY}", minimum_svn = 2 }}

[workloads.linker]
on.tdx.measurements = {{ {", ".join(f'{name} = "{"02" * 48}"' for name in MEASURED[TDX])} }}
"""

WHOLE = f"""
mesh = "{"ab" * 32}"
version = 1
issued = 1_790_000_000_000
{EVIDENCE_ONLY}
[classes]
[[rules]]
role = "reader"
may = "call"
what = "look"
[clients.desk]
key = "{"0d" * 32}"
roles = ["reader"]
[tools]
look = "linker"
""".replace("[workloads.linker]", '[workloads.linker]\nroles = ["linker"]')


def test_policy_for_evidence_alone_says_what_it_says() -> None:
    read = parse_for_evidence(EVIDENCE_ONLY)
    assert read.platforms[TDX].exceptions[0].until == datetime(2026, 12, 31, 15, tzinfo=UTC)
    products = read.platforms[SEV_SNP].products
    assert products == {"Milan": ProductValues(any_chip=True, minimum_tcb={"snp": 22})}
    values = read.reference_values()
    assert [(each.workload, each.platform) for each in values.workloads] == [
        ("coordinator", SEV_SNP),
        ("linker", TDX),
    ]
    assert values.platforms == read.platforms


def test_whole_policy_is_read_for_its_part_about_evidence() -> None:
    whole, part = parse_for_evidence(WHOLE), parse_for_evidence(EVIDENCE_ONLY)
    assert (whole.platforms, whole.coordinators) == (part.platforms, part.coordinators)
    assert whole.reference_values() == part.reference_values()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", ""),
        (f'mesh = "{"ab" * 32}"', 'mesh = "FILL IN: the mesh"'),
        ('may = "call"', 'may = "submit"'),
        ('look = "linker"', 'look = "nobody"'),
    ],
)
def test_what_only_a_mesh_needs_is_not_asked_of_a_policy_that_judges_evidence(old: str, new: str) -> None:
    text = WHOLE.replace(old, new)
    assert text != WHOLE
    with pytest.raises(UsageError):
        policy.parse(text)
    assert parse_for_evidence(text).reference_values() == parse_for_evidence(WHOLE).reference_values()


def test_a_coordinator_that_is_still_to_be_filled_in_is_nobody() -> None:
    gap = EVIDENCE_ONLY.replace(f'"{"01" * 32}"', '"FILL IN: host_data"')
    assert [each.workload for each in parse_for_evidence(gap).reference_values().workloads] == ["linker"]
    # One that is filled in is still judged, and one that is wrong told, beside it.
    other = gap + f'[coordinators.tdx.measurements]\nmrtd = "{"03" * 48}"\n'
    with pytest.raises(UsageError, match=r"line \d+, column 1: coordinators\.tdx: measurement 'rtmr0'"):
        parse_for_evidence(other)
    with pytest.raises(UsageError, match=r"line \d+, column \d+: coordinators\.tdx: Expected"):
        parse_for_evidence(other.replace(f'"{"03" * 48}"', "3"))
    gap = EVIDENCE_ONLY.replace(f'"{"02" * 48}"', '"FILL IN: rtmr"')
    with pytest.raises(UsageError, match=r"a\.toml is not valid: line \d+, column \d+: .* filled in: rtmr"):
        parse_for_evidence(gap, "a.toml")


def test_whole_policy_with_exceptions_survives_its_text() -> None:
    read = policy.parse(WHOLE)
    assert policy.parse(policy.dump(read)) == read
    assert policy.from_compiled(policy.compiled(read)) == read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (EVIDENCE_ONLY.replace("max_collateral_days", "max_colateral_days"), "unknown field"),
        (EVIDENCE_ONLY.replace("minimum_svn", "min_svn"), "unknown field"),
        (EVIDENCE_ONLY.replace("any_chip", "all_chips"), "unknown field"),
        (EVIDENCE_ONLY.replace("products.Milan", 'keys = ["vcke"]\nproducts.Milan'), "did you mean `vcek`"),
        (EVIDENCE_ONLY + "\n[client]\n", "did you mean `clients`"),
        (WHOLE.replace("version = 1", "versoin = 1"), "did you mean `version`"),
        (EVIDENCE_ONLY.replace("+09:00", ""), "the policy is not valid"),
        (EVIDENCE_ONLY.replace(TDX_ROOT, TDX_ROOT.upper()), "the policy is not valid"),
        (EVIDENCE_ONLY.replace(TDX_ROOT, ""), "the policy is not valid"),
        (EVIDENCE_ONLY.replace("= 30", "= 0"), "the policy is not valid"),
        (
            EVIDENCE_ONLY.replace(TDX_ROOT, TDX_ROOT[:32]),
            "line 3, column 10: platforms.tdx.roots: is no SHA-256",
        ),
        (EVIDENCE_ONLY.replace('"UpToDate"', '"Fine"'), "there is no TCB status 'Fine'"),
        (EVIDENCE_ONLY.replace("rtmr2 =", "rtmr9 ="), "measurement 'rtmr2' is required"),
        (EVIDENCE_ONLY.replace("host_data", "hostdata"), "coordinators.sev-snp: measurement 'host_data'"),
        (EVIDENCE_ONLY.replace("linker", "coordinator"), "workloads.coordinator: that name is of what"),
        ("", "missing required field `platforms`"),
        ("platforms = 3", "the policy is not valid"),
        ("[platforms", "the policy is not TOML"),
        ('mesh = "x"', "missing required field `platforms`"),
        ("a = " + "[" * 100_000, "the policy is not TOML"),
        ("a = '\udc80'", "the policy is not TOML"),
    ],
)
def test_mistake_in_a_policy_for_evidence_is_told(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        parse_for_evidence(text)


@pytest.mark.parametrize(
    ("platform", "changes"),
    [
        (SEV_SNP, {"statuses": ("UpToDate",)}),
        (SEV_SNP, {"max_evidence_seconds": 5}),
        (TDX, {"max_evidence_seconds": 5}),
        (TDX, {"exceptions": (Tolerance(accept="Revoked", until=NEXT_YEAR),)}),
        (TDX, {"exceptions": (Tolerance(accept="outofdate", until=NEXT_YEAR),)}),
        (NITRO, {"exceptions": (Tolerance(accept="SA-1", until=NEXT_YEAR),)}),
    ],
)
def test_what_looks_strict_and_would_check_nothing_is_refused(platform: str, changes: dict[str, Any]) -> None:
    values = vendor(platform, **changes)
    with pytest.raises(UsageError, match=r"nothing|did you mean|can't be accepted"):
        check_platforms({platform: values})


@pytest.mark.parametrize("accept", ["OutOfDate", "INTEL-SA-00615"])
@pytest.mark.parametrize(
    "until", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+14:00", "1969-12-31T00:00:00Z"]
)
def test_an_exception_until_a_day_that_nobody_can_write_down_is_refused(accept: str, until: str) -> None:
    excepted = (Tolerance(accept=accept, until=datetime.fromisoformat(until)),)
    with pytest.raises(UsageError, match="choose one from 1970 to 9999, in UTC"):
        check_platforms({TDX: vendor(TDX, exceptions=excepted)})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("intel-sa-00960", "did you mean 'INTEL-SA-00960'?"),
        ("SA-960", "did you mean 'INTEL-SA-00960'?"),
        ("INTEL-SA-00960 ", "written as INTEL-SA-00837"),
        ("CVE-2024-12345", "written as INTEL-SA-00837"),
        ("milan-vcek-extractable", "written as INTEL-SA-00837"),
    ],
)
def test_an_advisory_that_intel_can_not_have_named_so_is_refused(name: str, meant: str) -> None:
    for changes in (
        {"exceptions": (Tolerance(accept=name, until=NEXT_YEAR),)},
        {"advisories": ("INTEL-SA-00615", name)},
    ):
        with pytest.raises(UsageError, match=re.escape(meant)):
            check_platforms({TDX: vendor(TDX, **changes)})
    # Elsewhere they have other names, and what is none `policy check` tells.
    check_platforms({SEV_SNP: vendor(SEV_SNP, advisories=(name,))})


def test_an_exception_for_a_status_or_an_advisory_is_taken() -> None:
    accepted = tuple(Tolerance(accept=each, until=NEXT_YEAR) for each in ("OutOfDate", "INTEL-SA-00615"))
    check_platforms({TDX: vendor(TDX, exceptions=accepted)})
