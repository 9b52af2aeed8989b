"""The roll: what the operators ordered to be revoked is revoked before anybody but they is admitted."""

import pytest

from schemas import codec
from schemas.documents import LogReceipt, Order, RevocationOrder
from schemas.limits import ROLL_MOST
from schemas.messages import OPERATOR, Event, Get, Refused, RevocationPage
from sealing.context import sha256
from sealing.cose import unverified_payload
from sealing.documents import open_message
from sealing.roll import encode_roll, roll_hash
from tests.coordinator.world import CHIP, Party, Refusal, World

OTHER_CHIP = "d1" * 64


@pytest.fixture
def world() -> World:
    return World()


def operator(world: World, number: int = 0) -> Party:
    return Party(world, OPERATOR, ("operator",), signing=world.operators[number]).join()


def digest(event: Event) -> bytes:
    return sha256(unverified_payload(event.documents[0]))


def roll_of(*events: Event) -> Event:
    return Event("roll", (encode_roll(digest(each) for each in events),), None, ())


def ordered(world: World, *events: Event, **changes: object) -> Party:
    """Order a term that asks for these revocations, and bring their roll."""
    party = operator(world)
    party.event(world.order(revocations=roll_hash(digest(each) for each in events), **changes))
    party.event(roll_of(*events))
    return party


def refusal_of(party: Party, event: Event) -> tuple[str, str]:
    party.world.frame(party.session, "event", event, party.world.random(16))
    (body,) = [body for body in party.bodies() if body.purpose != "push"]
    assert body.purpose == "refused"
    refused = codec.convert(body.fields, Refused)
    return refused.reasons[0], refused.detail


def test_no_policy_before_every_revocation_of_the_roll_and_so_nobody_is_admitted(world: World) -> None:
    one, two = world.revocation("chip", CHIP), world.revocation("workload", "vault")
    party, policy = ordered(world, one, two), world.policy_event(world.policy())
    reason, detail = refusal_of(party, policy)
    assert reason == "revocations-missing"
    assert detail.startswith("2 of 2 revocations that the order names were not brought: whoever has them")
    party.event(one)
    reason, detail = refusal_of(party, policy)
    assert (reason, detail[:22]) == ("revocations-missing", "1 of 2 revocations tha")
    with pytest.raises(Refusal, match="platform-not-in-policy"):
        Party.enclave(world, "planner", chip=OTHER_CHIP).join()
    party.event(two)
    party.event(policy)
    Party.enclave(world, "planner", chip=OTHER_CHIP).join()
    with pytest.raises(Refusal, match="instance-revoked"):
        Party.enclave(world, "planner", chip=CHIP).join()


def test_a_roll_that_is_not_brought_is_asked_for(world: World) -> None:
    evicted = world.revocation("chip", CHIP)
    party = operator(world)
    party.event(world.order(revocations=roll_hash([digest(evicted)])))
    party.event(evicted)
    policy = world.policy_event(world.policy())
    reason, detail = refusal_of(party, policy)
    assert (reason, "was not brought: send the order again" in detail) == ("revocations-missing", True)
    party.event(roll_of(evicted))
    party.event(policy)


def test_whoever_has_a_revocation_brings_it_and_more_than_the_roll_hinders_nobody(world: World) -> None:
    evicted = world.revocation("chip", CHIP)
    first = ordered(world, evicted)
    second = operator(world, 1)
    second.event(world.revocation("chip", OTHER_CHIP))
    second.event(world.revocation("workload", "vault"))
    policy = world.policy_event(world.policy())
    assert refusal_of(second, policy)[0] == "revocations-missing"
    second.event(evicted)
    first.bodies()
    first.event(policy)


def test_a_revocation_counts_whoever_signed_it_and_not_one_that_says_the_same_in_other_words(
    world: World,
) -> None:
    evicted = world.revocation("chip", CHIP)
    party, policy = ordered(world, evicted), world.policy_event(world.policy())
    party.event(world.revocation("chip", CHIP, time=world.now - 1))
    assert refusal_of(party, policy)[0] == "revocations-missing"
    party.event(world.revocation("chip", CHIP, signers=3))
    party.event(policy)


