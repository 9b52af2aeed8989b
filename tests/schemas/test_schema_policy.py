"""The policy: what a person writes is what operators sign, and contradictions name the line to mend."""

import re
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from schemas import codec, policy
from schemas.decisions import permitted
from schemas.errors import MalformedError, UsageError
from schemas.evidence import MEASURED, NITRO, SEV_SNP, TDX, PlatformValues
from schemas.pinning import Pinned
from schemas.policy import Client, Policy, TaskClass, Workload
from schemas.rules import Rule
from schemas.vendor_roots import VENDOR_ROOTS
from tests.schemas.strategies import of

MESH = "ab" * 32

TEXT = f"""
mesh = "{MESH}"
version = 3
predecessor = "{"cd" * 32}"
issued = 1_790_000_000_000

[platforms.sev-snp]
roots = ["{VENDOR_ROOTS[SEV_SNP][0]}"]
require_crl = true
minimum_tcb = {{ snp = 22 }}

[platforms.nitro]
roots = ["{VENDOR_ROOTS[NITRO][0]}"]

[coordinators.sev-snp.measurements]
measurement = "{"c0" * 48}"
host_data = "{"c1" * 32}"

[workloads.redactor]
roles = ["redactor"]
on.sev-snp.measurements = {{ measurement = "{"01" * 48}", host_data = "{"02" * 32}" }}
on.nitro.measurements = {{ pcr0 = "{"03" * 48}", pcr1 = "{"04" * 48}", pcr2 = "{"05" * 48}" }}
on.nitro.chips = ["i-0123456789abcdef0"]

[clients.desk]
key = "{"0d" * 32}"
roles = ["submitter"]

[classes.redact]
role = "redactor"
lifetime_seconds = 60

[tools]
pseudonym = "redactor"

[[rules]]
role = "submitter"
may = "submit"
what = "redact"
max_bytes = 1000

[[rules]]
role = "redactor"
may = "call"
what = "pseudonym"
"""
POLICY = policy.parse(TEXT)


def measured(platform: str, byte: str) -> Pinned:
    return Pinned(measurements=dict.fromkeys(MEASURED[platform], byte * 32))


def but(**changes: Any) -> Policy:
    return msgspec.structs.replace(POLICY, **changes)


def test_what_a_person_wrote_is_what_is_read() -> None:
    assert POLICY.workloads["redactor"].on["nitro"].chips == ("i-0123456789abcdef0",)
    assert POLICY.role_kinds() == {"redactor": "enclave", "submitter": "client"}
    assert [each.audience for each in permitted(POLICY).values()] == ["redactor", "redactor"]
    assert [each.constraints.max_bytes for each in permitted(POLICY).values()] == [1000, None]
    assert POLICY.limits.admission_seconds == 600


def test_text_value_and_signed_bytes_are_three_forms_of_one_policy() -> None:
    assert policy.parse(policy.dump(POLICY)) == POLICY
    assert policy.from_compiled(policy.compiled(POLICY)) == POLICY
    assert policy.compiled(policy.parse(policy.dump(POLICY))) == policy.compiled(POLICY)


@settings(max_examples=40)
@given(of(Policy))
def test_any_policy_survives_its_text_even_one_that_contradicts_itself(drawn: Policy) -> None:
    assert msgspec.toml.decode(policy.dump(drawn).encode(), type=Policy) == drawn


def test_reference_values_name_every_workload_on_every_platform_and_no_coordinator() -> None:
    agents, coordinator = POLICY.reference_values(), POLICY.coordinator_values()
    assert [(each.workload, each.platform) for each in agents.workloads] == [
        ("redactor", "nitro"),
        ("redactor", "sev-snp"),
    ]
    assert agents.workloads[0].chips == ("i-0123456789abcdef0",)
    assert [(each.workload, each.platform) for each in coordinator.workloads] == [("coordinator", "sev-snp")]
    # Where no coordinator may run, no coordinator's evidence is looked at.
    assert set(coordinator.platforms) == {"sev-snp"}


