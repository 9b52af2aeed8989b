"""What `policy check` tells: one thing changed in a policy that is right, one finding where it stands."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from attestation import sev_snp
from attestation.vendors import AMD_ROOTS
from console.policy.finding import Finding
from console.policy.findings import findings as other_findings
from console.policy.findings import incomplete, unseen
from console.policy.pin_findings import SIZES
from console.policy.rule_findings import rule_findings
from console.policy.schema_findings import schema_findings
from lab.simulate.sev_snp import SevSnpChip
from schemas.evidence import NITRO, SEV_SNP, TDX, PlatformValues, ProductValues, Publisher, Tolerance
from schemas.narrowing import SchemaError, compile_schema
from schemas.placeholders import placeholder
from schemas.policy import Client, Policy, TaskClass, Workload
from schemas.rules import Rule
from schemas.toml_place import printable
from schemas.vendor_roots import VENDOR_ROOTS
from tests.amd import amd_root
from tests.attestation.tdx_forge import Forge
from tests.policy.policies import ISSUED, POLICY, but, pcrs, platform


def findings(policy: Policy, *, now: datetime) -> list[Finding]:
    """Return all that `policy check` has to say."""
    return [*other_findings(policy, now=now), *rule_findings(policy, now=now)]


NOW = datetime(2026, 11, 23, tzinfo=UTC)
VAULT = POLICY.workloads["vault"]
TWO_ROLES = {"desk": Client(key="06" * 32, roles=("requester", "clerk"))}


def vault(**changes: Any) -> Policy:
    """Return the policy with another vault."""
    return but(workloads={**POLICY.workloads, "vault": replace(VAULT, **changes)})


def on_lab(**changes: Any) -> Policy:
    """Return a lab's policy, with a switch of the vault's."""
    pinned = replace(pcrs("02"), **changes)
    return but(
        platforms={NITRO: PlatformValues(lab_roots=("aa" * 32,))},
        workloads={**POLICY.workloads, "vault": replace(VAULT, on={NITRO: pinned})},
    )


def excepted(accept: str, until: datetime) -> Policy:
    return platform(TDX, exceptions=(Tolerance(accept=accept, until=until),))


def permit_and_deny(tool: str, **conditions: Any) -> tuple[Rule, Rule]:
    """Return a rule that permits the vault to call a tool, and one that forbids it."""
    return (
        Rule(role="vault", may="call", what=tool, **conditions),
        Rule(role="vault", deny="call", what=tool, **conditions),
    )


LATER = datetime(2027, 1, 1, tzinfo=UTC)

CASES: dict[str, tuple[Policy, str, tuple[str | int, ...]]] = {
    "a policy of a time to come": (but(issued=4_102_444_800_000), "issued-ahead", ("issued",)),
    "a policy whose time is over": (but(expires=ISSUED + 1), "expired-policy", ("expires",)),
    "an exception whose day has come": (
        excepted("OutOfDate", NOW),
        "expired-exception",
        ("platforms", TDX, "exceptions", 0),
    ),
    "a platform without use": (
        but(platforms={**POLICY.platforms, TDX: PlatformValues(roots=VENDOR_ROOTS[TDX])}),
        "unused-platform",
        ("platforms", TDX),
    ),
    "a lab": (on_lab(), "unsafe-switch", ("platforms", NITRO, "lab_roots")),
    "a workload that may be debugged": (
        vault(on={NITRO: replace(pcrs("02"), debuggable=True)}),
        "unsafe-switch",
        ("workloads", "vault", "on", NITRO, "debuggable"),
    ),
    "a lower privilege level": (
        platform(SEV_SNP, highest_vmpl=2),
        "unsafe-switch",
        ("platforms", SEV_SNP, "highest_vmpl"),
    ),
    "a status of TDX that is excepted on SEV-SNP": (
        platform(SEV_SNP, exceptions=(Tolerance(accept="OutOfDate", until=LATER),)),
        "idle-demand",
        ("platforms", SEV_SNP, "exceptions", 0),
    ),
    "an advisory that no SEV-SNP evidence has": (
        platform(SEV_SNP, advisories=("milan-vcek-extractable", "INTEL-SA-01")),
        "idle-demand",
        ("platforms", SEV_SNP, "advisories", 1),
    ),
    "advisories on Nitro": (
        platform(NITRO, advisories=()),
        "idle-demand",
        ("platforms", NITRO, "advisories"),
    ),
    "a processor line that is none": (
        platform(SEV_SNP, products={"Genao": ProductValues()}),
        "unknown-name",
        ("platforms", SEV_SNP, "products", "Genao"),
    ),
    "a processor line without its root": (
        platform(SEV_SNP, roots=(AMD_ROOTS["Genoa"],), products={"Turin": ProductValues()}),
        "line-without-root",
        ("platforms", SEV_SNP, "products", "Turin"),
    ),
    "a feature that is none": (
        platform(SEV_SNP, features=("alias-chek",), products={"Genoa": ProductValues()}),
        "unknown-name",
        ("platforms", SEV_SNP, "features", 0),
    ),
    "a floor for a component that is none": (
        platform(TDX, minimum_tcb={"TEE_TCB_SVN_99": 3}),
        "unknown-name",
        ("platforms", TDX, "minimum_tcb", "TEE_TCB_SVN_99"),
    ),
    "a floor on SEV-SNP for a component that is none": (
        platform(SEV_SNP, minimum_tcb={"ucode": 3}, products={"Genoa": ProductValues()}),
        "unknown-name",
        ("platforms", SEV_SNP, "minimum_tcb", "ucode"),
    ),
    "a floor for a component of another processor line": (
        platform(SEV_SNP, products={"Genoa": ProductValues(minimum_committed_tcb={"fmc": 1})}),
        "unknown-name",
        ("platforms", SEV_SNP, "products", "Genoa", "minimum_committed_tcb", "fmc"),
    ),
    "a platform that accepts no status": (
        platform(TDX, statuses=()),
        "never-met",
        ("platforms", TDX, "statuses"),
    ),
    "a measurement that was cut short": (
        vault(on={NITRO: replace(pcrs("02"), measurements=pcrs("02").measurements | {"pcr1": "02"})}),
        "never-met",
        ("workloads", "vault", "on", NITRO, "measurements", "pcr1"),
    ),
    "a measurement that is none": (
        vault(on={NITRO: replace(pcrs("02"), measurements=pcrs("02").measurements | {"pcr32": "02" * 48})}),
        "unknown-name",
        ("workloads", "vault", "on", NITRO, "measurements", "pcr32"),
    ),
    "a publisher's key that was cut short": (
        vault(on={NITRO: replace(pcrs("02"), publisher=Publisher(key="02"))}),
        "never-met",
        ("workloads", "vault", "on", NITRO, "publisher", "key"),
    ),
    "a workload that is the coordinator": (
        vault(on={NITRO: POLICY.coordinators[NITRO]}),
        "same-as-coordinator",
        ("workloads", "vault", "on", NITRO),
    ),
    "a chip of another platform": (
        vault(on={NITRO: replace(pcrs("02"), chips=("i-0123456789abcdef0", "ab" * 64))}),
        "never-met",
        ("workloads", "vault", "on", NITRO, "chips", 1),
    ),
    "any chip of a line whose keys have leaked": (
        platform(SEV_SNP, products={"Milan": ProductValues(any_chip=True)}),
        "unsafe-switch",
        ("platforms", SEV_SNP, "products", "Milan", "any_chip"),
    ),
    "a workload that runs nowhere": (
        but(
            workloads={**POLICY.workloads, "idle": Workload(roles=("vault",), on={})},
        ),
        "workload-nowhere",
        ("workloads", "idle"),
    ),
    "a workload without roles": (
        but(workloads={**POLICY.workloads, "idle": Workload(on={NITRO: pcrs("03")})}),
        "without-roles",
        ("workloads", "idle"),
    ),
    "a client without roles": (
        but(clients={**POLICY.clients, "idle": Client(key="19" * 32, roles=())}),
        "without-roles",
        ("clients", "idle"),
    ),
    "a role that does nothing": (but(clients=TWO_ROLES), "idle-role", ("clients", "desk", "roles", 1)),
    "a tool that nobody may call": (
        but(tools={**POLICY.tools, "lexicon": "vault"}),
        "unreachable-tool",
        ("tools", "lexicon"),
    ),
    "a class that nobody may submit": (
        but(classes={**POLICY.classes, "redact": TaskClass(role="planner")}),
        "unreachable-class",
        ("classes", "redact"),
    ),
    "a rule within a wider one of the same holders": (
        but(
            clients=TWO_ROLES,
            rules=(*POLICY.rules, Rule(role="clerk", may="submit", what="survey", max_bytes=10)),
        ),
        "shadowed-rule",
        ("rules", 2),
    ),
    "one of two rules that permit the same holders the same": (
        but(
            clients=TWO_ROLES,
            rules=(*POLICY.rules, Rule(role="clerk", may="submit", what="survey", max_bytes=1000)),
        ),
        "shadowed-rule",
        ("rules", 2),
    ),
    "a rule that another forbids always": (
        but(
            tools={**POLICY.tools, "lexicon": "vault"},
            rules=(
                *POLICY.rules,
                *permit_and_deny("lexicon"),
                Rule(role="planner", may="call", what="lexicon"),
            ),
        ),
        "shadowed-rule",
        ("rules", 2),
    ),
    "a rule that another forbids whenever it permits": (
        but(rules=(*POLICY.rules, *permit_and_deny("pseudonym", days=("sat",)))),
        "shadowed-rule",
        ("rules", 2),
    ),
    "a rule that forbids what another forbids already": (
        but(
            rules=(
                *POLICY.rules,
                Rule(role="vault", deny="call", what="pseudonym"),
                Rule(role="vault", deny="call", what="pseudonym", hours="01:00-02:00"),
            )
        ),
        "shadowed-rule",
        ("rules", 3),
    ),
    "a rule whose day has come": (
        but(rules=(POLICY.rules[0], replace(POLICY.rules[1], until=NOW))),
        "ended-rule",
        ("rules", 1, "until"),
    ),
    "a tool that is forbidden to all who may call it": (
        but(rules=(POLICY.rules[0], Rule(role="planner", deny="call", what="pseudonym"))),
        "unreachable-tool",
        ("tools", "pseudonym"),
    ),
    "a context that nobody reads or writes": (
        but(contexts={"notes": "vault"}),
        "unreachable-context",
        ("contexts", "notes"),
    ),
}


def test_a_policy_that_is_right_has_no_findings() -> None:
    floors = {"TCB_EVALUATION_DATA_NUMBER": 19, "SGX_TCB_COMP_16": 1, "TEE_TCB_SVN_15": 1, "PCESVN": 11}
    assert findings(platform(TDX, minimum_tcb=floors), now=NOW) == []
    assert findings(POLICY, now=NOW) == []
    assert findings(platform(SEV_SNP, products={"Genoa": ProductValues()}), now=NOW) == []


@pytest.mark.parametrize(("policy", "code", "path"), CASES.values(), ids=CASES.keys())
def test_one_thing_amiss_is_one_finding_at_its_place(
    policy: Policy, code: str, path: tuple[str | int, ...]
) -> None:
    (found,) = findings(policy, now=NOW)
    assert (found.code, found.path) == (code, path)


@pytest.mark.parametrize(
    ("name", "chip", "told"),
    [
        (SEV_SNP, "ab" * 64, False),
        (SEV_SNP, "ab" * 8, False),
        (SEV_SNP, "aabb", True),
        (SEV_SNP, "00" * 64, True),
        (SEV_SNP, "00" * 8, True),
        (SEV_SNP, "i-0123456789abcdef0", True),
        (TDX, "ab" * 16, False),
        (TDX, "ab" * 64, True),
    ],
)
def test_a_chip_has_the_size_of_its_platforms(name: str, chip: str, told: bool) -> None:
    policy = platform(name, **({"products": {"Genoa": ProductValues()}} if name == SEV_SNP else {}))
    pinned = {name: replace(policy.coordinators[name], chips=(chip,))}
    found = findings(replace(policy, coordinators=pinned), now=NOW)
    assert [each.code for each in found] == (["never-met"] if told else [])


def test_a_turin_chip_in_all_of_its_field_is_told_with_what_to_write_instead() -> None:
    policy = platform(SEV_SNP, products={"Turin": ProductValues()})
    chip = "3b42092f69c656d3"
    chips = (chip + "00" * 56, chip, "ab" * 56 + "00" * 8)
    pinned = {SEV_SNP: replace(policy.coordinators[SEV_SNP], chips=chips)}
    (found,) = findings(replace(policy, coordinators=pinned), now=NOW)
    assert (found.code, found.path) == ("never-met", ("coordinators", SEV_SNP, "chips", 0))
    assert found.text.endswith(f'write "{chip}"')


def test_the_verifiers_name_what_may_be_pinned() -> None:
    claims = Forge().verify()
    assert {name: len(value) // 2 for name, value in claims.measurements.items()} == SIZES[TDX]
    chip = SevSnpChip.from_files(amd_root(NOW), serial=1)
    body = bytearray(chip.body({"measurement": b"\1" * 48, "host_data": b"\2" * 32}, bytes(64)))
    body[0x048] = 1  # there is an author key
    claims = sev_snp.verify(chip.sign(bytes(body)), chip.endorsements, now=NOW)
    assert {name: len(value) // 2 for name, value in claims.measurements.items()} == SIZES[SEV_SNP]


def test_a_status_that_is_excepted_is_accepted_where_no_other_is() -> None:
    excepted = (Tolerance(accept="UpToDate", until=LATER),)
    assert findings(platform(TDX, statuses=(), exceptions=excepted), now=NOW) == []


def test_a_rule_for_who_runs_nowhere_is_dead() -> None:
    found = findings(vault(on={}), now=NOW)
    assert [(each.code, each.path) for each in found] == [
        ("workload-nowhere", ("workloads", "vault")),
        ("dead-rule", ("rules", 1)),
    ]


def test_any_measurement_is_told_beside_the_lab_that_permits_it() -> None:
    found = findings(on_lab(unsafe_any_measurement=True), now=NOW)
    assert [each.path[-1] for each in found] == ["lab_roots", "unsafe_any_measurement"]


def test_a_rule_is_not_shadowed_where_somebody_holds_its_role_alone() -> None:
    clients = {**TWO_ROLES, "clerk": Client(key="19" * 32, roles=("clerk",))}
    rules = (*POLICY.rules, Rule(role="clerk", may="submit", what="survey", max_bytes=10))
    assert findings(but(clients=clients, rules=rules), now=NOW) == []


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({"products": {"Milan": ProductValues()}}, True),
        ({"roots": (AMD_ROOTS["Milan"],)}, True),
        ({"roots": tuple(AMD_ROOTS.values()), "products": {"Genoa": ProductValues()}}, False),
        ({"roots": (AMD_ROOTS["Genoa"],)}, False),
    ],
    ids=["named", "by its root", "not among the lines", "not by its root"],
)
def test_milan_is_for_workloads_with_chips(values: dict[str, Any], warned: bool) -> None:
    policy = platform(SEV_SNP, **values)
    found = [each for each in findings(policy, now=NOW) if each.code == "milan-without-chips"]
    assert [each.path[0] for each in found] == (["coordinators", "workloads"] if warned else [])
    planner = policy.workloads["planner"]
    coordinator, agent = (
        {SEV_SNP: replace(each[SEV_SNP], chips=("ab" * 64,))} for each in (policy.coordinators, planner.on)
    )
    listed = replace(policy, coordinators=coordinator, workloads={"planner": replace(planner, on=agent)})
    assert findings(listed, now=NOW) == []


def test_placeholders_are_named_one_by_one() -> None:
    data = {
        "mesh": placeholder("the mesh"),
        "a": [{"b": placeholder("c")}],
        placeholder("a name"): {"x": "FILL"},
    }
    assert [(each.code, each.path) for each in incomplete(data)] == [
        ("fill-in", ("mesh",)),
        ("fill-in", ("a", 0, "b")),
        ("fill-in", (placeholder("a name"),)),
    ]


INT = {"type": "integer"}
BOUNDS: dict[str, tuple[str, dict[str, Any], list[tuple[str | int, ...]]]] = {
    "a number of no type": (
        "may",
        {"type": "object", "properties": {"n": {"maximum": 10, "minimum": 1}}},
        [("properties", "n", "maximum")],
    ),
    "a number of its type": ("may", {"type": "object", "properties": {"n": {**INT, "maximum": 10}}}, []),
    "an object of no type": ("may", {"required": ["a"], "properties": {}}, [("required",)]),
    "items of no type": (
        "may",
        {"type": "array", "items": {"pattern": "^a$", "maximum": 1}},
        [("items", "pattern"), ("items", "maximum")],
    ),
    "what may be beside the properties": (
        "may",
        {"type": "object", "additionalProperties": {"maxLength": 1}},
        [("additionalProperties", "maxLength")],
    ),
    "a type that stands around the cases": ("may", {**INT, "anyOf": [{"maximum": 1}, {"minimum": 9}]}, []),
    "a type that stands in one of all": ("may", {"allOf": [INT, {"maximum": 1}]}, []),
    "a type in one case of two": (
        "may",
        {"anyOf": [INT, {"maximum": 1}]},
        [("anyOf", 1, "maximum")],
    ),
    "values that are named": ("may", {"enum": [1, 2], "maximum": 3}, []),
    "turned round": ("may", {"not": {"maximum": 3}}, []),
    "turned round twice": ("may", {"not": {"not": {"maximum": 3}}}, [("not", "not", "maximum")]),
    "a deny, which holds for other types too": ("deny", {"required": ["wipe"]}, []),
    "a deny of what does not fit": ("deny", {"not": {"maximum": 3}}, [("not", "maximum")]),
}


@pytest.mark.parametrize(("verb", "schema", "paths"), BOUNDS.values(), ids=BOUNDS.keys())
def test_a_bound_without_a_type_is_told_where_it_lets_others_pass(
    verb: str, schema: dict[str, Any], paths: list[tuple[str | int, ...]]
) -> None:
    what: dict[str, Any] = {verb: "call"}
    rule = Rule(role="planner", what="pseudonym", arguments=schema, **what)
    found = schema_findings(but(rules=(rule,)))
    assert [each.path for each in found] == [("rules", 0, "arguments", *path) for path in paths]
    assert {each.code for each in found} <= {"schema-without-type"}


def test_a_text_that_is_spelt_in_parts_reads_like_another() -> None:
    for text, found in (("r\u00e9sum\u00e9", False), ("re\u0301sume", True), ("e\u0301", True)):
        schemas: tuple[dict[str, Any], ...] = (
            {"enum": ["other", text]},
            {"type": "string", "pattern": f"^{text}$"},
            {"type": "object", "properties": {text: {"type": "string"}}},
        )
        for schema in schemas:
            rule = Rule(role="requester", deny="submit", what="survey", arguments=schema)
            codes = {each.code for each in schema_findings(but(rules=(*POLICY.rules, rule)))}
            assert codes == ({"not-composed"} if found else set()), schema
    described = Rule(role="requester", deny="submit", what="survey", arguments={"description": "e\u0301"})
    assert schema_findings(but(rules=(described,))) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("delete", False),
        ("löschen", False),
        ("удалить", False),
        ("削除する", False),
        ("d\u0435lete", True),
        ("d\uff45lete", True),
    ],
)
def test_a_text_of_several_scripts_may_read_like_another(text: str, found: bool) -> None:
    for schema in (
        {"const": text},
        {"enum": ["other", text]},
        {"type": "object", "properties": {text: {"type": "string"}}},
        {"type": "object", "properties": {"title": {"const": text}}},
    ):
        rule = Rule(role="requester", deny="submit", what="survey", arguments=schema)
        codes = {each.code for each in schema_findings(but(rules=(*POLICY.rules, rule)))}
        assert ("mixed-scripts" in codes) is found, schema


def test_a_number_that_cannot_be_signed_is_no_schema() -> None:
    for number in (2**64, -(2**63) - 1):
        for schema in ({"const": number}, {"enum": [1, number]}):
            with pytest.raises(SchemaError, match="64 bits"):
                compile_schema(schema)
    compile_schema({"enum": [2**64 - 1, -(2**63)]})


@pytest.mark.parametrize("character", ["\u034f", "\u3164", "\u115f", "\ufe0f", "\u2800", "\U000e0100"])
def test_what_unicode_calls_a_letter_and_nobody_sees_is_hidden(character: str) -> None:
    (found,) = unseen(f"const = 'del{character}ete'")
    assert (found.code, f"U+{ord(character):04X}" in found.text) == ("hidden-character", True)
    assert printable(f"del{character}ete").isascii()