def test_an_empty_roll_is_not_waited_for(world: World) -> None:
    party = operator(world)
    party.event(world.order())
    party.event(roll_of())
    party.event(world.policy_event(world.policy()))


def test_the_roll_is_part_of_the_order_in_the_log_and_may_be_brought_again(world: World) -> None:
    evicted = world.revocation("chip", CHIP)
    party = ordered(world, evicted)
    size = len(world.log)
    signed = party.event(roll_of(evicted))
    receipt = open_message(signed, world.keys.signing.public, world.mesh, "receipt", LogReceipt)
    assert receipt == LogReceipt(sha256(codec.encode(roll_of(evicted))), 1, 1, 0)
    assert (len(world.log), '"decision":"term"' in world.log[1]) == (size, True)


def test_another_roll_than_the_order_names_is_refused(world: World) -> None:
    one, two = world.revocation("chip", CHIP), world.revocation("workload", "vault")
    party = operator(world)
    assert refusal_of(party, roll_of(one))[0] == "term-not-accepted"
    party.event(world.order(revocations=roll_hash([digest(one), digest(two)])))
    for wrong in (roll_of(), roll_of(one), roll_of(one, two, world.order())):
        assert refusal_of(party, wrong)[0] == "constraint-violated"
    whole = roll_of(one, two).documents
    for documents in ((), whole * 2, (*whole, b"")):
        assert refusal_of(party, Event("roll", documents, None, ()))[0] == "malformed"
    party.event(one)
    party.event(two)
    # What was refused has changed nothing: the true one is still waited for.
    assert "was not brought" in refusal_of(party, world.policy_event(world.policy()))[1]
    party.event(roll_of(one, two))
    party.event(world.policy_event(world.policy()))


DIGESTS = [bytes([number]) * 32 for number in (1, 2)]


@pytest.mark.parametrize(
    "wrong",
    [
        DIGESTS[::-1],
        [DIGESTS[0], DIGESTS[0]],
        [DIGESTS[0][:31]],
        [b"", DIGESTS[0]],
        [number.to_bytes(32, "big") for number in range(ROLL_MOST + 1)],
        {},
    ],
    ids=["out of order", "twice", "short", "empty", "oversized", "no list"],
)
def test_what_is_no_roll_is_refused_even_where_the_order_names_it(world: World, wrong: object) -> None:
    data = codec.encode(wrong)
    party = operator(world)
    party.event(world.order(revocations=sha256(data)))
    assert refusal_of(party, Event("roll", (data,), None, ()))[0] == "malformed"
    assert refusal_of(party, world.policy_event(world.policy()))[0] == "revocations-missing"


def test_the_largest_roll_fits_a_message(world: World) -> None:
    data = codec.encode([number.to_bytes(32, "big") for number in range(ROLL_MOST)])
    party = operator(world)
    party.event(world.order(revocations=sha256(data)))
    party.event(Event("roll", (data,), None, ()))
    assert (
        f"{ROLL_MOST} of {ROLL_MOST} revocations" in refusal_of(party, world.policy_event(world.policy()))[1]
    )


def test_a_quarantine_that_a_later_word_overtook_is_brought_too(world: World) -> None:
    vault = "ab" * 32
    quarantined = world.revocation("quarantine", vault, time=world.now - 2)
    party, policy = ordered(world, quarantined), world.policy_event(world.policy())
    # Somebody who knows of its end was quicker. The order's operators did not: it must not stop them.
    party.event(world.revocation("lift", vault, time=world.now - 1))
    assert refusal_of(party, quarantined)[0] == "replayed"
    party.event(policy)
    assert world.core.authority.ledger.revoked() == ()


