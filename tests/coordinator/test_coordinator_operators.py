"""A change of operators at a coordinator: signed on both sides, whole, logged; the former ones are out."""

from dataclasses import replace as with_fields
from typing import Any

import pytest
from msgspec.structs import replace

from agent_runtime import joining
from agent_runtime.clock import MeshClock
from agent_runtime.witness import Witness
from coordinator.terms import AHEAD
from schemas import codec
from schemas.audit import AuditEntry, open_entry
from schemas.documents import Beacon, LogReceipt, Order, RevocationOrder
from schemas.errors import PeerError, Reason
from schemas.limits import MINUTE
from schemas.messages import OPERATOR, Admitted, Event, EvidenceAnswer, Get, Hello, MeshStatus, Offer
from schemas.subjects import Kind, subject
from sealing.context import sha256
from sealing.cose import unverified_payload
from sealing.council import add_signatures, follow, would_be
from sealing.documents import open_act, open_message, open_profile, sign_by_operators
from sealing.keys import SigningKey
from tests.agent_runtime.world import beat, enclave, signed_beacon
from tests.coordinator.succession import (
    DAN,
    EVE,
    change_of,
    event_of,
    heirs_of,
    signed_change,
    went_over,
)
from tests.coordinator.world import Party, Refusal, World

RECEIPT = "receipt"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def operator(world: World) -> Party:
    return world.up()


def console(world: World, key: SigningKey) -> Party:
    return Party(world, OPERATOR, ("operator",), signing=key)


def refusal_of(party: Party, event: Event) -> str:
    with pytest.raises(Refusal) as refusal:
        party.event(event)
    return str(refusal.value)


def entries(world: World) -> list[AuditEntry]:
    audit = world.core.authority.audit
    return [open_entry(each) for each in audit.page("0")]


def beacon_of(world: World) -> Beacon:
    signed = world.core.authority._beacons.last
    return open_message(signed, world.keys.signing.public, world.mesh, "beacon", Beacon)


def succeeded(world: World, operator: Party) -> Event:
    """Have the world's operators changed; return the event."""
    step = signed_change(world)
    event = event_of(world, step)
    operator.event(event)
    went_over(world, step)
    return event


def test_a_change_is_in_force_with_a_receipt_and_an_entry(world: World, operator: Party) -> None:
    before = beacon_of(world)
    step = signed_change(world)
    event = event_of(world, step)
    signed = operator.event(event)
    receipt = open_message(signed, world.keys.signing.public, world.mesh, RECEIPT, LogReceipt)
    entry = entries(world)[receipt.log_index]
    assert entry.decision == "operators"
    assert entry.facts == {
        "event": sha256(codec.encode(event)).hex(),
        "version": 1,
        "hash": sha256(step.text).hex(),
        "names": ("op0", "op1", "dan", "eve"),
        "threshold": 3,
        "reason": "op2 lost its key",
    }
    after = beacon_of(world)
    assert (before.operators_version, before.operators_hash) == (0, world.mesh.id)
    assert (after.operators_version, after.operators_hash) == (1, sha256(step.text))
    # The same again changes nothing and tells of its first time; whoever lost the receipt asks so.
    assert operator.event(event) == signed
    assert len(entries(world)) == receipt.log_index + 1


def test_offers_show_every_change_and_all_of_them_by_the_new_ones(world: World, operator: Party) -> None:
    succeeded(world, operator)
    _, offer = world.offer()
    council = follow(World().council, offer.operators)
    assert council == world.council
    assert open_profile(council, world.mesh, offer.profile).version == 1
    assert offer.term_record is not None
    assert open_act(council, world.mesh, offer.term_record, Order).term == 1


