"""Break-glass: signed by enough, for a reason, bounded, told to everybody, and gone by itself."""

from typing import Any

import msgspec
import pytest

from coordinator.glass import MOST, STANDING_MOST
from schemas import codec
from schemas.documents import BreakGlass
from schemas.errors import PeerError, Reason
from schemas.limits import GRACE, MINUTE, SECOND
from schemas.messages import Event, Get, MeshStatus
from schemas.peer import Call
from schemas.rules import Rule
from sealing.documents import open_grant, open_policy
from tests.agent_runtime.world import Member, beat, enclave
from tests.coordinator.world import START, Party, Refusal, World

HOUR = 60 * MINUTE


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def operator(world: World) -> Party:
    return world.up()


def glass(world: World, signers: int = 2, **changes: Any) -> Event:
    fields = {
        "mesh": world.mesh.id,
        "term": 1,
        "role": "planner",
        "may": "call",
        "what": "pseudonym",
        "reason": "recall 4711",
        "time": world.now,
        "until": world.now + HOUR,
    }
    document = codec.encode(BreakGlass(**{**fields, **changes}))
    return Event("break-glass", world.signed("break-glass", document, signers), None, ())


def extra(world: World) -> tuple[Rule, ...]:
    return world.core.authority.standing.extra


def refusal_of(party: Party, event: Event) -> str:
    with pytest.raises(Refusal) as refusal:
        party.event(event)
    return str(refusal.value)


def may_call(vault: Member, planner: Member) -> str:
    """Ask the vault's gate as the planner; return why not, or nothing."""
    call = Call(vault.world.random(16), "pseudonym", b"", vault.world.now + HOUR, None)
    try:
        vault.gate.call(planner.instance, "planner", "vault", call)
    except PeerError as refusal:
        return refusal.reason.value
    return ""


def test_a_right_is_given_at_once_told_to_everybody_and_gone_by_itself(world: World, operator: Party) -> None:
    vault, planner = enclave(world, "vault"), enclave(world, "planner")
    redactor = enclave(world, "redactor")
    assert may_call(vault, planner) == Reason.NO_GRANT
    operator.event(glass(world, until=world.now + 5 * MINUTE))
    for each in (vault, planner, redactor):
        each.refresh()
        # Whomever it concerns: each writes it into its log.
        (notice,) = each.membership.held().notices
        assert "planner may call pseudonym until 2027" in notice
        assert notice.endswith("recall 4711")
    assert may_call(vault, planner) == ""
    for member in (vault, planner):
        assert ("planner", "call", "pseudonym") in member.membership.held().grants
    for _ in range(5 * 60 - 1):
        beat(world, vault, planner, redactor)
    assert may_call(vault, planner) == ""
    beat(world, vault, planner, redactor)
    assert may_call(vault, planner) == Reason.NO_GRANT
    # What it was is listed a grace longer, so that whoever held it for in force has heard of it.
    for _ in range(GRACE // SECOND + 2):
        beat(world, vault, planner, redactor)
    assert redactor.membership.held().notices == ()


def test_whoever_does_not_hear_of_its_end_goes_by_it_for_a_grace_at_most(
    world: World, operator: Party
) -> None:
    vault, planner = enclave(world, "vault"), enclave(world, "planner")
    operator.event(glass(world, until=world.now + 10 * SECOND))
    planner.refresh()
    vault.refresh()
    for _ in range(9):
        beat(world, vault, planner)
    assert may_call(vault, planner) == ""
    # Beacons come, and what they name is withheld.
    world.tick(SECOND)
    assert vault.beacons()[-1] is False
    world.tick(GRACE)
    assert may_call(vault, planner) == Reason.NOT_LIVE


def test_of_two_that_give_one_right_the_later_end_holds(world: World, operator: Party) -> None:
    vault, planner = enclave(world, "vault"), enclave(world, "planner")
    for minutes in (2, 4, 1):
        operator.event(glass(world, until=world.now + minutes * MINUTE, reason=f"recall {minutes}"))
    assert len(extra(world)) == 1
    while world.now < START + 4 * MINUTE - SECOND:
        beat(world, vault, planner)
    assert may_call(vault, planner) == ""
    beat(world, vault, planner)
    beat(world, vault, planner)
    assert may_call(vault, planner) == Reason.NO_GRANT


def test_other_grants_stay_as_they_were(world: World, operator: Party) -> None:
    redactor = Party.enclave(world, "redactor").join()
    before = redactor.holdings().views
    operator.event(glass(world))
    assert redactor.holdings().views == before
    planner = enclave(world, "planner")
    trust, key = planner.membership.held(), world.keys.signing.public
    added = [open_grant(each, key, world.mesh) for each in trust.views["planner"].grants]
    assert ("planner", "call", "pseudonym", "vault") in {
        (each.subject, each.action, each.what, each.audience) for each in added
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signers": 1}, "signatures-too-few"),
        ({"mesh": bytes(32)}, "wrong-mesh"),
        ({"term": 2}, "term-not-accepted"),
        ({"reason": "  "}, "constraint-violated"),
        ({"role": "nobody"}, "constraint-violated"),
        ({"what": "nothing"}, "constraint-violated"),
        ({"role": "redactor"}, "constraint-violated"),  # the policy says so already
        ({"role": "operator"}, "constraint-violated"),
    ],
)
def test_what_is_not_signed_has_no_reason_or_names_nothing_is_refused(
    world: World, operator: Party, changes: dict[str, Any], reason: str
) -> None:
    assert refusal_of(operator, glass(world, **changes)) == reason


