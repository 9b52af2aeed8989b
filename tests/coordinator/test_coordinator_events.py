"""Order, policy and revocation: what operators can put in force, and what it does to others."""

import json

import msgspec
import pytest

from coordinator.beacons import revoked_hash
from coordinator.ledger import CHIPS_MOST
from schemas import codec
from schemas.documents import Beacon, LogReceipt, Order, View
from schemas.evidence import NITRO, SEV_SNP, PlatformValues
from schemas.messages import (
    ENCLAVE,
    LAST_MOMENT,
    OPERATOR,
    Event,
    Get,
    Holdings,
    MeshStatus,
    Refused,
    Time,
)
from schemas.pinning import Pinned
from schemas.policy import Client, Limits, Policy, TaskClass, Workload, compiled
from sealing import cose
from sealing.context import sha256
from sealing.documents import open_message, sign_by_operators
from sealing.keys import SigningKey
from sealing.profile import profile_of
from tests.coordinator.world import CHIP, START, Party, Refusal, World, measured

OTHER_CHIP = "d1" * 64


@pytest.fixture
def world() -> World:
    return World()


def operator(world: World) -> Party:
    return Party(world, OPERATOR, ("operator",), signing=world.operators[0]).join()


def refusal_of(party: Party, event: Event) -> str:
    with pytest.raises(Refusal) as refusal:
        party.event(event)
    (reason,) = refusal.value.reasons
    return reason


def view(party: Party, holdings: Holdings) -> View:
    world = party.world
    (signed,) = holdings.views
    return open_message(signed, world.keys.signing.public, world.mesh, "view", View)


def beacon(world: World, holdings: Holdings) -> Beacon:
    return open_message(holdings.beacon, world.keys.signing.public, world.mesh, "beacon", Beacon)


def epochs(holdings: Holdings, group: str) -> list[int]:
    members = [package.epoch for package in holdings.members if package.group == group]
    return members + [package.epoch for package in holdings.senders if package.group == group]


