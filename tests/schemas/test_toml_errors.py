"""Bad TOML is answered with line, column and a suggestion; nothing in it makes the reader itself fail."""

import re
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.errors import UsageError
from schemas.evidence_policy import parse_for_evidence
from schemas.policy import Policy, TaskClass, dump, parse
from schemas.rules import Rule
from schemas.toml_errors import did_you_mean, find, read_toml
from tests.policy.policies import but

MESH = "ab" * 32

TEXT = f"""\
mesh = "{MESH}"
version = 3
issued = 1_790_000_000_000

[platforms.sev-snp]
lab_roots = ["{"aa" * 32}"]
require_crl = true

[coordinators.sev-snp.measurements]
measurement = "{"c0" * 48}"
host_data = "{"c1" * 32}"

[workloads.redactor]
roles = ["redactor"]
on.sev-snp.measurements = {{ measurement = "{"01" * 48}", host_data = "{"02" * 32}" }}

[clients.desk]
key = "{"0d" * 32}"
roles = ["submitter"]

[clients.night]
key = "{"0e" * 32}"
roles = ["submitter"]

[classes]
redact = {{ role = "redactor", lifetime_seconds = 60 }}

[tools]
pseudonym = "redactor"

[[rules]]
role = "submitter"
may = "submit"
what = "redact"

[[rules]]
role = "redactor"
may = "call"
what = "pseudonym"
"""

# What was changed, into what, and where the error has to point with what to do.
MISTAKES = {
    "a day without a time": (
        "[[rules]]",
        "[[rules]]\nuntil = 2027-03-04",
        "line 32, column 1",
        "write day, time and zone, without quotes: 2027-03-04T00:00:00Z",
    ),
    "a time without a zone": (
        "[[rules]]",
        "[[rules]]\nuntil = 2027-03-04T05:06:07",
        "line 32, column 1",
        "2027-03-04T00:00:00Z",
    ),
    "a day in quotes": (
        "[[rules]]",
        '[[rules]]\nuntil = "soon"',
        "line 32, column 1",
        "2026-01-31T00:00:00Z",
    ),
    "a misspelt key": ("require_crl", "requre_crl", "line 7, column 1", "did you mean `require_crl`?"),
    "a misspelt key in an inline table": (
        "lifetime_seconds",
        "lifetime",
        "line 26, column 31",
        "did you mean `lifetime_seconds`?",
    ),
    "a misspelt table": ("[tools]", "[tool]", "line 28, column 1", "did you mean `tools`?"),
    "a key that is absent": ("version = 3\n", "", "line 1, column 1", "add version = ... at the top"),
    "a key that is absent of the second of two": (
        'may = "call"\n',
        "",
        "line 36, column 1",
        "add may = ... or deny = ... to [rules[1]]",
    ),
    "an action that is none": ('"call"', '"cal"', "line 38, column 1", "did you mean `call`?"),
    "a bad name in the second of two clients": (
        f'"{"0e" * 32}"\nroles = ["submitter"]',
        f'"{"0e" * 32}"\nroles = ["submitter", "a b"]',
        "line 23, column 23",
        "clients.night.roles[1]",
    ),
    "a name of a table that is none": ("[clients.night]", '[clients."a b"]', "line 21, column 1", '"a b"'),
    "upper-case digits": (MESH, MESH.upper(), "line 1, column 1", "lower-case hexadecimal"),
    "a placeholder": (MESH, "FILL IN: the mesh", "line 1, column 1", "still to be filled in: the mesh"),
    "a role that nobody holds": (
        'role = "submitter"',
        'role = "submiter"',
        "line 32, column 1",
        "did you mean `submitter`?",
    ),
    "a class that is none": (
        'what = "redact"',
        'what = "redac"',
        "line 34, column 1",
        "did you mean `redact`?",
    ),
    "a tool of nobody": ('= "redactor"\n\n[[', '= "redacter"\n\n[[', "line 29, column 1", "`redactor`?"),
    "a workload on no platform": (
        "on.sev-snp",
        "on.sev_snp",
        "line 15, column 4",
        "names no such platform; did you mean `sev-snp`?",
    ),
    "a client's key twice": ("0e" * 32, "0d" * 32, "line 22, column 1", "give each its own"),
    "text without quotes": ('"submit"', "submit", "line 33, column 7", 'text stands in "quotes"'),
    "a rule that permits and forbids": (
        'may = "call"\n',
        'may = "call"\ndeny = "call"\n',
        "line 39, column 1",
        "remove `may` or `deny`",
    ),
    "a bound on what is forbidden": (
        'may = "call"\n',
        'deny = "call"\nper_minute = 3\n',
        "line 39, column 1",
        "remove it from what is forbidden",
    ),
    "a remote reference in a schema": (
        'may = "call"\n',
        'may = "call"\narguments = { properties = { a = { "$ref" = "https://x.example" } } }\n',
        "line 39, column 36",
        "references are not followed",
    ),
    "a schema bomb": (
        'may = "call"\n',
        f'may = "call"\narguments = {"{ items = " * 9}{{}}{" }" * 9}\n',
        "line 39, column",
        "8 schemas deep",
    ),
    "a pattern that backtracks": (
        'may = "call"\n',
        "may = \"call\"\narguments.properties.name.pattern = '^(a+)+$'\n",
        "line 39, column 27",
        "only characters, classes",
    ),
    "a day that is none": (
        'may = "call"\n',
        'may = "call"\ndays = ["mon", "tues"]\n',
        "line 39, column 16",
        "did you mean `tue`?",
    ),
    "hours that are none": (
        'may = "call"\n',
        'may = "call"\nhours = "8-18"\n',
        "line 39, column 1",
        "rules[1].hours",
    ),
    "hours that are all day": (
        'may = "call"\n',
        'may = "call"\nhours = "00:00-24:00"\n',
        "line 39, column 1",
        "leave them out",
    ),
    "an end without a time zone": (
        'may = "call"\n',
        'may = "call"\nuntil = 2027-01-31T00:00:00\n',
        "line 39, column 1",
        "rules[1].until",
    ),
    "a table twice": ("[clients.night]", "[clients.desk]", "line 21, column 14", "join the two"),
}