@pytest.mark.parametrize("keys", [(), (0,), (0, 1), (0, 1, DAN), (0, DAN, EVE), (DAN, EVE)])
def test_a_change_that_not_enough_signed_changes_nothing(
    world: World, operator: Party, keys: tuple[Any, ...]
) -> None:
    signers = [world.operators[key] if isinstance(key, int) else key for key in keys]
    step = add_signatures(world.council, change_of(world), signers)
    reason = refusal_of(operator, event_of(world, step))
    assert reason == ("key-not-proven" if keys == (0, 1, DAN) else "signatures-too-few")
    assert world.core.authority.standing.council == world.council
    assert entries(world)[-1].decision == "refused-event"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "version-gap"),
        ({"previous": bytes(32)}, "predecessor-mismatch"),
        ({"time": World().now + 6 * MINUTE}, "not-yet-valid"),
    ],
)
def test_a_change_that_is_not_the_next_one_of_now_is_refused(
    world: World, operator: Party, changes: dict[str, Any], reason: str
) -> None:
    # Signed as if it were: what it says is what stands against it.
    step = change_of(world, **changes)
    base = world.council
    if "time" not in changes:
        digest = changes.get("previous", base.digest)
        base = with_fields(base, version=changes.get("version", 1) - 1, digest=digest)
    signed = add_signatures(base, step, [*world.operators[:2], DAN, EVE])
    assert refusal_of(operator, event_of(world, signed)) == reason


def test_no_change_and_a_change_of_another_mesh_are_refused(world: World, operator: Party) -> None:
    order = world.signed("order", codec.encode(world.core.authority.standing.order))
    assert refusal_of(operator, Event("operators", order, None, ())) == "version-not-newer"
    other = World(roots=("ef" * 32,))
    assert refusal_of(operator, event_of(world, signed_change(other))) == "wrong-mesh"


def test_order_and_profile_are_signed_again_by_the_new_ones_as_they_are(
    world: World, operator: Party
) -> None:
    event = event_of(world)
    old = event_of(world, by=world.operators[:2])
    assert refusal_of(operator, old) == "signatures-too-few"
    assert refusal_of(operator, replace(event, profile=None)) == "constraint-violated"
    assert refusal_of(operator, replace(event, documents=old.documents)) == "signatures-too-few"
    assert refusal_of(operator, replace(event, profile=old.profile)) == "signatures-too-few"
    standing = world.core.authority.standing
    assert standing.order is not None
    text = codec.encode(replace(standing.order, time=standing.order.time + 1))
    other = sign_by_operators(heirs_of(world), would_be(world.council, event.operators[-1]), "order", text)
    assert refusal_of(operator, replace(event, documents=other)) == "constraint-violated"
    assert world.core.authority.standing == standing


def test_the_former_threshold_decides_nothing_any_more(world: World, operator: Party) -> None:
    policy = world.core.authority.standing.policy
    assert policy is not None
    former = list(world.operators)
    succeeded(world, operator)
    heirs, world.operators = world.operators, former
    by_former = world.policy_event(world.next_policy(policy), 3)
    whole = world.revocation("chip", "ab")
    text = unverified_payload(whole.documents[0])
    two_who_stay = replace(whole, documents=sign_by_operators(heirs[:2], world.council, "revocation", text))
    world.operators = heirs
    assert refusal_of(operator, by_former) == "former-operator"
    assert refusal_of(operator, whole) == "former-operator"
    assert refusal_of(operator, two_who_stay) == "signatures-too-few"
    operator.event(world.policy_event(world.next_policy(policy)))
    assert world.core.authority.standing.policy_version == 2


def test_a_second_change_of_a_version_is_a_fork(world: World, operator: Party) -> None:
    first, other = signed_change(world), signed_change(world, reason="another one")
    second = event_of(world, other)
    operator.event(event_of(world, first))
    assert refusal_of(operator, second) == "forked"
    assert refusal_of(operator, Event("operators", (), None, ())) == "state-rolled-back"


