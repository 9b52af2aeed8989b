"""What a policy permits, held against an interpreter that is nothing but the meaning of a rule."""

from ast import literal_eval
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import Phase, given, settings
from jsonschema import Draft202012Validator

from console.policy.difference import difference, sentences
from coordinator.granting import every_right, grant
from coordinator.terms import Standing
from schemas.decisions import Decision, answer, permitted
from schemas.granted import Granted, granted
from schemas.policy import Policy
from schemas.rules import Rule
from sealing.context import Mesh
from sealing.documents import open_grant, sign_grant
from sealing.keys import SigningKey
from tests.coordinator.world import World
from tests.policy.policies import CLIENTS, ENCLAVES, NAMES, POLICY, UNTIL, but, policies

ROLES = (*ENCLAVES, *CLIENTS)
COUNCIL = World().council
ACTIONS = ("submit", "call", "send", "read", "write")
QUESTIONS = [Decision(*each) for each in product(ROLES, ACTIONS, NAMES)]


class Use(NamedTuple):
    """One use of a permission: at a time, of a size, with an argument."""

    at: datetime
    size: int
    argument: Any


# Each side of every bound that is drawn: days, hours, an end, sizes, schemas.
TIMES = [UNTIL.replace(day=day, hour=hour) for day in (22, 23, 24) for hour in (5, 8, 11, 12, 18, 22)]
ARGUMENTS: tuple[Any, ...] = ({}, {"n": 1}, {"n": 2}, {"n": 3}, {"n": 4, "m": 0}, True)
USES = [Use(*each) for each in product(TIMES, (1, 4), ARGUMENTS)]


def interpret(policy: Policy, question: Decision, use: Use | None = None) -> tuple[str, int | None] | None:
    """Answer one question by reading the policy's text; None is no.

    Yes is the role at which it arrives, and how often in a minute. Without a use: whether it is yes at times.
    """
    text = msgspec.to_builtins(policy)
    tables = {
        "submit": "classes",
        "call": "tools",
        "send": "messages",
        "read": "contexts",
        "write": "contexts",
    }
    answer = None
    for rule in text["rules"]:
        if Decision(rule["role"], rule["may"] or rule["deny"], rule["what"]) != question:
            continue
        if rule["deny"] and (holds(rule, use) if use else not conditions(rule)):
            return None
        if rule["may"] and (use is None or (holds(rule, use) and use.size <= (rule["max_bytes"] or 99))):
            target = text[tables[question.action]][question.what]
            answer = (target if isinstance(target, str) else target["role"]), rule["per_minute"]
    return answer


def conditions(rule: dict[str, Any]) -> list[str]:
    return [name for name in ("arguments", "days", "hours", "until") if rule[name] is not None]


def holds(rule: dict[str, Any], use: Use) -> bool:
    """Tell whether every condition of a rule holds for a use."""
    if rule["days"] is not None and use.at.strftime("%a").lower() not in rule["days"]:
        return False
    if rule["hours"] is not None:
        start, end = rule["hours"].split("-")
        clock = use.at.strftime("%H:%M")
        if not (start <= clock < end if start < end else clock >= start or clock < end):
            return False
    if rule["until"] is not None and use.at >= datetime.fromisoformat(rule["until"]):
        return False
    return rule["arguments"] is None or fits(repr(rule["arguments"]), repr(use.argument))


@cache
def fits(schema: str, argument: str) -> bool:
    """Ask another implementation of JSON Schema."""
    return Draft202012Validator(literal_eval(schema)).is_valid(literal_eval(argument))


def answers(policy: Policy) -> dict[Decision, tuple[str, int | None]]:
    """Return all that the interpreter says yes to at times."""
    asked = {question: interpret(policy, question) for question in QUESTIONS}
    return {question: answer for question, answer in asked.items() if answer is not None}


def uses(policy: Policy, question: Decision) -> list[tuple[str, int | None] | None]:
    """Return the interpreter's word on every use."""
    return [interpret(policy, question, use) for use in USES]


@given(policies())
def test_the_decisions_of_a_policy_are_those_of_the_interpreter(policy: Policy) -> None:
    compiled = {
        key: (value.audience, value.constraints.per_minute) for key, value in permitted(policy).items()
    }
    assert compiled == answers(policy)


@settings(deadline=None, max_examples=60)
@given(policies())
def test_every_use_is_decided_as_the_interpreter_does(policy: Policy) -> None:
    asked = {Decision(rule.role, rule.action, rule.what) for rule in policy.rules}
    for question in sorted(asked | set(QUESTIONS[:2])):
        for use in USES:
            given = answer(policy, question, at=millis(use.at), size=use.size, arguments=use.argument)
            found = given.permitted
            is_yes = found is not None and given.refusal is None
            said = (found.audience, found.constraints.per_minute) if found and is_yes else None
            assert said == interpret(policy, question, use), (question, use)


def millis(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)


@given(policies())
def test_the_coordinator_grants_exactly_what_the_policy_permits(policy: Policy) -> None:
    mesh = Mesh(bytes.fromhex(policy.mesh), 1)
    given = {}
    for role, rights in every_right(policy).items():
        for decision, permit in rights.permits:
            made = grant(mesh, Standing(COUNCIL, policy=policy), decision, permit)
            assert role in (made.subject, made.audience)
            held = Granted(made.audience, made.constraints, made.rule, made.expires)
            assert held == Granted(permit.audience, permit.constraints, permit.rule, permit.expires)
            key = Decision(made.subject, made.action, made.what)
            given[key] = (made.audience, made.constraints.per_minute)
    assert given == answers(policy)


