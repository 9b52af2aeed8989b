"""Views contain exactly what the policy implies: small random policies against a tiny reference."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.epochs import Epochs, spans
from coordinator.errors import RefusedError
from coordinator.granting import HOLDINGS_MOST, LISTED_SIZE, PACKAGE_SIZE, VIEW_MOST, Views, check_sizes
from coordinator.terms import Standing
from schemas import codec
from schemas.decisions import permitted
from schemas.documents import Constraints, Grant, View
from schemas.evidence import SEV_SNP
from schemas.messages import CLIENT, ENCLAVE, OPERATOR, Holdings
from schemas.pinning import Pinned
from schemas.policy import Client, Limits, Policy, TaskClass, Workload, check
from schemas.rules import Rule
from sealing.documents import open_grant, open_message
from sealing.keys import SigningKey
from tests.coordinator.world import CLIENT_KEY, START, Party, Refusal, World, measured

ENCLAVE_ROLES = ("e1", "e2", "e3")
CLIENT_ROLES = ("c1", "c2")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Draw a policy of three workloads, a client, some classes, tools and rules."""
    classes = {
        name: TaskClass(
            role=draw(st.sampled_from(ENCLAVE_ROLES)), lifetime_seconds=draw(st.integers(1, 9999))
        )
        for name in ("k1", "k2")
    }
    tools = {name: draw(st.sampled_from(ENCLAVE_ROLES)) for name in ("t1", "t2")}
    messages = {name: draw(st.sampled_from(ENCLAVE_ROLES)) for name in ("m1", "m2")}
    action = st.sampled_from(
        [("submit", name) for name in classes]
        + [("call", name) for name in tools]
        + [("send", name) for name in messages]
    )
    rules = st.builds(
        lambda role, act, size: Rule(role=role, may=act[0], what=act[1], max_bytes=size),
        st.sampled_from(ENCLAVE_ROLES + CLIENT_ROLES),
        action,
        st.none() | st.integers(1, 99),
    )
    base = World().policy()
    return check(
        Policy(
            mesh=base.mesh,
            version=1,
            issued=START,
            platforms=base.platforms,
            coordinators=base.coordinators,
            workloads={
                role: Workload(roles=(role,), on={SEV_SNP: Pinned(measurements=measured(role))})
                for role in ENCLAVE_ROLES
            },
            clients={"cli": Client(key=CLIENT_KEY.public.hex(), roles=CLIENT_ROLES)},
            classes=classes,
            tools=tools,
            messages=messages,
            rules=tuple(draw(st.lists(rules, max_size=6, unique_by=lambda r: (r.role, r.what)))),
        )
    )


def audience(policy: Policy, rule: Rule) -> str:
    if rule.may == "submit":
        return policy.classes[rule.what].role
    return (policy.tools if rule.may == "call" else policy.messages)[rule.what]


def reference_grants(policy: Policy, role: str) -> set[tuple[str, str, str, str, int | None]]:
    """Say in one line what a role's view must contain."""
    return {
        (rule.role, rule.action, rule.what, audience(policy, rule), rule.max_bytes)
        for rule in policy.rules
        if role in (rule.role, audience(policy, rule))
    }


def reference_groups(policy: Policy, role: str) -> set[str]:
    """Say which groups a role opens or seals to."""
    seals = {audience(policy, rule) for rule in policy.rules if rule.role == role and rule.may == "submit"}
    return {"mesh"} | seals | ({role} & set(ENCLAVE_ROLES))


def in_force(policy: Policy | None) -> Views:
    """Return the views of a coordinator that has adopted a policy, or none yet."""
    world = World()
    views, epochs = Views(world.mesh, world.keys.signing), Epochs(world.mesh, bytes)
    epochs.follow(spans(policy), START)
    views.update(Standing(world.council, policy=policy), epochs)
    return views


def open_view(world: World, holdings: Holdings, role: str) -> View:
    views = [
        open_message(each, world.keys.signing.public, world.mesh, "view", View) for each in holdings.views
    ]
    return next(view for view in views if view.role == role)


@settings(max_examples=40, deadline=None)
@given(policies())
def test_views_contain_exactly_what_the_policy_implies(policy: Policy) -> None:
    world = World()
    world.up(policy)
    parties = [Party.enclave(world, role).join() for role in ENCLAVE_ROLES]
    parties.append(Party(world, CLIENT, CLIENT_ROLES, signing=CLIENT_KEY).join())
    for party in parties:
        holdings = party.admitted.holdings
        assert len(holdings.views) == len(party.roles)
        for role in party.roles:
            view = open_view(world, holdings, role)
            grants = [open_grant(each, world.keys.signing.public, world.mesh) for each in view.grants]
            assert {_said(each) for each in grants} == reference_grants(policy, role)
            assert len(grants) == len(reference_grants(policy, role))
            assert {epoch.group for epoch in view.epochs} == reference_groups(policy, role)
            assert {info.name for info in view.classes} == {
                each.what for each in grants if each.action == "submit"
            }
            assert {name for name, _ in view.tools} == {each.what for each in grants if each.action == "call"}
            named = {role} | {each.subject for each in grants} | {each.audience for each in grants}
            assert {(each.role, each.kind) for each in view.role_kinds} == {
                (name, ENCLAVE if name in ENCLAVE_ROLES else CLIENT) for name in named
            }
        _check_packages(policy, party)


def _said(grant: Grant) -> tuple[str, str, str, str, int | None]:
    return (grant.subject, grant.action, grant.what, grant.audience, grant.constraints.max_bytes)