def test_the_console_of_a_former_operator_is_out_and_stays_out(world: World, operator: Party) -> None:
    lost = console(world, world.operators[2]).join()
    planner = enclave(world, "planner")
    succeeded(world, operator)
    assert lost.session.send_subject not in world.heard
    assert lost.keys.instance in planner.membership.held().revoked or planner.membership.behind is False
    planner.refresh()
    assert lost.keys.instance in planner.membership.held().revoked
    assert [each.facts["instance"] for each in entries(world) if each.decision == "evicted"] == [
        lost.keys.instance.hex()
    ]
    with pytest.raises(Refusal, match="client-not-in-policy"):
        lost.join()
    # Who goes on goes on, in the session that it had; and who came is let in.
    operator.request("time", None, "time")
    console(world, DAN).join().request("time", None, "time")


def test_a_former_operator_who_is_half_way_in_is_not_admitted(world: World, operator: Party) -> None:
    lost = console(world, world.operators[2])
    lost.say_init()
    lost.take_accept()
    succeeded(world, operator)
    with pytest.raises(Refusal, match="client-not-in-policy"):
        lost.prove()


def test_operators_are_told_which_set_is_in_force(world: World, operator: Party) -> None:
    succeeded(world, operator)
    status = codec.convert(operator.request("get", Get("status", "0"), "got"), MeshStatus)
    assert (status.operators_version, status.operators_hash) == (1, world.council.digest)


# A coordinator without a term.


def shown(party: Party, event: Event) -> Admitted:
    """Be admitted as an operator who shows the changes of an event."""
    party.say_init()
    party.take_accept()
    party.world.frame(party.session, "evidence", EvidenceAnswer(None, {}, event.operators), b"e" * 16)
    return codec.convert(party.answer("admitted"), Admitted)


def test_a_fresh_coordinator_learns_the_changes_from_who_came_by_them(world: World) -> None:
    event = event_of(world)
    with pytest.raises(Refusal, match="client-not-in-policy"):
        console(world, DAN).join()
    dan = console(world, DAN)
    shown(dan, event)
    former = list(world.operators)
    went_over(world, event.operators[0])
    assert world.core.authority.standing.council == world.council
    assert [each.decision for each in entries(world)][:2] == ["refused", "operators"]
    # And takes its order from them, not from whom the anchor names.
    heirs, world.operators = world.operators, former
    assert refusal_of(dan, world.order()) == "former-operator"
    world.operators = heirs
    dan.event(world.order())
    assert world.core.authority.standing.term == 1


def test_a_fresh_coordinator_learns_no_change_of_a_time_to_come() -> None:
    world = World()
    step = signed_change(world, time=world.now + AHEAD + 1)
    later = console(world, DAN)
    with pytest.raises(Refusal, match="not-yet-valid"):
        shown(later, event_of(world, step))
    assert world.core.authority.standing.council.version == 0
    assert not world.core.authority.ledger.parties()


def test_a_draft_that_too_few_signed_counts_for_no_later_set(world: World, operator: Party) -> None:
    draft = world.revocation("instance", "ab" * 32, signers=1)
    assert refusal_of(operator, draft) == "signatures-too-few"
    alone = (world.council.operators[0],)
    step = add_signatures(world.council, change_of(world, operators=alone, threshold=1), world.operators[:2])
    operator.event(event_of(world, step, by=world.operators[:1]))
    assert refusal_of(operator, draft) == "former-operator"


def test_what_is_signed_for_the_next_set_counts_once_that_is_in_force(world: World, operator: Party) -> None:
    """Two who stay, enough before the change, sign again what they would have in force after it."""
    event, text = event_of(world), codec.encode(RevocationOrder(world.mesh.id, "chip", "ab", "", world.now))
    heirs = would_be(world.council, event.operators[-1])
    ahead = Event("revocation", sign_by_operators(world.operators[:2], heirs, "revocation", text), None, ())
    assert refusal_of(operator, ahead) == "signature-invalid"
    assert refusal_of(operator, replace(event, kind="order")) == "signature-invalid"
    operator.event(event)
    assert refusal_of(operator, ahead) == "signatures-too-few"
    third = sign_by_operators([DAN], heirs, "revocation", text)
    operator.event(replace(ahead, documents=ahead.documents + third))
    assert entries(world)[-1].decision == "revoked"