def test_signed_bytes_that_contradict_themselves_are_the_peers_fault() -> None:
    compiled = policy.compiled(but(coordinators={}))
    with pytest.raises(MalformedError, match="contradicts itself"):
        policy.from_compiled(compiled)


def test_compiled_bytes_in_another_encoding_are_not_the_policy() -> None:
    compiled = policy.compiled(POLICY)
    for data in (compiled + b"\x00", compiled[:-1], b"", b"\xd9\xd9\xf7" + compiled):
        with pytest.raises(MalformedError):
            policy.from_compiled(data)


LAB = PlatformValues(lab_roots=("ee" * 32,))
TWIN = Workload(roles=("redactor",), on=POLICY.workloads["redactor"].on)

CONTRADICTIONS = {
    "a lab's roots beside a vendor's": (
        but(platforms={**POLICY.platforms, TDX: LAB}),
        "platforms mix lab_roots",
    ),
    "a platform that is not known": (
        but(platforms={**POLICY.platforms, "sgx": POLICY.platforms[SEV_SNP]}),
        "platforms.sgx: sealbus knows only",
    ),
    "no coordinator": (but(coordinators={}), "coordinators: name at least one"),
    "a coordinator elsewhere": (
        but(coordinators={TDX: measured(TDX, "07")}),
        "coordinators.tdx: the policy names no such platform",
    ),
    "a workload elsewhere": (
        but(workloads={"redactor": Workload(roles=("redactor",), on={TDX: measured(TDX, "07")})}),
        "workloads.redactor.on.tdx: the policy names no such platform",
    ),
    "a measurement that is not pinned": (
        but(coordinators={SEV_SNP: Pinned(measurements={"measurement": "07" * 48})}),
        "coordinators.sev-snp: measurement 'host_data' is required",
    ),
    "a workload by the coordinator's name": (
        but(workloads={**POLICY.workloads, "coordinator": Workload(on={SEV_SNP: measured(SEV_SNP, "07")})}),
        "workloads.coordinator: that name is of what",
    ),
    "a role of workloads and of clients": (
        but(clients={"desk": Client(key="0d" * 32, roles=("submitter", "redactor"))}),
        "role 'redactor' is held by workloads and by clients",
    ),
    **{
        f"the reserved role {name}": (
            but(clients={"desk": Client(key="0d" * 32, roles=("submitter", name))}),
            f"role '{name}' is reserved",
        )
        for name in ("coordinator", "operator", "mesh")
    },
    "two names for one client": (
        but(clients={"a": POLICY.clients["desk"], "b": POLICY.clients["desk"]}),
        "clients.b: has the key of clients.a",
    ),
    "two names for one measurement": (
        but(workloads={"redactor": POLICY.workloads["redactor"], "twin": TWIN}),
        "workloads.twin.on.nitro: evidence may match workloads.redactor too",
    ),
    "a class that nobody takes": (
        but(classes={**POLICY.classes, "link": TaskClass(role="linker")}),
        "classes.link: no workload holds role 'linker'",
    ),
    "a class for a client": (
        but(classes={**POLICY.classes, "link": TaskClass(role="submitter")}),
        "classes.link: no workload holds role 'submitter'",
    ),
    "a tool that nobody offers": (
        but(tools={**POLICY.tools, "vault": "vault"}),
        "tools.vault: no workload holds role 'vault'",
    ),
    "a rule for nobody": (
        but(rules=(*POLICY.rules, Rule(role="ghost", may="submit", what="redact"))),
        "rule 3: nobody holds role 'ghost'",
    ),
    "a rule twice": (
        but(rules=(*POLICY.rules, Rule(role="submitter", may="submit", what="redact"))),
        "rule 3 is rule 1 again",
    ),
    "a rule until a day that has no date in UTC": (
        but(
            rules=(
                Rule(
                    role="submitter",
                    may="submit",
                    what="redact",
                    until=datetime.fromisoformat("9999-12-31T23:59:59-05:00"),
                ),
            )
        ),
        "rule 1: choose a day from 1970 to 9999, in UTC",
    ),
    "a rule about no class": (
        but(rules=(Rule(role="submitter", may="submit", what="pseudonym"),)),
        "rule 1: there is no 'pseudonym' to submit",
    ),
    "a rule about no tool": (
        but(rules=(Rule(role="submitter", may="call", what="redact"),)),
        "rule 1: there is no 'redact' to call",
    ),
}