@pytest.mark.parametrize(
    ("begins", "lasts", "reason"),
    [
        (0, MOST + 1, "constraint-violated"),
        (4 * MINUTE, MOST, "constraint-violated"),  # a day from when it is taken
        (-HOUR, HOUR, "expired"),
        (0, 0, "expired"),
        (0, SECOND - 1, "expired"),  # a grant ends with a second
        (6 * MINUTE, HOUR, "not-yet-valid"),
        (2 * MINUTE, -MINUTE, "constraint-violated"),
    ],
)
def test_it_is_for_a_day_at_most_and_of_now(
    world: World, operator: Party, begins: int, lasts: int, reason: str
) -> None:
    event = glass(world, time=world.now + begins, until=world.now + begins + lasts)
    assert refusal_of(operator, event) == reason


def test_what_is_taken_gives_something_however_short_it_is(world: World, operator: Party) -> None:
    vault, planner = enclave(world, "vault"), enclave(world, "planner")
    operator.event(glass(world, until=world.now + SECOND))
    planner.refresh()
    vault.refresh()
    assert may_call(vault, planner) == ""


def test_what_the_policy_denies_is_neither_given_nor_told(world: World, operator: Party) -> None:
    event = glass(world)
    operator.event(event)
    held = world.policy()
    deny = Rule(role="planner", deny="call", what="pseudonym")
    operator.event(world.policy_event(world.next_policy(held, rules=(*held.rules, deny))))
    operator = world.up_again()
    told = codec.convert(operator.request("get", Get("status", "0"), "got"), MeshStatus)
    assert told.break_glass == ()
    assert [each for each in world.core.authority.ledger.revoked() if each.kind == "break-glass"] == []
    assert extra(world) == ()
    assert refusal_of(operator, glass(world, reason="another")) == "constraint-violated"


def test_what_a_later_policy_permits_again_is_told_again(world: World, operator: Party) -> None:
    operator.event(glass(world))
    held = world.policy()
    deny = Rule(role="planner", deny="call", what="pseudonym")
    without = world.next_policy(held, rules=(*held.rules, deny))
    operator.event(world.policy_event(without))
    world.up_again().event(world.policy_event(world.next_policy(without, rules=held.rules)))
    (entry,) = [each for each in world.core.authority.ledger.revoked() if each.kind == "break-glass"]
    assert "recall 4711" in entry.value
    assert len(extra(world)) == 1


def test_operators_get_it_and_the_policy_as_they_were_signed(world: World, operator: Party) -> None:
    event = glass(world)
    operator.event(event)
    assert codec.convert(operator.request("get", Get("break-glass", "0"), "got"), Event) == event
    with pytest.raises(Refusal, match="no-handler"):
        operator.request("get", Get("break-glass", "1"), "got")
    policy = codec.convert(operator.request("get", Get("policy", ""), "got"), Event)
    assert open_policy(world.council, world.mesh, policy.documents)[0] == world.policy()


@pytest.mark.parametrize("what", ["policy", "break-glass", "status", "log"])
def test_nobody_else_gets_them(world: World, operator: Party, what: str) -> None:
    vault = enclave(world, "vault").party
    with pytest.raises(Refusal, match="role-not-permitted"):
        vault.request("get", Get(what, "0"), "got")


def test_no_more_than_sixteen_stand_at_once(world: World, operator: Party) -> None:
    for number in range(STANDING_MOST):
        operator.event(glass(world, reason=f"recall {number}"))
    assert refusal_of(operator, glass(world, reason="one more")) == "too-large"


def test_what_would_not_fit_a_view_is_refused_before_it_is_in_force(
    world: World, operator: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.granting.VIEW_MOST", 600)
    assert refusal_of(operator, glass(world)) == "too-large"
    assert extra(world) == ()


def test_it_is_written_down_when_it_begins_and_when_it_is_over(world: World, operator: Party) -> None:
    event = glass(world)
    operator.event(event)
    operator.event(event)  # a receipt that was lost
    told = codec.convert(operator.request("get", Get("status", "0"), "got"), MeshStatus)
    assert len(told.break_glass) == 1
    world.tick(HOUR)
    entries = [msgspec.json.decode(line) for line in world.log]
    (broken,) = [each for each in entries if each["decision"] == "glass-broken"]
    (ended,) = [each for each in entries if each["decision"] == "glass-ended"]
    assert (broken["right"], broken["reason"]) == ("planner call pseudonym", "recall 4711")
    assert ended["right"] == broken["right"]
    # And it does not come back.
    assert refusal_of(world.up_again(), event) == "expired"


def test_a_new_policy_keeps_what_it_names_and_no_more(world: World, operator: Party) -> None:
    operator.event(glass(world))
    second = world.next_policy(world.policy())
    operator.event(world.policy_event(second))
    assert len(extra(world)) == 1
    third = world.next_policy(second, tools={}, rules=second.rules[:2])
    operator.event(world.policy_event(third))
    assert extra(world) == ()
    assert world.core.authority.standing.policy == third


def test_there_is_none_without_a_policy(world: World) -> None:
    party = Party(world, "operator", ("operator",), signing=world.operators[0]).join()
    assert refusal_of(party, glass(world, term=0)) == "term-not-accepted"