def test_what_two_sets_signed_makes_no_whole(world: World, operator: Party) -> None:
    whole = world.revocation("chip", "ab", signers=2)
    succeeded(world, operator)
    (third,) = sign_by_operators([DAN], world.council, "revocation", unverified_payload(whole.documents[0]))
    assert refusal_of(operator, replace(whole, documents=(*whole.documents, third))) == "former-operator"


def test_a_stranger_teaches_nothing_and_a_running_coordinator_does_not_learn_so(
    world: World, operator: Party
) -> None:
    event = event_of(world)
    with pytest.raises(Refusal, match="client-not-in-policy"):
        shown(console(world, DAN), event)
    assert world.core.authority.standing.council == world.council
    planner = Party.enclave(world, "planner")
    planner.say_init()
    planner.take_accept()
    world.frame(planner.session, "evidence", EvidenceAnswer(None, {}, event.operators), b"e" * 16)
    with pytest.raises(Refusal, match="malformed"):
        planner.answer("admitted")


def test_what_a_fresh_coordinator_is_shown_is_proven_like_everything(world: World) -> None:
    step = add_signatures(world.council, change_of(world), [world.operators[0], DAN, EVE])
    with pytest.raises(Refusal, match="signatures-too-few"):
        shown(console(world, DAN), Event("operators", (), None, (step,)))
    assert world.core.authority.standing.council == world.council


# Agents.


def judged(world: World, witness: Witness, offer: Offer, hello: joining.PendingHello) -> joining.Coordinator:
    clock = MeshClock(lambda: 0)
    wire = codec.encode(offer)
    return joining.judge_offer(world.mesh, hello, wire, witness, clock, host_time=world.now)[0]


def offered(world: World) -> tuple[joining.PendingHello, Offer]:
    nonce = world.random(32)
    pending = joining.hello(world.mesh, nonce)
    assert pending.wire == codec.encode(Hello(world.mesh.suite, world.mesh.id, nonce))
    return pending, world.offer(nonce)[1]


def offer_refusal(world: World, witness: Witness, **changes: Any) -> Reason:
    hello, offer = offered(world)
    with pytest.raises(PeerError) as refused:
        judged(world, witness, replace(offer, **changes), hello)
    return refused.value.reason


def test_a_fresh_agent_learns_the_operators_from_the_anchor_on(world: World, operator: Party) -> None:
    succeeded(world, operator)
    hello, offer = offered(world)
    witness = Witness(World().council)
    coordinator = judged(world, witness, offer, hello)
    assert coordinator.council == world.council
    # Not before its Evidence was accepted and the session stands: anybody may send an offer.
    assert witness.council.version == 0
    state = Party.enclave(world, "planner").join().state
    joining.enter(witness, coordinator, state)
    assert witness.council == world.council


def test_no_time_however_late_ends_an_agent_that_judges_an_offer(world: World, operator: Party) -> None:
    hello, offer = offered(world)
    wire, witness, clock = codec.encode(offer), Witness(world.council), MeshClock(lambda: 0)
    _, appraisal = joining.judge_offer(world.mesh, hello, wire, witness, clock, host_time=2**62)
    assert appraisal.now.year == 9999


def test_a_fresh_agent_believes_profile_and_order_of_the_present_operators_alone(
    world: World, operator: Party
) -> None:
    before = world.offer()[1]
    succeeded(world, operator)
    witness = Witness(World().council)
    assert offer_refusal(world, witness, profile=before.profile) is Reason.FORMER_OPERATOR
    assert offer_refusal(world, witness, term_record=before.term_record) is Reason.FORMER_OPERATOR


