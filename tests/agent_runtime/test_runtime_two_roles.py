"""A process of two roles: what it asks goes in the role that its rule is for, or does not leave."""

import pytest
from msgspec.structs import replace

from agent_runtime.errors import RefusedError
from schemas.peer import Call, Confirm
from schemas.policy import TaskClass
from schemas.rules import Rule
from tests.agent_runtime.world import Member, enclave, mesh_up
from tests.coordinator.world import Party, World

CALL = Call(b"q" * 16, "pseudonym", b"what it asks", 2**60, None)


def both_of(*rules: Rule) -> tuple[World, Member]:
    """Return a mesh and a process of roles planner and auditor, the auditor's rights being these."""
    policy = World().policy()
    planner = replace(policy.workloads["planner"], roles=("planner", "auditor"))
    world, _ = mesh_up()
    chosen = world.policy(
        workloads={**policy.workloads, "planner": planner},
        classes={**policy.classes, "review": TaskClass(role="redactor")},
        rules=(*policy.rules, *rules),
    )
    world, _ = mesh_up(chosen)
    party = Party.enclave(world, "planner", "auditor", workload="planner").join()
    return world, Member(world, party)


def test_a_call_goes_in_the_role_that_may_make_it_and_its_receiver_permits_it() -> None:
    world, both = both_of(Rule(role="auditor", may="call", what="pseudonym"))
    vault = enclave(world, "vault")
    way = both.gate.may_say("call", "pseudonym", "Ada")
    assert (way.own_role, way.role) == ("auditor", "vault")
    pending, inbox, frame = both.peering.open(vault.party.admitted.admission, way.role, way.own_role)
    _, answer, theirs = vault.peering.inbox(frame, inbox)
    ours = both.peering.accepted(pending.accept_subject, answer)
    _, confirm = both.peering.seal(ours, Confirm())
    vault.peering.receive(confirm)
    assert theirs.peer_role == "auditor"
    assert vault.gate.call(both.instance, theirs.peer_role, theirs.own_role, CALL).audience == "vault"
    # Nor does what one role may not do go on the other's session.
    assert both.peering.usable(vault.instance, "vault", "auditor") is ours
    assert both.peering.usable(vault.instance, "vault", "planner") is None


def test_a_task_that_its_handles_role_may_not_submit_is_refused_before_it_leaves() -> None:
    # The handle for redactors names the planner, who may submit to them.
    _, both = both_of(Rule(role="auditor", may="submit", what="review"))
    both.gate.may_send("submit", "redact", 1)
    with pytest.raises(RefusedError, match="no-grant"):
        both.gate.may_send("submit", "review", 1)
