"""Every demand on a platform is told when it changes, and which way; nothing of a policy is left out."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from console.policy.demands import Way, demands
from console.policy.difference import as_data, difference, sentences
from schemas.evidence import NITRO, SEV_SNP, TDX, PlatformValues, ProductValues, Publisher, Tolerance
from schemas.pinning import Pinned
from schemas.policy import Client, Limits, Policy, TaskClass
from schemas.rules import Rule
from tests.policy.policies import POLICY, but, pcrs

BLANK = PlatformValues(roots=("aa" * 32,))
UNTIL = datetime(2026, 12, 24, tzinfo=UTC)

# Field of a platform: what demands less, what demands more, and what is said when it rises.
RISES: dict[str, tuple[Any, Any, str]] = {
    "roots": (("aa" * 32, "bb" * 32), ("aa" * 32,), f"root {'bb' * 32} is not accepted any more"),
    "lab_roots": (("bb" * 32,), (), f"root {'bb' * 32} is not accepted any more"),
    "minimum_tcb": ({"snp": 22}, {"snp": 23}, "snp has to be at least 23, was 22"),
    "products": (
        None,
        {"Genoa": ProductValues()},
        "of the processor lines only Genoa are accepted, it was any",
    ),
    "statuses": (("UpToDate", "OutOfDate"), ("UpToDate",), "TCB status OutOfDate is not accepted any more"),
    "advisories": (None, ("INTEL-SA-1",), "of advisories only INTEL-SA-1 is accepted, it was any"),
    "exceptions": (
        (Tolerance(accept="OutOfDate", until=UNTIL),),
        (),
        "the exception for OutOfDate is gone: it is not accepted any more",
    ),
    "keys": (("vcek", "vlek"), ("vcek",), "key kind vlek is not accepted any more"),
    "clouds": (None, ("cloud.example",), "of clouds' keys only cloud.example is accepted, it was any"),
    "require_stated": (False, True, "a word on service TDs is required"),
    "features": ((), ("alias-check",), "feature alias-check is required"),
    "highest_vmpl": (1, 0, "the highest VMPL accepted is 0, was 1"),
    "require_crl": (False, True, "a revocation list is required"),
    "max_collateral_days": (None, 14, "the collateral's greatest age in days is 14, was unbounded"),
    "max_evidence_seconds": (300, 60, "the evidence's greatest age in seconds is 60, was 300"),
}


def test_every_field_of_a_platform_is_among_them() -> None:
    assert set(RISES) == set(PlatformValues.__struct_fields__)


@pytest.mark.parametrize(("field", "case"), RISES.items(), ids=RISES.keys())
def test_a_demand_that_rises_is_told_and_one_that_falls_too(field: str, case: tuple[Any, Any, str]) -> None:
    less, more, text = case
    lax, strict = replace(BLANK, **{field: less}), replace(BLANK, **{field: more})
    (rise,) = demands(SEV_SNP, lax, strict)
    assert (rise.way, rise.text) == (Way.ROSE, text)
    (fall,) = demands(SEV_SNP, strict, lax)
    assert fall.way is Way.FELL
    assert demands(SEV_SNP, strict, strict) == []


def test_an_end_for_what_was_accepted_without_one_is_a_demand_that_rises() -> None:
    later = UNTIL + timedelta(days=1)

    def excepted(name: str, until: datetime, **changes: Any) -> PlatformValues:
        return replace(BLANK, exceptions=(Tolerance(accept=name, until=until),), **changes)

    for name in ("SWHardeningNeeded", "INTEL-SA-1"):
        [rise] = demands(TDX, BLANK, excepted(name, UNTIL))
        assert (rise.way, rise.text) == (Way.ROSE, f"{name} is accepted until {UNTIL.isoformat()}")
        [fall] = demands(TDX, excepted(name, UNTIL), BLANK)
        assert fall.way is Way.FELL
        assert fall.text == f"the exception for {name} is gone: it is accepted without an end"
    [fall] = demands(TDX, excepted("OutOfDate", UNTIL), excepted("OutOfDate", later))
    assert fall.way is Way.FELL
    assert fall.text == f"OutOfDate is accepted until {later.isoformat()}, was {UNTIL.isoformat()}"
    [rise] = demands(TDX, excepted("OutOfDate", later), excepted("OutOfDate", UNTIL))
    assert rise.way is Way.ROSE
    [fall] = demands(TDX, replace(BLANK, advisories=()), excepted("INTEL-SA-1", UNTIL, advisories=()))
    assert fall.way is Way.FELL


@pytest.mark.parametrize(
    ("less", "more", "text"),
    [
        (ProductValues(), ProductValues(minimum_tcb={"snp": 3}), "Genoa snp has to be at least 3"),
        (
            ProductValues(minimum_committed_tcb={"snp": 2}),
            ProductValues(minimum_committed_tcb={"snp": 3}),
            "Genoa committed snp has to be at least 3, was 2",
        ),
        (
            ProductValues(any_chip=True),
            ProductValues(),
            "a Genoa chip has to be named if keys of its line have leaked",
        ),
    ],
    ids=["floor", "committed floor", "chips"],
)
def test_demands_on_a_processor_line_are_told(less: ProductValues, more: ProductValues, text: str) -> None:
    lax, strict = replace(BLANK, products={"Genoa": less}), replace(BLANK, products={"Genoa": more})
    assert demands(SEV_SNP, lax, strict) == [(SEV_SNP, Way.ROSE, text)]
    assert [each.way for each in demands(SEV_SNP, strict, lax)] == [Way.FELL]


def test_a_line_that_is_named_first_brings_its_floors() -> None:
    floored = {"Genoa": ProductValues(minimum_tcb={"snp": 3})}
    rises = demands(SEV_SNP, BLANK, replace(BLANK, products=floored))
    assert [each.way for each in rises] == [Way.ROSE, Way.ROSE]


PINS: dict[str, Any] = {
    "measurements": {**pcrs("02").measurements, "pcr0": "ff" * 48},
    "publisher": Publisher(key="ab" * 48),
    "debuggable": True,
    "chips": ("i-0123456789abcdef0",),
    "unsafe_any_measurement": True,
}


@pytest.mark.parametrize("field", Pinned.__struct_fields__)
def test_every_reference_value_that_changes_is_told(field: str) -> None:
    on = {NITRO: replace(pcrs("02"), **{field: PINS[field]})}
    vault = replace(POLICY.workloads["vault"], on=on)
    # Not checked: a debuggable or unpinned workload is told of before anybody refuses it.
    changed = replace(POLICY, workloads={**POLICY.workloads, "vault": vault})
    (told,) = sentences(difference(POLICY, changed))
    assert told.startswith("workloads.vault.on.nitro: ")


@pytest.mark.parametrize("field", Limits.__struct_fields__)
def test_every_limit_that_changes_is_told(field: str) -> None:
    changed = but(limits=replace(POLICY.limits, **{field: 77}))
    was = getattr(POLICY.limits, field) or "not given"
    assert sentences(difference(POLICY, changed)) == [f"limits.{field} is 77, was {was}"]


def test_every_field_of_a_policy_is_told_when_it_changes_except_what_every_version_changes() -> None:
    changes: dict[str, Any] = {
        "not_before": POLICY.issued + 1,
        "expires": POLICY.issued + 1,
        "platforms": {NITRO: replace(POLICY.platforms[NITRO], max_evidence_seconds=60)},
        "coordinators": {NITRO: pcrs("c1")},
        "workloads": {name: POLICY.workloads[name] for name in ("planner",)},
        "clients": {"desk": Client(key="19" * 32, roles=("requester",))},
        "classes": {"survey": TaskClass(role="planner", lifetime_seconds=5)},
        "tools": {**POLICY.tools, "other": "vault"},
        "messages": {"progress": "vault"},
        "contexts": {"notes": "vault"},
        "rules": (),
        "limits": Limits(grace_seconds=20),
    }
    silent = {"mesh", "version", "predecessor", "issued"}
    assert set(changes) | silent == set(Policy.__struct_fields__)
    for field, value in changes.items():
        assert sentences(difference(POLICY, replace(POLICY, **{field: value}))), field


def test_a_role_that_a_client_gains_is_newly_permitted() -> None:
    gained = but(clients={"desk": Client(key="06" * 32, roles=("requester", "auditor"))})
    assert sentences(difference(POLICY, gained)) == ["newly permitted: client desk may hold role auditor"]
    assert sentences(difference(gained, POLICY)) == ["newly forbidden: client desk may hold role auditor"]


def test_a_platform_that_is_new_or_gone_is_told() -> None:
    more = replace(POLICY, platforms={**POLICY.platforms, SEV_SNP: BLANK})
    assert sentences(difference(POLICY, more)) == [
        "demand on sev-snp fell: evidence of this platform is accepted"
    ]
    assert [each.way for each in difference(more, POLICY).demands] == [Way.ROSE]


def test_the_same_is_there_for_programs() -> None:
    data = as_data(difference(POLICY, but(rules=POLICY.rules[1:])))
    assert msgspec.json.decode(msgspec.json.encode(data)) == data
    assert data["forbidden"] == [
        {
            "role": "requester",
            "action": "submit",
            "what": "survey",
            "audience": "planner",
            "rule": 1,
            "expires": None,
            "max_bytes": 1000,
            "per_minute": None,
            "arguments": None,
            "days": None,
            "hours": None,
            "unless": [],
        }
    ]


@pytest.mark.parametrize("twin", ["d\u0435lete", "del\u034fete", "delete\u3164"])
def test_schemas_that_look_alike_read_differently(twin: str) -> None:
    def deny(text: str) -> Policy:
        rule = Rule(role="requester", deny="submit", what="survey", arguments={"const": text})
        return but(rules=(*POLICY.rules, rule))

    (gained, lost) = sentences(difference(deny("delete"), deny(twin)))[-2:]
    assert gained.isascii()
    assert json.dumps(twin) in gained
    assert '"delete"' in lost


def test_another_time_of_issue_is_told() -> None:
    (told,) = sentences(difference(POLICY, but(issued=4_102_444_800_000)))
    assert told.startswith("issued is 2100-01-01T00:00:00+00:00, was ")