def _check_packages(policy: Policy, party: Party) -> None:
    holdings = party.admitted.holdings
    members = {"mesh"} | (set(party.roles) & set(ENCLAVE_ROLES))
    reached = set().union(*(reference_groups(policy, role) for role in party.roles))
    assert {package.group for package in holdings.members} == members
    assert {package.group for package in holdings.senders} == reached - members


@settings(max_examples=60, deadline=None)
@given(policies(), st.sampled_from(ENCLAVE_ROLES + CLIENT_ROLES), st.sampled_from(ENCLAVE_ROLES))
def test_look_ups_follow_the_rules_to_call_and_to_send(policy: Policy, asker: str, wanted: str) -> None:
    reached = {
        permit.audience
        for decision, permit in permitted(policy).items()
        if decision.role == asker and decision.action in ("call", "send")
    }
    assert in_force(policy).may_look_up((asker,), wanted) == (wanted in reached)


def test_nobody_may_look_up_anything_before_a_policy() -> None:
    assert not in_force(None).may_look_up(("operator",), "vault")


def test_grants_are_bound_to_mesh_term_and_policy_and_carry_their_constraints() -> None:
    world = World()
    world.up()
    view = open_view(world, Party.client(world).join().admitted.holdings, "submitter")
    (signed,) = view.grants
    assert open_grant(signed, world.keys.signing.public, world.mesh) == Grant(
        subject="submitter",
        audience="planner",
        action="submit",
        what="plan",
        rule=1,
        mesh=world.mesh.id,
        term=1,
        policy_version=1,
        issued=START // 1000,
        constraints=Constraints(max_bytes=1000),
    )


def test_operators_view_grants_nothing_and_lists_the_mesh() -> None:
    world = World()
    world.up()
    party = Party(world, OPERATOR, ("operator",), signing=world.operators[1]).join()
    view = open_view(world, party.admitted.holdings, "operator")
    assert (view.grants, view.classes, view.tools) == ((), (), ())
    assert {epoch.group for epoch in view.epochs} == {"mesh"}


def test_version_of_a_role_that_comes_back_goes_on_rising() -> None:
    world = World()
    operator = world.up()
    first = world.policy()
    client = Party.client(world).join()
    before = open_view(world, client.admitted.holdings, "submitter").version
    other = {"cli": Client(key=SigningKey(b"\x31" * 32).public.hex(), roles=("other",))}
    second = world.next_policy(first, clients=other, rules=())
    operator.event(world.policy_event(second))
    operator.event(world.policy_event(world.next_policy(second, clients=first.clients, rules=first.rules)))
    after = open_view(world, Party.client(world).join().admitted.holdings, "submitter").version
    assert after > before


# Sizes.


def wide(world: World, rules: int, *, roles: int = 1, lifetime: int = 60, turn: int = 3_600) -> Policy:
    """Return a policy whose client may submit so many classes, divided among so many of its roles."""
    names = [f"desk-{number}" for number in range(roles)]
    classes = {
        f"class-{number}": TaskClass(role="planner", lifetime_seconds=lifetime) for number in range(rules)
    }
    return world.policy(
        clients={"cli": Client(key=CLIENT_KEY.public.hex(), roles=tuple(names))},
        classes=classes,
        rules=tuple(
            Rule(role=names[number % roles], may="submit", what=name, max_bytes=1, per_minute=1)
            for number, name in enumerate(classes)
        ),
        limits=Limits(role_epoch_seconds=turn, admission_seconds=86_400),
    )


@pytest.mark.parametrize(
    ("rules", "shape", "detail"),
    [
        (2_400, {}, "the view of desk-0"),
        (1, {"lifetime": 14 * 86_400, "turn": 60}, "longer turns"),
        (1_000, {"roles": 2, "lifetime": 86_400, "turn": 60}, "what one holder of 2 roles gets"),
    ],
    ids=["grants", "epochs", "several roles"],
)
def test_policy_by_which_something_fits_no_message_is_refused_and_the_mesh_goes_on(
    rules: int, shape: dict[str, int], detail: str
) -> None:
    world = World()
    operator = world.up()
    policy = wide(world, rules, **shape)
    before = world.core.authority.standing.policy
    assert before is not None
    fields = {name: getattr(policy, name) for name in ("clients", "classes", "rules", "limits")}
    with pytest.raises(Refusal, match="too-large"):
        operator.event(world.policy_event(world.next_policy(before, **fields)))
    assert world.core.authority.standing.policy is before
    world.tick(1_000)
    with pytest.raises(RefusedError, match=detail):
        check_sizes(world.mesh, replace(world.core.authority.standing, policy=policy), SigningKey())


def test_what_is_let_through_fits_its_message_at_the_busiest_time() -> None:
    world = World()
    policy = wide(world, 1_000, lifetime=3_000, turn=60)
    world.up(policy)
    client = Party.client(world, "desk-0").join()
    largest = 0
    for _ in range(60):
        world.tick(60_000)
        held = client.holdings()
        (view,) = held.views
        largest = max(largest, len(codec.encode(held)))
        assert len(view) <= VIEW_MOST
        epochs = open_message(view, world.keys.signing.public, world.mesh, "view", View).epochs
        assert max(len(codec.encode(each)) for each in epochs) <= LISTED_SIZE
        assert max(len(codec.encode(each)) for each in (*held.senders, *held.members)) <= PACKAGE_SIZE
    assert len(epochs) > 50
    assert largest <= HOLDINGS_MOST