def test_a_broker_that_leaves_the_change_out_makes_an_offer_that_no_one_answers(
    world: World, operator: Party
) -> None:
    before = world.offer()[1]
    succeeded(world, operator)
    hello, offer = offered(world)
    cut = replace(offer, operators=(), profile=before.profile, term_record=before.term_record)
    # A fresh agent cannot tell: all of it was signed once. The coordinator did not make this offer.
    coordinator = judged(world, Witness(World().council), cut, hello)
    party = Party.enclave(world, "planner")
    with pytest.raises(PeerError) as refused:
        party.say_init(context=coordinator.context)
    assert refused.value.reason is Reason.CHALLENGE_UNKNOWN
    # Whoever has seen the change refuses at once.
    seen = Witness(world.council)
    hello, offer = offered(world)
    cut = replace(offer, operators=(), profile=before.profile, term_record=before.term_record)
    with pytest.raises(PeerError) as rolled:
        judged(world, seen, cut, hello)
    assert rolled.value.reason is Reason.STATE_ROLLED_BACK


def test_another_change_than_the_one_seen_is_a_fork(world: World, operator: Party) -> None:
    other = signed_change(world, reason="another one")
    succeeded(world, operator)
    assert offer_refusal(world, Witness(world.council), operators=(other,)) is Reason.FORKED


def test_a_running_agent_adopts_a_change_with_its_holdings(world: World, operator: Party) -> None:
    planner = enclave(world, "planner")
    assert planner.membership.live()
    succeeded(world, operator)
    world.take(subject(world.mesh.id, Kind.BEACON))
    # Its beacons do not count until it holds the change.
    world.tick(1_000)
    assert planner.beacons() == [False]
    planner.refresh()
    assert planner.membership.witness.council == world.council
    beat(world, planner)
    assert planner.membership.live()


def test_an_agent_from_which_a_change_is_withheld_is_live_for_a_grace_and_no_longer(
    world: World, operator: Party
) -> None:
    planner = enclave(world, "planner")
    succeeded(world, operator)
    grace = planner.membership.grace
    for _ in range(grace // 1_000 + 1):
        world.tick(1_000)
        assert not any(planner.beacons())
    assert planner.membership.behind
    assert not planner.membership.live()


def test_holdings_of_before_a_change_do_not_bring_the_former_ones_back(world: World, operator: Party) -> None:
    planner = enclave(world, "planner")
    late = planner.party.holdings()
    succeeded(world, operator)
    planner.refresh()
    with pytest.raises(PeerError) as refused:
        planner.membership.hold(late)
    assert refused.value.reason is Reason.STATE_ROLLED_BACK
    assert planner.membership.witness.council == world.council


def test_a_coordinator_of_the_former_operators_is_refused_by_who_has_seen_the_change(
    world: World, operator: Party
) -> None:
    planner = enclave(world, "planner")
    succeeded(world, operator)
    planner.refresh()
    # Genuine code, a higher term, ordered by those whom the anchor names: two stolen keys can do that.
    other = World()
    other.now = world.now
    party = Party(other, OPERATOR, ("operator",), signing=other.operators[0]).join()
    party.event(other.order(term=2))
    party.event(other.policy_event(other.policy()))
    witness = planner.membership.witness
    assert offer_refusal(other, witness) is Reason.STATE_ROLLED_BACK
    state = Party.enclave(other, "planner").join().state
    with pytest.raises(PeerError) as refused:
        witness.check_state(state)
    assert refused.value.reason is Reason.STATE_ROLLED_BACK


def test_a_beacon_that_names_former_operators_is_refused(world: World, operator: Party) -> None:
    planner = enclave(world, "planner")
    succeeded(world, operator)
    planner.refresh()
    world.tick(1_000)
    last = world.core.authority._beacons.last
    member = planner.membership
    sequence = beacon_of(world).sequence
    for changes, reason in (
        ({"operators_version": 0, "operators_hash": world.mesh.id}, Reason.STATE_ROLLED_BACK),
        ({"operators_hash": bytes(32)}, Reason.FORKED),
    ):
        sequence += 1
        with pytest.raises(PeerError) as refused:
            member.signed_beacon(signed_beacon(world, last, sequence=sequence, **changes))
        assert refused.value.reason is reason
