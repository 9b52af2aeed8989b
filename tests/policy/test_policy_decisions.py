"""What a policy permits, held against an interpreter that is nothing but the meaning of a rule."""

from itertools import product

import msgspec
from hypothesis import given, settings

from console.policy.difference import difference, sentences
from coordinator.granting import every_right, grant
from coordinator.terms import Standing
from schemas.decisions import Decision, permitted
from schemas.policy import Policy
from sealing.context import Mesh
from tests.policy.policies import CLIENTS, ENCLAVES, NAMES, POLICY, but, policies

QUESTIONS = [Decision(*each) for each in product((*ENCLAVES, *CLIENTS), ("submit", "call", "send"), NAMES)]
Answer = tuple[str, int | None, int | None]  # audience, bytes, calls a minute


def interpret(policy: Policy, question: Decision) -> Answer | None:
    """Answer one question by reading the policy's text from top to bottom; None is no."""
    text = msgspec.to_builtins(policy)
    holders = [*text["workloads"].values(), *text["clients"].values()]
    if not any(question.role in holder["roles"] for holder in holders):
        return None
    for rule in text["rules"]:
        if rule["role"] != question.role or rule["may"] != question.action or rule["what"] != question.what:
            continue
        if question.action == "submit":
            audience = text["classes"][question.what]["role"]
        else:
            audience = text["tools" if question.action == "call" else "messages"][question.what]
        if not any(audience in workload["roles"] for workload in text["workloads"].values()):
            return None
        return audience, rule["max_bytes"], rule["per_minute"]
    return None


def answers(policy: Policy) -> dict[Decision, Answer]:
    """Return all that the interpreter says yes to."""
    asked = {question: interpret(policy, question) for question in QUESTIONS}
    return {question: answer for question, answer in asked.items() if answer is not None}


@given(policies())
def test_the_decisions_of_a_policy_are_those_of_the_interpreter(policy: Policy) -> None:
    compiled = {
        key: (value.audience, value.constraints.max_bytes, value.constraints.per_minute)
        for key, value in permitted(policy).items()
    }
    assert compiled == answers(policy)


@given(policies())
def test_the_coordinator_grants_exactly_what_the_policy_permits(policy: Policy) -> None:
    mesh = Mesh(bytes.fromhex(policy.mesh), 1)
    granted = {}
    for role, rights in every_right(policy).items():
        for rule in rights.rules:
            made = grant(policy, mesh, Standing(policy=policy), rule)
            assert role in (made.subject, made.audience)
            limits = made.constraints
            granted[Decision(made.subject, made.action, made.what)] = (
                made.audience,
                limits.max_bytes,
                limits.per_minute,
            )
    assert granted == answers(policy)


@settings(max_examples=200)
@given(policies(), policies())
def test_the_difference_is_that_of_all_decisions(old: Policy, new: Policy) -> None:
    before, after = answers(old), answers(new)
    found = difference(old, new)
    assert set(found.permitted) == after.keys() - before.keys()
    assert set(found.forbidden) == before.keys() - after.keys()
    both = before.keys() & after.keys()
    assert set(found.changed) == {key for key in both if before[key] != after[key]}


@given(policies())
def test_a_policy_differs_from_itself_in_nothing(policy: Policy) -> None:
    assert sentences(difference(policy, policy)) == []


def meaning(policy: Policy) -> object:
    """Return what a policy says, in no order: that of rules and roles means nothing."""
    text = msgspec.to_builtins(policy)
    text["rules"] = {tuple(rule.items()) for rule in text["rules"]}
    for holder in (*text["workloads"].values(), *text["clients"].values()):
        holder["roles"] = set(holder["roles"])
    return text


@given(policies(), policies())
def test_policies_that_say_something_else_differ_in_some_sentence(old: Policy, new: Policy) -> None:
    found = difference(old, new)
    said = sentences(found)
    assert bool(said) == (meaning(old) != meaning(new))
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