@settings(deadline=None, max_examples=60)
@given(policies())
def test_a_signed_grant_decides_every_use_where_it_is_held_as_the_interpreter_does(policy: Policy) -> None:
    mesh, key = Mesh(bytes.fromhex(policy.mesh), 1), SigningKey(b"k" * 32)
    standing = Standing(COUNCIL, policy=policy)
    held: dict[Decision, Granted] = {}
    for rights in every_right(policy).values():
        for decision, permit in rights.permits:
            signed = sign_grant(key, mesh, grant(mesh, standing, decision, permit))
            held[decision] = granted(open_grant(signed, key.public, mesh))
    for question in sorted(held):
        for use in USES:
            now, mine = millis(use.at), held[question]
            refused = mine.refusal(use.size, now) or mine.of_arguments(use.argument, now)
            said = None if refused else (mine.audience, mine.constraints.per_minute)
            assert said == interpret(policy, question, use), (question, use)


def without(policy: Policy, field: str) -> Policy:
    """Return the policy as if no rule had said something."""
    rules = tuple(msgspec.structs.replace(rule, **{field: None}) for rule in policy.rules)
    return msgspec.structs.replace(policy, rules=rules)


def words(policy: Policy, asked: Callable[[Rule], bool]) -> list[object]:
    """Return the interpreter's word on every use of what some rules are about."""
    about = sorted({Decision(rule.role, rule.action, rule.what) for rule in policy.rules if asked(rule)})
    return [uses(policy, question) for question in about]


@pytest.fixture(scope="module")
def sample() -> list[Policy]:
    """As many policies as the other tests are about, always the same."""
    found: list[Policy] = []

    @settings(max_examples=1_000, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(policies())
    def draw(policy: Policy) -> None:
        found.append(policy)

    draw()
    return found


@pytest.mark.slow  # about the strategy of the other tests alone, as the next one
@pytest.mark.parametrize("field", ["arguments", "days", "hours", "until", "max_bytes", "per_minute"])
@pytest.mark.parametrize("forbids", [False, True], ids=["may", "deny"])
def test_each_constraint_of_a_rule_is_drawn_and_decides_some_use(
    sample: list[Policy], field: str, forbids: bool
) -> None:
    if forbids and field in ("max_bytes", "per_minute"):
        return  # a rule that forbids has neither

    def decides(policy: Policy) -> bool:
        def asked(rule: Rule) -> bool:
            return bool(rule.deny) is forbids and getattr(rule, field) is not None

        return any(map(asked, policy.rules)) and words(policy, asked) != words(without(policy, field), asked)

    assert any(map(decides, sample))


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("roles", [ENCLAVES, CLIENTS], ids=["enclaves", "clients"])
def test_each_action_is_drawn_for_enclaves_and_clients_permitted_at_times_and_forbidden_at_others(
    sample: list[Policy], action: str, roles: tuple[str, ...]
) -> None:
    def both(policy: Policy) -> bool:
        said = words(policy, lambda rule: rule.action == action and rule.role in roles)
        return any(None in each and set(each) != {None} for each in said if isinstance(each, list))

    assert any(map(both, sample))


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(policies(), policies())
def test_the_difference_is_that_of_all_decisions(old: Policy, new: Policy) -> None:
    before, after = answers(old), answers(new)
    found = difference(old, new)
    assert set(found.permitted) == after.keys() - before.keys()
    assert set(found.forbidden) == before.keys() - after.keys()
    for key in before.keys() & after.keys():
        # What is told as the same is decided the same, use by use.
        if key not in found.changed:
            assert uses(old, key) == uses(new, key)


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(policies(), policies())
def test_what_a_difference_tells_as_changed_is_written_otherwise(old: Policy, new: Policy) -> None:
    for key, (was, now) in difference(old, new).changed.items():
        assert str(was) != str(now), key


@given(policies())
def test_a_policy_differs_from_itself_in_nothing(policy: Policy) -> None:
    assert sentences(difference(policy, policy)) == []


@given(policies())
def test_the_order_of_rules_means_nothing(policy: Policy) -> None:
    turned = msgspec.structs.replace(policy, rules=policy.rules[::-1])
    assert sentences(difference(policy, turned)) == []


def meaning(policy: Policy) -> object:
    """Return what a policy says, in no order: that of rules and roles means nothing."""
    text = msgspec.to_builtins(policy)
    text["rules"] = {repr(sorted(rule.items())) for rule in text["rules"]}
    for holder in (*text["workloads"].values(), *text["clients"].values()):
        holder["roles"] = set(holder["roles"])
    return text


@given(policies(), policies())
def test_policies_that_say_something_else_differ_in_some_sentence(old: Policy, new: Policy) -> None:
    found = difference(old, new)
    said = sentences(found)
    if meaning(old) == meaning(new):
        assert said == []
    if not said:
        # A permit that is always forbidden says nothing, however it is narrowed.
        assert answers(old) == answers(new)
    for key in (*found.permitted, *found.forbidden, *found.changed):
        assert any(str(key) in sentence for sentence in said)


def test_a_rule_that_is_gone_is_newly_forbidden_in_a_sentence() -> None:
    first = but(rules=POLICY.rules[:1])
    assert sentences(difference(POLICY, first)) == [
        "newly forbidden: planner may call the tool pseudonym at vault, at most 60 a minute"
    ]
    assert sentences(difference(first, POLICY)) == [
        "newly permitted: planner may call the tool pseudonym at vault, at most 60 a minute"
    ]


def test_a_tool_that_moves_is_told_though_no_rule_was_touched() -> None:
    moved = but(tools={"pseudonym": "planner"})
    now, was = sentences(difference(POLICY, moved))[0].split("; it was ")
    assert now == "otherwise: planner may call the tool pseudonym at planner, at most 60 a minute"
    assert was == "at vault, at most 60 a minute"