class Classes(msgspec.Struct):
    """A part of a policy."""

    classes: dict[str, TaskClass]


@pytest.mark.parametrize(("old", "new", "where", "hint"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_answered_with_its_place_and_a_suggestion(
    old: str, new: str, where: str, hint: str
) -> None:
    assert parse(TEXT)
    assert TEXT.count(old) >= 1
    with pytest.raises(UsageError, match=re.escape(where) + r"\b.*" + re.escape(hint)):
        parse(TEXT.replace(old, new, 1))


def test_a_mark_that_an_editor_put_first_is_told_as_that() -> None:
    with pytest.raises(UsageError, match=r"begins with a byte order mark.*save it without one"):
        parse(f"\ufeff{TEXT}")


def test_the_part_about_evidence_alone_points_as_well() -> None:
    part = TEXT[TEXT.index("[platforms") : TEXT.index("[clients")]
    assert parse_for_evidence(part)
    with pytest.raises(UsageError, match=r"line 3, column 1: .*did you mean `require_crl`"):
        parse_for_evidence(part.replace("require_crl", "require_crls"))
    with pytest.raises(UsageError, match=r"line 5, column 1: coordinators\.sev-snp: measurement 'host_data'"):
        parse_for_evidence(part.replace("host_data", "other", 1))


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "[" * 90 + "]" * 90,
        "a",
        "=",
        "[",
        '"',
        "a = '''",
        "\x00",
        "# \udc80",
        "a.b.c",
    ],
    ids=range(10),
)
def test_what_is_no_policy_is_a_usage_error_however_odd(text: str) -> None:
    with pytest.raises(UsageError, match="the policy is not"):
        parse(text)


@pytest.mark.parametrize(
    "number", ["9" * 5_000, "-" + "9" * 5_000, "9_" * 5_000 + "9"], ids=["long", "less", "parts"]
)
def test_a_number_of_too_many_digits_is_told_by_its_place(number: str) -> None:
    text = f"a = 1\nname = 'a'\nversion = {number}\n"
    with pytest.raises(UsageError) as error:
        read_toml(text, Policy, "the policy")
    said = "the policy is not TOML: a number has more digits than are read (at line 3, column 11)"
    assert str(error.value) == said


@given(st.text(st.sampled_from("ab.=[]{}\"'#,\n 1\\"), max_size=60))
@example("a = [[1], {b = 2}]")
def test_any_text_reads_or_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="the policy is not"):
        read_toml(text, Policy, "the policy")


def test_the_one_bad_key_of_many_is_found_without_trying_each() -> None:
    data = {"classes": {f"c{number}": {"role": "r"} for number in range(1_000)}}
    data["classes"]["c707"] = {"role": ""}
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(data, Classes)
    assert find(data, Classes, str(error.value)) == (("classes", "c707", "role"), False)


def test_a_suggestion_is_made_only_where_there_is_one() -> None:
    assert did_you_mean("redactr", ["redactor", "vault"]) == "; did you mean `redactor`?"
    assert did_you_mean("xyz", ["redactor", "vault"]) == "; there is redactor, vault"
    assert did_you_mean("xyz", map(str, range(100))) == ""
    assert did_you_mean("xyz", []) == ""


@pytest.mark.parametrize("key", ["a" + ".a" * 200_000, "[" + "a." * 200_000 + "a]", "' '" + ' . "."' * 40])
def test_key_of_endless_parts_is_refused_before_it_is_read(key: str) -> None:
    text = f"version = 3\n{key} = 1\n"
    for read in (parse, parse_for_evidence):
        with pytest.raises(UsageError, match=r"line 2: a key has more than 32 parts|has over 512 KiB"):
            read(text)


def test_text_that_is_longer_than_any_policy_is_refused_before_it_is_read() -> None:
    text = "[a]\n" * 200_000
    for read in (parse, parse_for_evidence):
        with pytest.raises(UsageError, match="the policy has over 512 KiB"):
            read(text)


def test_policy_of_a_thousand_rules_is_read() -> None:
    rule = Rule(
        role="requester",
        may="submit",
        what="survey",
        max_bytes=1000,
        per_minute=60,
        arguments={
            "type": "object",
            "required": ["n"],
            "properties": {"n": {"type": "integer", "maximum": 2}},
        },
        days=("mon", "tue"),
        hours="08:00-18:00",
        until=datetime(2027, 1, 1, tzinfo=UTC),
    )
    classes = {f"survey{number}": TaskClass(role="planner") for number in range(1_000)}
    many = but(classes=classes, rules=tuple(replace(rule, what=name) for name in classes))
    assert parse(dump(many)) == many


@pytest.mark.parametrize("value", ["'" + "a." * 20 + "a'", '"https://a.b.c/' + "d" * 5000 + '"'])
def test_long_values_are_no_long_keys(value: str) -> None:
    with pytest.raises(UsageError, match="unknown field"):
        parse_for_evidence(f"note = {value}\n# {'.' * 500} {'a' * 5000}\n")
