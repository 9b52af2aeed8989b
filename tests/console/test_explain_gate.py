"""`explain` and the gates of sender and receiver agree, whatever the rules of a holder of two roles."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from console.explain import Question, explain
from schemas.errors import PeerError, UsageError
from schemas.policy import Policy, TaskClass, check
from schemas.rules import Rule
from tests.agent_runtime.world import Member, mesh_up
from tests.coordinator.world import START, Party, World

ROLES = ("planner", "auditor")
DECISIONS = (("call", "pseudonym"), ("submit", "redact"), ("submit", "review"), ("send", "note"))
VALUES = (1, 6, 20, 100, 70_000)


def narrowings() -> st.SearchStrategy[dict[str, object]]:
    """Return what may stand in a rule beside who may do what: START is at 08:00 UTC."""
    return st.fixed_dictionaries(
        {},
        optional={
            "arguments": st.sampled_from([{"type": "integer", "maximum": 5}, {"minimum": 7}]),
            "max_bytes": st.sampled_from([1, 3]),
            "hours": st.sampled_from(["08:00-09:00", "20:00-21:00"]),
        },
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    base = World().policy()
    rules = []
    for role in ROLES:
        for action, what in DECISIONS:
            if draw(st.booleans()):
                rules.append(Rule(role=role, may=action, what=what, **draw(narrowings())))  # type: ignore[arg-type]
            if draw(st.integers(0, 3)) == 0:
                arguments = draw(st.sampled_from([None, {"minimum": 7}]))
                rules.append(Rule(role=role, deny=action, what=what, arguments=arguments))
    return World().policy(
        workloads={**base.workloads, "planner": replace(base.workloads["planner"], roles=ROLES)},
        classes={**base.classes, "review": TaskClass(role="redactor")},
        messages={"note": "vault"},
        rules=tuple(draw(st.permutations(rules))),
    )


def sends(both: Member, action: str, what: str, value: int) -> bool:
    size = len(msgspec.msgpack.encode(value))
    try:
        way = both.gate.may_say(action, what, value).of_size(size)
    except PeerError:
        return False
    # And the receiver, who judges by the role that the way names, permits what is sent.
    assert way.granted.refusal(size, way.now) is None
    return True


@settings(max_examples=40, deadline=None)
@given(policies())
def test_explain_says_what_the_gate_of_a_holder_of_two_roles_does(policy: Policy) -> None:
    try:
        check(policy)
    except UsageError:
        return
    world, _ = mesh_up(policy)
    both = Member(world, Party.enclave(world, *ROLES, workload="planner").join())
    for action, what in DECISIONS:
        for value in VALUES:
            size = len(msgspec.msgpack.encode(value))
            question = Question("workload/planner", what, action, value, size)
            told = explain(policy, None, question, at=world.now).is_permitted
            assert (action, what, value, sends(both, action, what, value)) == (action, what, value, told)


def test_a_call_goes_in_the_role_whose_rule_permits_just_this_one() -> None:
    policy = World().policy()
    planner = replace(policy.workloads["planner"], roles=ROLES)
    rules = (
        Rule(role="planner", may="call", what="pseudonym", arguments={"maximum": 5}, max_bytes=1),
        Rule(role="auditor", may="call", what="pseudonym", arguments={"maximum": 500}),
    )
    world, _ = mesh_up(World().policy(workloads={**policy.workloads, "planner": planner}, rules=rules))
    both = Member(world, Party.enclave(world, *ROLES, workload="planner").join())
    assert both.gate.may_say("call", "pseudonym", 5).of_size(1).own_role == "planner"
    assert both.gate.may_say("call", "pseudonym", 5).of_size(9).own_role == "auditor"
    assert both.gate.may_say("call", "pseudonym", 50).own_role == "auditor"
    with pytest.raises(PeerError, match="constraint-violated"):
        both.gate.may_say("call", "pseudonym", 5000)


def test_a_name_of_two_things_is_told_apart_or_refused() -> None:
    base = World().policy()
    planner = replace(base.workloads["planner"], roles=ROLES)
    rules = (Rule(role="auditor", may="call", what="pseudonym"),)
    policy = World().policy(workloads={**base.workloads, "planner": planner}, rules=rules)

    def may(who: str) -> bool:
        return explain(policy, None, Question(who, "pseudonym", "call"), at=START).is_permitted

    assert not may("role/planner")
    assert may("workload/planner")
    with pytest.raises(UsageError, match="say role/planner or workload/planner"):
        may("planner")
    # The vault's workload may do what its role may.
    assert not may("vault")
    for nobody in ("client/vault", "nothing/vault", "/vault/", "role/"):
        with pytest.raises(UsageError, match="the policy has no role, workload or client"):
            may(nobody)