@pytest.mark.parametrize(("contradicting", "text"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_contradiction_names_the_line_to_mend(contradicting: Policy, text: str) -> None:
    assert policy.check(POLICY) is POLICY
    with pytest.raises(UsageError, match=re.escape(text)):
        policy.check(contradicting)


def test_workloads_that_differ_in_their_chips_alone_are_two() -> None:
    here = POLICY.workloads["redactor"].on["nitro"]
    there = msgspec.structs.replace(here, chips=("i-0fedcba9876543210",))
    apart = {"a": Workload(on={"nitro": here}), "b": Workload(on={"nitro": there})}
    plain = but(classes={}, tools={}, rules=())
    assert policy.check(msgspec.structs.replace(plain, workloads=apart))
    # One that takes any chip takes the other's too, and so does one that pins more.
    anywhere = msgspec.structs.replace(here, chips=None)
    more = msgspec.structs.replace(here, measurements={**here.measurements, "pcr8": "06" * 48})
    for other in (anywhere, more):
        with pytest.raises(UsageError, match=r"workloads\.b\.on\.nitro"):
            policy.check(
                msgspec.structs.replace(plain, workloads={**apart, "b": Workload(on={"nitro": other})})
            )


MISTAKES = {
    "not TOML": (TEXT + "[workloads.", r"not TOML: .*at end of document"),
    "a table twice": (TEXT + "\n[clients.desk]\n", r"not TOML: .*line \d+, column \d+"),
    "an unknown field": (TEXT.replace("lifetime_seconds", "lifetime"), r"unknown field `lifetime`.*classes"),
    "a missing field": (TEXT.replace("version = 3", ""), "missing required field `version`"),
    "another action": (TEXT.replace('may = "call"', 'may = "own"'), r"\$\.rules\[1\]\.may"),
    "an action and a newline": (TEXT.replace('may = "call"', 'may = "call\\n"'), r"\$\.rules\[1\]\.may"),
    "version 0": (TEXT.replace("version = 3", "version = 0"), r"\$\.version"),
    "a version past counting": (TEXT.replace("version = 3", f"version = {2**70}"), r"\$\.version"),
    "a number of 5,000 digits": (TEXT.replace("version = 3", "version = " + "9" * 5_000), "not TOML"),
    "a time past counting": (TEXT.replace("issued = 1_790", f"issued = {2**63}_000"), r"\$\.issued"),
    "a date for a time": (TEXT.replace("issued = 1_790_000_000_000", "issued = 2026-11-23"), r"\$\.issued"),
    "a fraction": (TEXT.replace("max_bytes = 1000", "max_bytes = 10.5"), r"\$\.rules\[0\]\.max_bytes"),
    "upper-case digits": (TEXT.replace(MESH, MESH.upper()), r"\$\.mesh"),
    "a role with a space": (TEXT.replace('roles = ["submitter"]', 'roles = ["a b"]'), r"\$\.clients"),
    "no root": (
        TEXT.replace(f'roots = ["{VENDOR_ROOTS[NITRO][0]}"]', "roots = []"),
        r"platforms\.nitro: name the SHA-256",
    ),
    "brackets without end": ("a = " + "[" * 100_000, "not TOML"),
    "half a character": (TEXT + "# \udc80", "not TOML"),
}


@pytest.mark.parametrize(("text", "where"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_found_where_it_is(text: str, where: str) -> None:
    with pytest.raises(UsageError, match=where):
        policy.parse(text)


def test_a_chip_is_written_as_evidence_names_it() -> None:
    assert codec.convert({"measurements": {}, "chips": ["00ff", "i-0123456789abcdef0"]}, Pinned)
    for chip in ("i-", "I-0123456789", "0g", "abc", "00ff\n"):
        with pytest.raises(MalformedError):
            codec.convert({"measurements": {}, "chips": [chip]}, Pinned)