def test_a_quarantine_of_a_time_to_come_is_not_brought_by_being_refused(world: World) -> None:
    ahead = world.revocation("quarantine", "ab" * 32, time=world.now + 400_000)
    party = ordered(world, ahead)
    assert refusal_of(party, ahead)[0] == "not-yet-valid"
    assert refusal_of(party, world.policy_event(world.policy()))[0] == "revocations-missing"


def test_a_revocation_by_too_few_is_not_brought(world: World) -> None:
    evicted = world.revocation("chip", CHIP)
    party = ordered(world, evicted)
    assert refusal_of(party, world.revocation("chip", CHIP, signers=1))[0] == "signatures-too-few"
    assert refusal_of(party, world.policy_event(world.policy()))[0] == "revocations-missing"


def test_later_policies_do_not_ask_for_it_again(world: World) -> None:
    evicted = world.revocation("chip", CHIP)
    party = ordered(world, evicted)
    party.event(evicted)
    party.event(world.policy_event(world.policy()))
    party = operator(world)
    party.event(world.policy_event(world.next_policy(world.policy())))


def told(party: Party, first: int) -> RevocationPage:
    return codec.convert(party.request("get", Get("revocations", str(first)), "got"), RevocationPage)


def test_operators_are_told_what_was_revoked_as_it_was_signed(world: World) -> None:
    party = world.up()
    events = [world.revocation("chip", f"{number:02x}" * 16) for number in range(3)]
    for event in events:
        party.event(event)
    whole = told(party, 0)
    assert whole.total == 3
    for signed, event in zip(whole.signed, events, strict=True):
        assert sorted(signed) == sorted(event.documents)
    assert told(party, 2).signed == whole.signed[2:]
    assert told(party, 3) == told(party, 99_999) == RevocationPage(3, ())
    # Brought again by others it stands where it was, as the last ones signed it: as few as have to.
    again = world.revocation("chip", "00" * 16, signers=3)
    world.operators.reverse()
    party.event(world.revocation("chip", "00" * 16))
    assert told(party, 0).signed[0] != whole.signed[0]
    party.event(again)
    assert (told(party, 0).total, len(told(party, 0).signed[0])) == (3, 2)


def test_a_page_of_revocations_fits_a_message_and_the_next_goes_on(world: World) -> None:
    party = world.up()
    for number in range(5):
        signed = (bytes(100 * 1024), number.to_bytes(4, "big"))
        order = RevocationOrder(world.mesh.id, "chip", f"{number}", "", 1)
        world.core.authority.revocations.enter(order, signed, number)
    pages = [told(party, first) for first in (0, 2, 4, 5)]
    assert [(page.total, len(page.signed)) for page in pages] == [(5, 2), (5, 2), (5, 1), (5, 0)]
    # One that is larger than a page is a page by itself.
    order = RevocationOrder(world.mesh.id, "chip", "large", "", 1)
    world.core.authority.revocations.enter(order, (bytes(300 * 1024),), 6)
    assert len(told(party, 5).signed) == 1


def test_nobody_else_is_told_what_was_revoked(world: World) -> None:
    world.up()
    for party in (Party.client(world).join(), Party.enclave(world, "planner").join()):
        with pytest.raises(Refusal, match="role-not-permitted"):
            told(party, 0)


@pytest.mark.parametrize("index", ["", "-1", "x", "123456"])
def test_what_is_no_index_is_malformed(world: World, index: str) -> None:
    with pytest.raises(Refusal, match="malformed"):
        world.up().request("get", Get("revocations", index), "got")


def test_who_may_read_an_offer_sees_the_hash_and_not_the_roll(world: World) -> None:
    evicted = world.revocation("chip", CHIP)
    ordered(world, evicted)
    wire, offer = world.offer()
    assert offer.term_record is not None
    said = codec.decode(unverified_payload(offer.term_record[0]), Order)
    assert said.revocations == roll_hash([digest(evicted)])
    assert digest(evicted) not in wire
    assert codec.decode(unverified_payload(evicted.documents[0]), RevocationOrder).value == CHIP