def in_order_of_keys(world: World, documents: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return what the first operators signed as it is handed on."""
    by_key = sorted(zip(world.operators, documents, strict=False), key=lambda pair: pair[0].public)
    return tuple(document for _, document in by_key)


# The order.


def test_order_opens_the_term_and_offers_show_it(world: World) -> None:
    before = world.offer()[1]
    assert (before.term, before.term_record, before.profile) == (0, None, ())
    order = world.order()
    operator(world).event(order)
    after = world.offer()[1]
    assert (after.term, after.term_record) == (1, in_order_of_keys(world, order.documents))


def test_receipt_is_signed_and_names_the_event_and_its_entry_in_the_log(world: World) -> None:
    party, order = operator(world), world.order()
    signed = party.event(order)
    receipt = open_message(signed, world.keys.signing.public, world.mesh, "receipt", LogReceipt)
    assert receipt == LogReceipt(sha256(codec.encode(order)), 1, 1, 0)
    assert '"decision":"term"' in world.log[receipt.log_index]


def test_order_by_too_few_operators_is_refused(world: World) -> None:
    order = world.order()
    assert refusal_of(operator(world), Event("order", order.documents[:1], None, ())) == "signatures-too-few"
    assert refusal_of(operator(world), Event("order", (), None, ())) == "signatures-too-few"


def test_one_operator_signing_twice_opens_nothing(world: World) -> None:
    twice = Event("order", (world.order().documents[0],) * 2, None, ())
    assert refusal_of(operator(world), twice) == "signature-invalid"


def test_order_by_a_stranger_is_refused(world: World) -> None:
    world.operators[1] = SigningKey(b"\x77" * 32)
    assert refusal_of(operator(world), world.order()) == "signature-invalid"


def test_order_of_another_mesh_is_refused(world: World) -> None:
    assert refusal_of(operator(world), world.order(mesh=bytes(32))) == "wrong-mesh"


def test_order_for_another_instance_is_refused(world: World) -> None:
    assert refusal_of(operator(world), world.order(instance=bytes(32))) == "term-not-accepted"


def test_terms_only_rise_and_a_process_serves_one(world: World) -> None:
    party = operator(world)
    party.event(world.order(term=3))
    assert refusal_of(party, world.order(term=3, policy_hash=bytes(32))) == "version-not-newer"
    assert refusal_of(party, world.order(term=2)) == "version-not-newer"
    assert refusal_of(party, world.order(term=4)) == "term-not-accepted"


def test_order_moves_a_clock_that_is_behind_and_never_one_that_is_ahead(world: World) -> None:
    party = operator(world)
    party.event(world.order(time=START + 7_000))
    told = codec.convert(party.request("time", None, "time"), Time)
    assert told.time == START + 7_000
    other = World()
    party = operator(other)
    party.event(other.order(time=START - 7_000))
    assert codec.convert(party.request("time", None, "time"), Time).time == START


def test_order_is_a_policys_document_to_nobody(world: World) -> None:
    # One key signs both: the label keeps them apart.
    order = world.order()
    assert refusal_of(operator(world), Event("policy", order.documents, None, ())) == "signature-invalid"


def test_only_operators_bring_events(world: World) -> None:
    world.up()
    client = Party.client(world).join()
    assert refusal_of(client, world.order(term=2)) == "role-not-permitted"
    assert refusal_of(Party.enclave(world, "planner").join(), world.order(term=2)) == "role-not-permitted"


def test_unknown_event_and_request_are_refused(world: World) -> None:
    party = world.up()
    assert refusal_of(party, Event("succession", (), None, ())) == "no-handler"
    with pytest.raises(Refusal, match="no-handler"):
        party.request("lease", None, "lease")
    with pytest.raises(Refusal, match="malformed"):
        party.request("event", ["order"], "receipt")


# The policy.


def test_policy_needs_a_term(world: World) -> None:
    assert refusal_of(operator(world), world.policy_event(world.policy())) == "term-not-accepted"


def test_policy_is_in_force_with_its_receipt(world: World) -> None:
    party = world.up()
    assert (party.state.policy_version, party.state.policy_hash) == (1, sha256(compiled(world.policy())))
    signed = world.policy_event(world.policy()).profile
    assert signed is not None
    assert world.offer()[1].profile == in_order_of_keys(world, signed)


def test_first_policy_may_have_any_version(world: World) -> None:
    policy = world.policy(version=7, predecessor="ee" * 32)
    assert world.up(policy).state.policy_version == 7


def test_policy_by_too_few_operators_is_refused(world: World) -> None:
    party = operator(world)
    party.event(world.order())
    assert refusal_of(party, world.policy_event(world.policy(), signers=1)) == "signatures-too-few"


def test_policy_of_another_mesh_is_refused(world: World) -> None:
    party = world.up()
    policy = world.next_policy(world.policy(), mesh="ee" * 32)
    assert refusal_of(party, world.policy_event(policy)) == "wrong-mesh"


def test_policy_rollback_is_refused(world: World) -> None:
    first = world.policy()
    second = world.next_policy(first)
    party = world.up(first)
    party.event(world.policy_event(second))
    assert refusal_of(party, world.policy_event(first)) == "version-not-newer"
    party.event(world.policy_event(world.next_policy(second)))
    unseen = world.next_policy(second, version=2, rules=())
    assert refusal_of(party, world.policy_event(unseen)) == "forked"


def test_policy_gap_is_refused(world: World) -> None:
    first = world.policy()
    second = world.next_policy(first)
    party = world.up(first)
    for gap in (world.next_policy(second), world.next_policy(first, version=3)):
        assert refusal_of(party, world.policy_event(gap)) == "version-gap"
    other = world.next_policy(first, predecessor="ee" * 32)
    assert refusal_of(party, world.policy_event(other)) == "predecessor-mismatch"
    party.event(world.policy_event(second))


def test_two_policies_of_one_version_are_shown_as_a_fork(world: World) -> None:
    first = world.policy()
    second, other = world.next_policy(first), world.next_policy(first, rules=())
    party = world.up(first)
    party.event(world.policy_event(second))
    for _ in range(2):
        party.world.frame(party.session, "event", world.policy_event(other), world.random(16))
        refused = codec.convert(party.bodies()[-1].fields, Refused)
        assert refused.reasons == ("forked",)
        assert sha256(compiled(second)).hex() in refused.detail
        assert sha256(compiled(other)).hex() in refused.detail
    entries = [json.loads(line) for line in world.log]
    (fork,) = [entry for entry in entries if entry["decision"] == "fork"]
    assert (fork["version"], fork["other"]) == (2, sha256(compiled(other)).hex())
    assert [entry["reason"] for entry in entries if entry["decision"] == "refused-event"] == ["forked"] * 2


def test_a_fork_of_a_version_that_was_in_force_before_is_shown_too(world: World) -> None:
    first = world.policy()
    party = world.up(first)
    party.event(world.policy_event(world.next_policy(first)))
    assert refusal_of(party, world.policy_event(world.policy(rules=()))) == "forked"


def test_what_is_in_force_brought_again_changes_nothing_and_has_the_receipt_of_its_first_time(
    world: World,
) -> None:
    # Whoever lost the receipt, or the connection, asks again; there is nothing in it for a replay.
    party, order, policy = operator(world), world.order(), world.policy()
    planner_evicted = world.revocation("instance", "ab" * 32)
    first = [party.event(order), party.event(world.policy_event(policy)), party.event(planner_evicted)]
    before, log = party.world.core.authority.standing, list(world.log)
    again = [party.event(order), party.event(world.policy_event(policy)), party.event(planner_evicted)]
    receipts = [
        open_message(signed, world.keys.signing.public, world.mesh, "receipt", LogReceipt)
        for signed in (*first, *again)
    ]
    assert [each.log_index for each in receipts[:3]] == [each.log_index for each in receipts[3:]]
    assert [each.event for each in receipts[:3]] == [each.event for each in receipts[3:]]
    assert (world.core.authority.standing, world.log) == (before, log)


def test_the_same_policy_with_the_signatures_of_others_is_in_force_already(world: World) -> None:
    party, policy = world.up(), world.policy()
    others = sign_by_operators(world.operators[1:], world.council, "policy", compiled(policy))
    party.event(Event("policy", others, world.policy_event(policy).profile, ()))
    assert world.core.authority.standing.policy_version == 1


@pytest.mark.parametrize("what", ["order", "policy", "profile"])
def test_copies_of_genuine_signatures_are_refused_and_make_no_offer_longer(world: World, what: str) -> None:
    party = operator(world) if what == "order" else world.up()
    second = world.policy_event(world.next_policy(world.policy()))
    event = world.order() if what == "order" else second
    documents, profile = event.documents, event.profile
    if what == "profile":
        assert profile is not None
        profile = profile + profile[-1:] * 62
    else:
        documents = documents + documents[-1:] * 62
    before = world.offer()[1]
    assert refusal_of(party, Event(event.kind, documents, profile, ())) == "signature-invalid"
    after = world.offer()[1]
    assert (after.profile, after.term_record) == (before.profile, before.term_record)


def test_offers_carry_as_many_signatures_as_are_needed_whoever_else_signed(world: World) -> None:
    policy, party = world.policy(), operator(world)
    order = codec.decode(cose.unverified_payload(world.order().documents[0]), Order)
    party.event(Event("order", world.signed("order", codec.encode(order), 3), None, ()))
    text = codec.encode(profile_of(world.mesh, policy))
    profile = world.signed("profile", text, 3)
    party.event(Event("policy", world.signed("policy", compiled(policy), 3), profile, ()))
    offer = world.offer()[1]
    assert offer.profile == in_order_of_keys(world, profile)[:2]
    assert offer.term_record is not None
    assert len(offer.term_record) == 2
    # Others who bring the same again replace the profile too.
    others = sign_by_operators(
        sorted(world.operators, key=lambda key: key.public)[1:], world.council, "profile", text
    )
    world.up_again().event(Event("policy", world.signed("policy", compiled(policy)), others, ()))
    assert world.offer()[1].profile == others


def test_a_policy_of_another_past_does_not_follow(world: World) -> None:
    first = world.policy()
    other = world.policy(tools={}, rules=())
    party = world.up(first)
    assert refusal_of(party, world.policy_event(world.next_policy(other))) == "predecessor-mismatch"
    orphan = world.next_policy(first, predecessor=None)
    assert refusal_of(party, world.policy_event(orphan)) == "predecessor-mismatch"


def test_policy_is_adopted_within_the_time_that_its_operators_gave_it_and_at_no_other(world: World) -> None:
    party = operator(world)
    party.event(world.order())
    bounded = world.policy(not_before=START + 60_000, expires=START + 120_000)
    assert refusal_of(party, world.policy_event(bounded)) == "not-yet-valid"
    world.tick(60_000)
    party = operator(world)
    party.event(world.policy_event(bounded))
    world.tick(60_000)
    late = world.next_policy(bounded, not_before=None)
    assert refusal_of(operator(world), world.policy_event(late)) == "expired"
    unbounded = world.next_policy(bounded, not_before=None, expires=None)
    operator(world).event(world.policy_event(unbounded))


def test_a_policy_is_issued_neither_ahead_of_time_nor_before_the_one_that_it_replaces(world: World) -> None:
    first = world.policy(issued=START)
    party = world.up(first)
    for ahead in (START + 5 * 60_000 + 1, LAST_MOMENT):
        event = world.policy_event(world.next_policy(first, issued=ahead))
        assert refusal_of(party, event) == "not-yet-valid"
        party = world.up_again()
    before = world.policy_event(world.next_policy(first, issued=START - 1))
    assert refusal_of(party, before) == "constraint-violated"
    world.up_again().event(world.policy_event(world.next_policy(first, issued=START + 5 * 60_000)))


def test_what_people_sign_has_a_time_that_can_be_written_as_a_date(world: World) -> None:
    party = world.up()
    second = world.next_policy(world.policy(), issued=LAST_MOMENT + 1)
    text = compiled(second)
    profile = codec.encode(profile_of(world.mesh, second))
    event = Event("policy", world.signed("policy", text), world.signed("profile", profile), ())
    assert refusal_of(party, event) == "malformed"


def test_restarted_coordinator_holds_to_the_policy_that_its_order_names(world: World) -> None:
    party = operator(world)
    held = world.policy(version=4)
    party.event(world.order(policy_hash=sha256(compiled(held))))
    older = world.policy(version=3)
    assert refusal_of(party, world.policy_event(older)) == "predecessor-mismatch"
    party.event(world.policy_event(held))


def test_restarted_coordinator_takes_the_successor_of_what_its_order_names(world: World) -> None:
    party = operator(world)
    held = world.policy(version=4)
    party.event(world.order(policy_hash=sha256(compiled(held))))
    party.event(world.policy_event(world.next_policy(held)))


@pytest.mark.parametrize("version", [None, 1, 4, 99])
def test_a_policy_comes_with_the_profile_that_follows_from_it(world: World, version: int | None) -> None:
    held = world.policy()
    party = world.up(held)
    second = world.next_policy(held)
    other = None if version is None else world.policy_event(world.policy(version=version)).profile
    for policy in (second, held):
        if policy.version == version:
            continue
        event = Event("policy", world.policy_event(policy).documents, other, ())
        assert refusal_of(party, event) == "constraint-violated"
        party = world.up_again()
    party.event(world.policy_event(second))
    signed = world.policy_event(second).profile
    assert signed is not None
    assert world.offer()[1].profile == in_order_of_keys(world, signed)


def test_an_order_of_a_time_to_come_moves_no_clock(world: World) -> None:
    party = operator(world)
    for time in (world.now + 5 * 60_000 + 1, LAST_MOMENT):
        assert refusal_of(party, world.order(time=time)) == "not-yet-valid"
    assert world.core.time(world.now) == world.now
    party.event(world.order(time=world.now + 5 * 60_000))


def test_terms_and_versions_leave_room_for_the_next(world: World) -> None:
    party = operator(world)
    assert refusal_of(party, world.order(term=2**31)) == "constraint-violated"
    party.event(world.order(term=2**31 - 1))
    party = operator(world)
    first = 2**31 - 2**20 - 1  # after which a million may follow
    assert refusal_of(party, world.policy_event(world.policy(version=first + 1))) == "constraint-violated"
    party.event(world.policy_event(world.policy(version=first)))
    beyond = world.next_policy(world.policy(version=first), version=2**31)
    party = operator(world)
    assert refusal_of(party, world.policy_event(beyond)) == "constraint-violated"


def test_a_mesh_whose_first_version_was_the_highest_goes_on_after_a_restart() -> None:
    first = World().policy(version=2**31 - 2**20 - 1)
    following = World().next_policy(first)
    for held in (first, following):
        world = World()
        party = operator(world)
        party.event(world.order(term=2, policy_hash=sha256(compiled(held))))
        operator(world).event(world.policy_event(following))
        assert world.core.authority.standing.policy_version == following.version
    # In a first term nothing was in force, and what no order names is anything.
    for changes in ({"policy_hash": sha256(compiled(following))}, {"term": 2}):
        world = World()
        operator(world).event(world.order(**changes))
        assert refusal_of(operator(world), world.policy_event(following)) == "constraint-violated"


def test_a_revocation_handed_over_outlives_every_admission_of_the_term_before(world: World) -> None:
    party = operator(world)
    party.event(world.order())
    operator(world).event(world.revocation("instance", "cd" * 32))
    operator(world).event(world.policy_event(world.policy(limits=Limits(admission_seconds=86_400))))
    world.tick(86_400_000)
    assert [each.value for each in world.core.authority.ledger.revoked()] == ["cd" * 32]
    world.tick(300_000)
    assert world.core.authority.ledger.revoked() == ()


def test_a_tightening_policy_does_not_put_off_what_the_last_one_asked_for(world: World) -> None:
    held = world.policy()
    world.up(held)
    planner = Party.enclave(world, "planner").join()
    due = []
    for highest in (1, 0):
        platforms = {
            name: msgspec.structs.replace(values, minimum_tcb={"snp": 9 - highest})
            for name, values in held.platforms.items()
        }
        held = world.next_policy(held, platforms=platforms)
        world.up_again().event(world.policy_event(held))
        party = world.core.authority.ledger.admitted(planner.keys.instance)
        assert party is not None
        due.append(party.prove_by)
        world.now += 30_000
    assert due[0] is not None
    assert due[0] == due[1]


def test_a_taint_holds_whatever_the_next_policy_pins_of_the_same_image(world: World) -> None:
    ids = iter(sha256(bytes([number])) for number in range(9))
    current = [next(ids)]
    judged = world.appraise
    world.appraise = lambda request: msgspec.structs.replace(judged(request), workload_id=current[0])
    world.up()
    Party.enclave(world, "planner").join()
    world.up_again().event(world.revocation("measurement", current[0].hex()))
    # The id is another as soon as one more value is pinned, or a higher security version.
    current[0] = next(ids)
    with pytest.raises(Refusal, match="instance-revoked"):
        Party.enclave(world, "planner").join()
    Party.enclave(world, "vault").join()


def test_a_taint_of_what_nobody_ran_is_remembered_by_what_shows_it(world: World) -> None:
    current = [sha256(b"first")]
    judged = world.appraise
    world.appraise = lambda request: msgspec.structs.replace(judged(request), workload_id=current[0])
    world.up().event(world.revocation("measurement", current[0].hex()))
    for each in (b"first", b"second"):
        current[0] = sha256(each)
        with pytest.raises(Refusal, match="instance-revoked"):
            Party.enclave(world, "planner").join()


def test_policy_that_contradicts_itself_is_refused(world: World) -> None:
    policy = world.next_policy(world.policy(), classes={"plan": TaskClass(role="nobody")})
    assert refusal_of(world.up(), world.policy_event(policy)) == "malformed"


def test_refused_event_changes_nothing(world: World) -> None:
    party = world.up()
    before = party.holdings()
    refusal_of(party, world.policy_event(world.policy(rules=())))
    assert party.holdings().views == before.views
    assert party.pushed() == []


def test_new_policy_is_pushed_to_everyone(world: World) -> None:
    party = world.up()
    planner, client = Party.enclave(world, "planner").join(), Party.client(world).join()
    party.event(world.policy_event(world.next_policy(world.policy(), rules=())))
    for each in (planner, client):
        (holdings,) = each.pushed()
        assert view(each, holdings).policy_version == 2
        assert view(each, holdings).grants == ()
        assert beacon(world, holdings).policy_version == 2


def test_party_admitted_before_the_term_is_told_to_come_again(world: World) -> None:
    party = operator(world)
    party.event(world.order())
    with pytest.raises(Refusal, match="term-not-accepted"):
        party.holdings()


# What a new policy does to those who are admitted.


def evicted_by(world: World, party: Party, policy: Policy) -> bool:
    operator(world).event(world.policy_event(policy))
    return party.session.send_subject not in world.heard


def with_workload(policy: Policy, name: str, **changes: object) -> dict[str, Workload]:
    return {**policy.workloads, name: msgspec.structs.replace(policy.workloads[name], **changes)}


def test_workload_that_a_new_policy_does_not_name_is_evicted(world: World) -> None:
    world.up()
    vault, redactor = Party.enclave(world, "vault").join(), Party.enclave(world, "redactor").join()
    policy = world.policy()
    workloads = {name: each for name, each in policy.workloads.items() if name != "vault"}
    assert evicted_by(
        world, vault, world.next_policy(policy, workloads=workloads, tools={}, rules=policy.rules[:2])
    )
    (holdings,) = redactor.pushed()
    (entry,) = holdings.revoked
    assert (entry.kind, entry.value, entry.instances) == ("workload", "vault", (vault.keys.instance,))


@pytest.mark.parametrize(
    "pinned",
    [
        Pinned(measurements=measured("planner-2")),
        Pinned(measurements=measured("planner"), chips=(OTHER_CHIP,)),
    ],
)
def test_instance_that_is_not_what_a_new_policy_names_is_evicted(world: World, pinned: Pinned) -> None:
    world.up()
    planner = Party.enclave(world, "planner").join()
    policy = world.policy()
    workloads = with_workload(policy, "planner", on={SEV_SNP: pinned})
    assert evicted_by(world, planner, world.next_policy(policy, workloads=workloads))
    operators_word = operator(world).holdings().revoked
    assert [entry.instances for entry in operators_word] == [(planner.keys.instance,)]


def test_role_that_a_new_policy_takes_away_evicts_its_holders(world: World) -> None:
    first = world.policy(workloads=with_workload(world.policy(), "planner", roles=("planner", "helper")))
    world.up(first)
    helper = Party.enclave(world, "helper", workload="planner").join()
    planner = Party.enclave(world, "planner").join()
    assert evicted_by(world, helper, world.next_policy(first, workloads=world.policy().workloads))
    assert planner.session.send_subject in world.heard


def test_client_that_a_new_policy_does_not_pin_is_evicted_and_may_come_back(world: World) -> None:
    world.up()
    client, planner = Party.client(world).join(), Party.enclave(world, "planner").join()
    other = {"cli": Client(key=SigningKey(b"\x55" * 32).public.hex(), roles=("submitter",))}
    first = world.policy()
    second = world.next_policy(first, clients=other)
    assert evicted_by(world, client, second)
    assert [entry.instances for entry in planner.pushed()[-1].revoked] == [(client.keys.instance,)]
    operator(world).event(world.policy_event(world.next_policy(second, clients=first.clients)))
    Party.client(world).join()
    assert planner.pushed()[-1].revoked == ()


def test_higher_floor_has_everyone_of_that_platform_prove_again_or_go(world: World) -> None:
    world.up()
    proving, silent = Party.enclave(world, "planner").join(), Party.enclave(world, "planner").join()
    client = Party.client(world).join()
    platforms = {
        **world.policy().platforms,
        SEV_SNP: PlatformValues(lab_roots=("ab" * 32,), minimum_tcb={"snp": 9}),
    }
    assert evicted_by(world, proving, world.next_policy(world.policy(), platforms=platforms))
    proving.join()
    world.tick(60_000)
    assert proving.session.send_subject in world.heard
    assert client.session.send_subject in world.heard
    assert [entry.instances for entry in client.pushed()[-1].revoked] == [(silent.keys.instance,)]


def test_higher_floor_has_whoever_has_keys_and_no_admission_go_at_once(world: World) -> None:
    world.up()
    gone = Party.enclave(world, "redactor").join()
    world.tick(600_000)
    values = PlatformValues(lab_roots=("ab" * 32,), minimum_tcb={"snp": 9})
    platforms = {**world.policy().platforms, SEV_SNP: values}
    operator(world).event(world.policy_event(world.next_policy(world.policy(), platforms=platforms)))
    assert gone.keys.instance in out(world)


def test_instance_that_must_prove_again_is_named_to_nobody(world: World) -> None:
    world.up()
    redactor, vault = Party.enclave(world, "redactor").join(), Party.enclave(world, "vault").join()
    roots = PlatformValues(lab_roots=("cd" * 32,))
    policy = world.next_policy(world.policy(), platforms={**world.policy().platforms, SEV_SNP: roots})
    assert evicted_by(world, vault, policy)
    redactor.join()
    assert redactor.directory("vault") == []
    vault.join()
    assert redactor.directory("vault") == [vault.keys.instance]


def test_policy_that_excludes_an_expired_instance_still_turns_its_groups(world: World) -> None:
    world.up()
    gone = Party.enclave(world, "redactor").join()
    world.tick(600_000)
    planner = Party.enclave(world, "planner").join()
    before = planner.holdings()
    changed = Pinned(measurements=measured("redactor-2"))
    workloads = with_workload(world.policy(), "redactor", on={SEV_SNP: changed})
    assert evicted_by(world, gone, world.next_policy(world.policy(), workloads=workloads))
    (after,) = planner.pushed()
    assert after.revoked[0].instances == (gone.keys.instance,)
    assert set(epochs(before, "redactor")).isdisjoint(epochs(after, "redactor"))


def test_change_of_another_platform_evicts_nobody(world: World) -> None:
    world.up()
    planner = Party.enclave(world, "planner").join()
    platforms = {
        **world.policy().platforms,
        NITRO: PlatformValues(lab_roots=("cd" * 32,), max_evidence_seconds=60),
    }
    assert not evicted_by(world, planner, world.next_policy(world.policy(), platforms=platforms))


# Revocation.


def test_revocation_needs_the_threshold_and_a_term(world: World) -> None:
    event = world.revocation("chip", CHIP)
    party = operator(world)
    assert refusal_of(party, event) == "term-not-accepted"
    party.event(world.order())
    assert refusal_of(party, Event("revocation", event.documents[:1], None, ())) == "signatures-too-few"
    assert refusal_of(party, world.revocation("instance", "not hex")) == "malformed"


@pytest.mark.parametrize("kind", ["instance", "chip", "workload"])
def test_revoked_party_loses_its_session_and_its_groups_keys(world: World, kind: str) -> None:
    party = world.up()
    evicted = Party.enclave(world, "redactor", chip=OTHER_CHIP).join()
    stays = Party.enclave(world, "redactor").join() if kind != "workload" else None
    planner = Party.enclave(world, "planner").join()
    before = planner.holdings()
    value = {"instance": evicted.keys.instance.hex(), "chip": OTHER_CHIP, "workload": "redactor"}[kind]
    party.event(world.revocation(kind, value))
    assert evicted.session.send_subject not in world.heard
    (after,) = planner.pushed()
    (entry,) = after.revoked
    assert (entry.kind, entry.value, entry.instances) == (kind, value, (evicted.keys.instance,))
    # Every epoch of the role closed at once, and another is open, of whose secret the evicted has nothing.
    assert set(epochs(before, "redactor")).isdisjoint(epochs(after, "redactor"))
    assert {each.epoch for each in view(planner, after).epochs if each.group == "redactor"} == set(
        epochs(after, "redactor")
    )
    # Other groups go on: the mesh turns by time only.
    assert epochs(before, "mesh") == epochs(after, "mesh")
    assert epochs(before, "planner") == epochs(after, "planner")
    assert beacon(world, after).revoked_hash == revoked_hash(after.revoked)
    if stays is not None:
        (held,) = stays.pushed()
        assert epochs(held, "redactor") == epochs(after, "redactor")


def test_revoked_instance_is_not_admitted_again(world: World) -> None:
    party = world.up()
    planner = Party.enclave(world, "planner").join()
    party.event(world.revocation("instance", planner.keys.instance.hex()))
    with pytest.raises(Refusal, match="instance-revoked"):
        planner.join()
    # Restarted it is another instance, which a revocation by instance does not mean.
    Party.enclave(world, "planner").join()


@pytest.mark.parametrize(("kind", "value"), [("chip", CHIP), ("workload", "planner")])
def test_revoked_machine_that_restarts_is_refused_too(world: World, kind: str, value: str) -> None:
    world.up().event(world.revocation(kind, value))
    with pytest.raises(Refusal, match="instance-revoked"):
        Party.enclave(world, "planner").join()


def test_a_host_that_masks_the_chip_does_not_undo_its_revocation(world: World) -> None:
    party = world.up()
    evicted = Party.enclave(world, "redactor").join()
    party.event(world.revocation("chip", CHIP))
    revoked = operator(world).holdings().revoked
    evicted.chip = ""
    with pytest.raises(Refusal, match="instance-revoked"):
        evicted.join()
    # Nor does another instance, of which nobody can tell on which chip it is,
    with pytest.raises(Refusal, match="instance-revoked"):
        Party.enclave(world, "redactor", chip="").join()
    # but one that names another chip is none of this.
    Party.enclave(world, "redactor", chip=OTHER_CHIP).join()
    assert operator(world).holdings().revoked == revoked


def test_whom_operators_put_out_by_any_name_stays_out_under_every_other(world: World) -> None:
    party = world.up()
    evicted = Party.enclave(world, "redactor").join()
    party.event(world.revocation("chip", CHIP))
    evicted.chip = OTHER_CHIP
    with pytest.raises(Refusal, match="instance-revoked"):
        evicted.join()


def test_a_chip_of_another_platform_bans_no_hidden_one(world: World) -> None:
    party = world.up()
    party.event(world.revocation("chip", "ab" * 16))
    party.event(world.revocation("chip", "i-0123456789abcdef0"))
    Party.enclave(world, "redactor", chip="").join()


def test_whoever_hid_its_chip_before_one_was_revoked_has_to_prove_again(world: World) -> None:
    party = world.up()
    hidden = Party.enclave(world, "redactor", chip="").join()
    shown = Party.enclave(world, "planner", chip=OTHER_CHIP).join()
    party.event(world.revocation("chip", CHIP))
    assert hidden.session.send_subject not in world.heard
    assert shown.session.send_subject in world.heard
    world.tick(60_000)
    assert hidden.keys.instance in {
        each for entry in operator(world).holdings().revoked for each in entry.instances
    }


def out(world: World) -> set[bytes]:
    return {each for entry in operator(world).holdings().revoked for each in entry.instances}


@pytest.mark.parametrize("then", ["", OTHER_CHIP], ids=["hidden", "moved"])
def test_whoever_named_a_chip_once_is_out_with_it_at_once(world: World, then: str) -> None:
    party = world.up()
    evicted = Party.enclave(world, "redactor").join()
    before = epochs(evicted.admitted.holdings, "redactor")
    for chip in (then, ""):
        evicted.chip = chip
        evicted.join()
    party.event(world.revocation("chip", CHIP))
    assert evicted.keys.instance in out(world)
    planner = Party.enclave(world, "planner", chip=OTHER_CHIP).join()
    assert set(before).isdisjoint(epochs(planner.holdings(), "redactor"))


def test_operators_are_told_every_chip_that_was_named_the_last_one_last(world: World) -> None:
    party = world.up()
    hidden = Party.enclave(world, "redactor").join()
    for chip in (OTHER_CHIP, ""):
        hidden.chip = chip
        hidden.join()
    told = codec.convert(party.request("get", Get("status", "0"), "got"), MeshStatus)
    (shown,) = [each for each in told.parties if each.instance == hidden.keys.instance]
    assert shown.chips == (CHIP, OTHER_CHIP)


def test_no_instance_names_more_chips_than_are_remembered(world: World) -> None:
    world.up()
    party = Party.enclave(world, "redactor", chip="")
    for number in range(CHIPS_MOST):
        party.chip = f"{number:02x}" * 64
        party.join()
    party.join()
    party.chip = "ff" * 64
    with pytest.raises(Refusal, match="unavailable"):
        party.join()
    party.chip = ""
    party.join()


def test_whoever_hid_its_chip_and_has_keys_yet_without_an_admission_is_out_at_once(world: World) -> None:
    world.up()
    gone = Party.enclave(world, "redactor", chip="").join()
    world.tick(600_000)
    party, planner = operator(world), Party.enclave(world, "planner", chip=OTHER_CHIP).join()
    before = planner.holdings()
    party.event(world.revocation("chip", CHIP))
    (after,) = planner.pushed()
    assert set(epochs(before, "redactor")).isdisjoint(epochs(after, "redactor"))
    assert gone.keys.instance in out(world)
    # Of another chip, it comes back as it was.
    gone.chip = OTHER_CHIP
    gone.join()
    assert gone.keys.instance not in out(world)


def test_whose_admission_ends_before_it_has_proved_again_is_out_all_the_same(world: World) -> None:
    world.up()
    hidden = Party.enclave(world, "redactor", chip="").join()
    world.tick(570_000)
    operator(world).event(world.revocation("chip", CHIP))
    world.tick(59_000)
    assert hidden.keys.instance not in out(world)
    world.tick(1_000)
    assert hidden.keys.instance in out(world)


def test_revocation_reaches_an_instance_whose_admission_has_ended(world: World) -> None:
    world.up()
    gone = Party.enclave(world, "redactor").join()
    world.tick(600_000)
    party, planner = operator(world), Party.enclave(world, "planner", chip=OTHER_CHIP).join()
    before = planner.holdings()
    party.event(world.revocation("chip", CHIP))
    (after,) = planner.pushed()
    assert after.revoked[0].instances == (gone.keys.instance,)
    assert set(epochs(before, "redactor")).isdisjoint(epochs(after, "redactor"))


def test_revocation_of_a_stranger_lists_what_it_names(world: World) -> None:
    party = world.up()
    party.event(world.revocation("instance", "ab" * 32))
    assert [entry.instances for entry in party.holdings().revoked] == [(bytes.fromhex("ab" * 32),)]


def test_revoked_client_gets_nothing_more_and_turns_no_group(world: World) -> None:
    party = world.up()
    client, planner = Party.client(world).join(), Party.enclave(world, "planner").join()
    before = epochs(planner.holdings(), "planner")
    party.event(world.revocation("instance", client.keys.instance.hex()))
    (after,) = planner.pushed()
    assert epochs(after, "planner") == before
    with pytest.raises(Refusal, match="instance-revoked"):
        Party.client(world).join()


def test_revoked_are_listed_until_the_last_of_their_epochs_has_closed(world: World) -> None:
    party = world.up()
    evicted = Party.enclave(world, "redactor").join()
    closes = max(each.closes for each in evicted.admitted.holdings.members)
    party.event(world.revocation("instance", evicted.keys.instance.hex()))
    world.now = closes + 9_999
    world.tick(0)
    assert len(operator(world).holdings().revoked) == 1
    world.tick(1)
    assert operator(world).holdings().revoked == ()
    with pytest.raises(Refusal, match="instance-revoked"):
        evicted.join()


def test_revocation_repeated_changes_nothing_more(world: World) -> None:
    party = world.up()
    evicted = Party.enclave(world, "redactor").join()
    event = world.revocation("instance", evicted.keys.instance.hex())
    party.event(event)
    first = party.holdings().revoked
    world.now += 1
    party.event(event)
    assert party.holdings().revoked == first


# Look-ups and the log.


def test_directory_names_live_holders_to_those_who_may_call_them(world: World) -> None:
    world.up()
    redactor = Party.enclave(world, "redactor").join()
    assert redactor.directory("vault") == []
    vault = Party.enclave(world, "vault").join()
    assert redactor.directory("vault") == [vault.keys.instance]
    world.tick(300_000)
    redactor.renew()
    # To the millisecond, not to the next sweep.
    world.now += 300_000
    redactor.renew()
    assert redactor.directory("vault") == []


@pytest.mark.parametrize("wanted", ["planner", "redactor", "nobody", "mesh"])
def test_directory_is_closed_to_those_who_may_not_call(world: World, wanted: str) -> None:
    world.up()
    redactor, planner = Party.enclave(world, "redactor").join(), Party.enclave(world, "planner").join()
    with pytest.raises(Refusal, match="no-grant"):
        redactor.directory(wanted)
    with pytest.raises(Refusal, match="no-grant"):
        planner.directory("vault")


def test_directory_names_no_more_than_fit_a_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.core.DIRECTORY_MAX", 2)
    world.up()
    redactor = Party.enclave(world, "redactor").join()
    for _ in range(3):
        Party.enclave(world, "vault").join()
    assert len(redactor.directory("vault")) == 2


def test_unknown_look_up_is_refused(world: World) -> None:
    with pytest.raises(Refusal, match="no-handler"):
        world.up().request("get", Get("secrets", ""), "got")


def test_every_decision_is_in_a_log_whose_head_the_state_names(world: World) -> None:
    party = world.up()
    refusal_of(party, world.order(time=START - 1))
    with pytest.raises(Refusal):
        Party.enclave(world, "planner", workload="stranger").join()
    decisions = [codec_line["decision"] for codec_line in map(msgspec.json.decode, world.log)]
    turned = ["turned"] * 3  # the groups of its roles; that of the mesh turned with the term
    assert decisions == [
        *("admitted", "term", "turned", "policy", *turned, "grants", "admitted"),
        *("refused-event", "refused"),
    ]
    state = operator(world).state
    assert (state.log_size, state.log_root) == (11, world.log_root(11))


def test_log_holds_no_keys_and_no_evidence(world: World) -> None:
    world.up()
    party = Party.enclave(world, "redactor").join()
    text = "\n".join(world.log)
    for secret in (
        party.keys.signing.public,
        party.keys.kem.public,
        party.state.challenge,
        *(package.secret for package in party.admitted.holdings.members),
    ):
        assert secret.hex() not in text
    assert CHIP not in text
    assert party.kind == ENCLAVE
