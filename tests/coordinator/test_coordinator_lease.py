"""The operators' lease: without a word of theirs no beacon counts, and with one all goes on by itself."""

import msgspec
import pytest

from schemas import codec
from schemas.documents import LogReceipt, Renewal
from schemas.limits import GRACE, MINUTE, SECOND
from schemas.messages import Event, Get, MeshStatus
from schemas.policy import Limits
from schemas.subjects import Kind, subject
from sealing.documents import open_message
from tests.agent_runtime.world import Member, beat, client, enclave
from tests.coordinator.world import START, Party, Refusal, World

LEASE = 600 * SECOND
LEASED = Limits(operator_lease_seconds=600)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def operator(world: World) -> Party:
    return world.up(world.policy(limits=LEASED))


def renewal(world: World, time: int, *, term: int = 1, signers: int = 2) -> Event:
    document = codec.encode(Renewal(world.mesh.id, term, time))
    return Event("renewal", world.signed("renewal", document, signers), None, ())


def refusal_of(party: Party, event: Event) -> str:
    with pytest.raises(Refusal) as refusal:
        party.event(event)
    return str(refusal.value)


def live_after(world: World, member: Member, milliseconds: int) -> bool:
    """Let time pass as it does, with a beacon each second; tell whether the member is live at its end."""
    world.take(subject(world.mesh.id, Kind.BEACON))  # of the time before
    end = world.now + milliseconds
    while world.now < end:
        beat(world, member, after=min(SECOND, end - world.now))
    return member.membership.live()


def test_agents_are_live_to_the_end_of_the_lease_and_a_grace_and_no_longer(
    world: World, operator: Party
) -> None:
    # Given a planner that renews its admission, and operators who say nothing,
    world.tick(LEASE - 5 * SECOND)
    planner = enclave(world, "planner")
    assert live_after(world, planner, 5 * SECOND)
    assert live_after(world, planner, GRACE - SECOND)
    assert not live_after(world, planner, SECOND)
    # then, past both, nothing that a coordinator says or gives makes it live again,
    world.tick(1)
    planner.refresh()
    assert not planner.membership.live()
    # not even being admitted anew.
    assert not enclave(world, "planner").membership.live()


def test_a_renewal_has_everybody_go_on_by_itself(world: World, operator: Party) -> None:
    world.tick(LEASE - 5 * SECOND)
    planner = enclave(world, "planner")
    assert not live_after(world, planner, LEASE)
    planner = enclave(world, "planner")
    assert not planner.membership.live()
    world.up_again().event(renewal(world, world.now))
    assert live_after(world, planner, SECOND)


def test_without_a_lease_nobody_has_to_be_heard(world: World) -> None:
    world.up()
    world.tick(100 * LEASE)
    assert live_after(world, client(world), 5 * SECOND)


def test_a_renewal_counts_from_the_time_that_was_signed(world: World, operator: Party) -> None:
    world.tick(LEASE // 2)
    operator = world.up_again()
    operator.event(renewal(world, world.now - 2 * MINUTE))
    told = codec.convert(operator.request("get", Get("status", "0"), "got"), MeshStatus)
    assert told.lease_until == world.now - 2 * MINUTE + LEASE


def test_a_new_policy_is_a_word_too_and_the_same_again_is_none(world: World, operator: Party) -> None:
    policy = world.policy(limits=LEASED)
    world.tick(LEASE // 2)
    operator = world.up_again()
    operator.event(world.policy_event(policy))
    status = codec.convert(operator.request("get", Get("status", "0"), "got"), MeshStatus)
    assert status.lease_until == START + LEASE
    second = world.next_policy(policy, issued=world.now)
    operator.event(world.policy_event(second))
    status = codec.convert(operator.request("get", Get("status", "0"), "got"), MeshStatus)
    assert status.lease_until == world.now + LEASE


def test_a_policy_that_was_signed_long_ago_prolongs_no_lease(world: World, operator: Party) -> None:
    policy = world.policy(limits=LEASED)
    stored = world.policy_event(world.next_policy(policy, issued=START + MINUTE))
    world.tick(LEASE - SECOND)
    operator = world.up_again()
    operator.event(stored)
    status = codec.convert(operator.request("get", Get("status", "0"), "got"), MeshStatus)
    assert (status.policy_version, status.lease_until) == (2, START + MINUTE + LEASE)


def test_an_order_counts_from_the_time_that_was_signed(world: World) -> None:
    party = Party(world, "operator", ("operator",), signing=world.operators[0]).join()
    party.event(world.order(time=START - MINUTE))
    party.event(world.policy_event(world.policy(limits=LEASED, issued=START - 2 * MINUTE)))
    status = codec.convert(world.up_again().request("get", Get("status", "0"), "got"), MeshStatus)
    assert status.lease_until == START - MINUTE + LEASE


def test_renewals_need_the_threshold_and_the_present_term(world: World, operator: Party) -> None:
    assert refusal_of(operator, renewal(world, world.now, signers=1)) == "signatures-too-few"
    assert refusal_of(operator, renewal(world, world.now, term=2)) == "term-not-accepted"
    foreign = codec.encode(Renewal(bytes(32), 1, world.now))
    event = Event("renewal", world.signed("renewal", foreign), None, ())
    assert refusal_of(operator, event) == "wrong-mesh"
    fresh = World()
    party = Party(fresh, "operator", ("operator",), signing=fresh.operators[0]).join()
    assert refusal_of(party, renewal(fresh, fresh.now)) == "term-not-accepted"


def test_an_old_renewal_brought_again_is_a_replay_and_the_last_one_has_its_receipt(
    world: World, operator: Party
) -> None:
    first = renewal(world, world.now)
    operator.event(first)
    world.tick(SECOND)
    second = renewal(world, world.now)
    receipts = [
        open_message(operator.event(second), world.keys.signing.public, world.mesh, "receipt", LogReceipt)
        for _ in range(2)
    ]
    assert receipts[0] == receipts[1]
    assert refusal_of(operator, first) == "replayed"
    assert refusal_of(operator, renewal(world, world.now - 1)) == "replayed"


def test_renewals_are_not_signed_in_store_nor_of_the_past(world: World, operator: Party) -> None:
    assert refusal_of(operator, renewal(world, world.now + 6 * MINUTE)) == "not-yet-valid"
    assert refusal_of(operator, renewal(world, world.now - LEASE)) == "expired"


def test_the_end_of_a_lease_is_written_down_once(world: World, operator: Party) -> None:
    for _ in range(3):
        world.tick(LEASE)
    decisions = [msgspec.json.decode(line)["decision"] for line in world.log]
    assert decisions.count("lease-lapsed") == 1
