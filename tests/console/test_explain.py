"""`sealbus explain`: yes or no, with the rule's line, who signed, and what would be needed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console import cli
from console.documents import make_anchor, sign_policy
from schemas import codec
from schemas.policy import dump, parse
from sealing.documents import open_anchor
from sealing.keys import SigningKey
from tests.policy.policies import ISSUED, POLICY, but

RULES = """
[[rules]]
role = "requester"
may = "submit"
what = "survey"
max_bytes = 1000

[[rules]]
role = "planner"
may = "call"
what = "pseudonym"
days = ["mon", "tue"]
until = 2027-01-31T00:00:00Z
arguments = { properties = { limit = { maximum = 10 } } }

[[rules]]
role = "planner"
deny = "call"
what = "pseudonym"
arguments = { required = ["wipe"] }

[[rules]]
role = "vault"
deny = "send"
what = "note"
"""
MONDAY, SUNDAY, LATER = "2026-11-23T12:00:00Z", "2026-11-22T12:00:00Z", "2027-02-01T12:00:00Z"
Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A signed policy in the current folder."""
    monkeypatch.chdir(tmp_path)
    operators = {name: SigningKey() for name in ("ada", "ben", "cyd")}
    public = [(name, key.public) for name, key in operators.items()]
    anchor = make_anchor(public, 2, POLICY.platforms["nitro"].roots, ISSUED, 1)
    council, mesh = open_anchor(anchor)
    bare = dump(but(mesh=mesh.id.hex(), rules=(), messages={"note": "planner"}))
    written = bare.replace("rules = []\n", "") + RULES
    Path("policy.toml").write_text(written)
    Path("anchor.cbor").write_bytes(anchor)
    signed = sign_policy(council, [operators["ada"], operators["cyd"]], parse(written))
    Path("policy.toml.signed").write_bytes(codec.encode(signed))
    return written


@pytest.fixture
def ask(text: str, capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = cli.run(["explain", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return asked


def line_of(text: str, rule: int) -> int:
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line == "[[rules]]"]
    return lines[rule - 1]


def test_yes_comes_with_the_rule_its_line_and_who_signed(ask: Ask, text: str) -> None:
    code, said = ask("planner", "pseudonym", "call", "--at", MONDAY)
    assert code == 0
    assert said["permitted"]
    assert said["audience"] == "vault"
    assert said["rule"] == {"number": 2, "line": line_of(text, 2), "column": 1}
    assert said["policy"]["signers"] == ["ada", "cyd"]
    assert said["policy"]["version"] == 1
    assert [each["name"] for each in said["holders"]] == ["workload planner"]


@pytest.mark.parametrize(
    ("arguments", "reason", "rule"),
    [
        (("planner", "pseudonym", "call", "--at", SUNDAY), "constraint-violated", 2),
        (("planner", "pseudonym", "call", "--at", LATER), "expired", 2),
        (
            ("planner", "pseudonym", "call", "--at", MONDAY, "--args", '{"limit": 11}'),
            "constraint-violated",
            2,
        ),
        (("planner", "pseudonym", "call", "--at", MONDAY, "--args", '{"wipe": 1}'), "denied-by-rule", 3),
        (("vault", "note", "send"), "denied-by-rule", 4),
        (("desk", "pseudonym", "call"), "no-grant", None),
    ],
)
def test_no_comes_with_what_refuses_it_and_what_it_would_need(
    ask: Ask, arguments: tuple[str, ...], reason: str, rule: int | None
) -> None:
    code, said = ask(*arguments)
    assert code == 1
    assert said["reason"] == reason
    assert (said["rule"] or {"number": None})["number"] == rule
    assert said["needed"]


def test_arguments_within_the_schema_are_permitted(ask: Ask) -> None:
    assert ask("planner", "pseudonym", "call", "--at", MONDAY, "--args", '{"limit": 10}')[0] == 0


def test_a_client_is_answered_for_in_its_roles(ask: Ask) -> None:
    code, said = ask("desk", "survey", "submit")
    assert (code, said["role"]) == (0, "requester")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("planer", "pseudonym", "call"), "did you mean `planner`?"),
        (("planner", "pseudonim", "call"), "did you mean `pseudonym`?"),
        (("planner", "pseudonym", "call", "--args", "{"), "--args is not JSON"),
        (("planner", "pseudonym", "call", "--policy", "nowhere.toml"), "there is no policy nowhere.toml"),
        (("planner", "pseudonym", "own"), "is not one of"),
    ],
)
def test_what_cannot_be_asked_is_a_mistake_of_whoever_asks(
    ask: Ask, arguments: tuple[str, ...], hint: str
) -> None:
    code, said = ask(*arguments)
    assert code == 2
    assert hint in said["detail"]


def test_a_text_that_nobody_signed_is_said_to_be_so(ask: Ask, text: str) -> None:
    Path("policy.toml").write_text(text.replace("max_bytes = 1000", "max_bytes = 2000"))
    _, said = ask("desk", "survey", "submit")
    assert said["policy"]["signers"] == []


def test_a_person_reads_it_in_sentences(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", "desk", "pseudonym", "call"]) == 1
    said = capsys.readouterr().out
    assert "no: requester may call the tool pseudonym" in said
    assert 'it would need a rule: [[rules]] role = "requester"' in said
    assert "signed by ada, cyd" in said


def test_yes_to_arguments_says_that_defaults_are_judged_at_the_gate(
    ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("planner", "pseudonym", "call", "--at", MONDAY)
    code, said = ask(*asked, "--args", "{}")
    assert code == 0
    assert "defaults" in said["note"]
    assert cli.run(["explain", *asked, "--args", "{}"]) == 0
    assert "note: the handler's defaults" in capsys.readouterr().out
    assert ask(*asked)[1]["note"] is None
