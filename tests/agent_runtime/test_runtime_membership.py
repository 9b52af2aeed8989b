"""One process's standing: what it takes from its coordinator, what it refuses whole, and when it is live."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from agent_runtime.errors import RefusedError
from agent_runtime.membership import Membership
from coordinator.beacons import revoked_hash
from coordinator.changes import TOLD_FOR
from schemas import codec
from schemas.documents import Beacon, Grant, View
from schemas.errors import PeerError, Reason
from schemas.limits import GRACE, MINUTE, SECOND
from schemas.messages import CLIENT, OPERATOR, Admitted, Holdings, Revocation
from schemas.policy import Client, Limits
from schemas.subjects import Kind, subject
from sealing.documents import (
    open_admission,
    open_grant,
    open_message,
    sign_admission,
    sign_grant,
    sign_message,
)
from sealing.keys import PartyKeys, SigningKey
from tests.agent_runtime.world import Member, beat, client, enclave, mesh_up, signed_beacon
from tests.coordinator.world import Party, World

INSTANCE = b"x" * 32


@pytest.fixture
def world() -> World:
    return mesh_up()[0]


@pytest.fixture
def planner(world: World) -> Member:
    return enclave(world, "planner")


def standing(member: Membership) -> tuple[object, ...]:
    """Return everything that a refusal must leave as it was."""
    ring, witness = member.keyring, member.witness
    return (
        member.trust,
        member.last_beacon,
        member._counted,
        dict(ring._openers),
        dict(ring._sealers),
        witness._last,
        witness.policy_version,
    )


def refused(member: Membership, act: Callable[[], object]) -> PeerError:
    """Return why something was refused, having seen that nothing changed."""
    before = standing(member)
    with pytest.raises(PeerError) as refusal:
        act()
    assert standing(member) == before
    return refusal.value


# Live: exactly while a beacon is held whose own time is at most the grace old.


def test_invariant_05_member_is_live_for_the_grace_after_a_beacons_own_time(
    world: World, planner: Member
) -> None:
    start = world.now
    assert planner.membership.live()
    world.now = start + GRACE
    assert planner.membership.live()
    world.now = start + GRACE + 1
    assert not planner.membership.live()
    with pytest.raises(RefusedError, match="not-live"):
        planner.membership.require_live()


def test_invariant_05_it_does_not_matter_when_a_beacon_arrives(world: World, planner: Member) -> None:
    world.tick(1_000)
    (frame,) = world.take(subject(world.mesh.id, Kind.BEACON))
    world.now += GRACE - 1
    assert planner.membership.beacon(frame, subject(world.mesh.id, Kind.BEACON))
    world.now += 1
    assert planner.membership.live()
    world.now += 1
    assert not planner.membership.live()


def test_invariant_05_it_resumes_with_the_next_beacon(world: World, planner: Member) -> None:
    world.now += 2 * GRACE
    assert not planner.membership.live()
    beat(world, planner, after=0)
    assert planner.membership.live()


def test_member_without_trust_beacon_or_time_is_not_live(world: World, planner: Member) -> None:
    party = Party.enclave(world, "planner", chip="d0" * 64).join()
    fresh = Member(world, party)
    assert fresh.membership.live()
    fresh.membership._counted = None
    assert not fresh.membership.live()
    planner.membership.clock._offset = None
    assert not planner.membership.live()
    planner.membership.erase()
    with pytest.raises(RefusedError, match="not-live"):
        planner.membership.held()


def test_member_whose_admission_expired_is_not_live(world: World, planner: Member) -> None:
    expires = planner.membership.held().admission.expires * SECOND
    while world.now + 5 * SECOND < expires:
        beat(world, planner, after=5 * SECOND)
    assert planner.membership.live()
    world.now = expires
    assert not planner.membership.live()


# Beacons.


def test_beacon_counts_once_and_another_of_its_sequence_ends_all(world: World, planner: Member) -> None:
    world.tick(1_000)
    assert planner.beacons() == [True]
    last = planner.membership.last_beacon
    assert last is not None
    assert (
        refused(planner.membership, lambda: planner.membership.signed_beacon(last)).reason is Reason.REPLAYED
    )
    fork = signed_beacon(world, last, log_root=b"f" * 32)
    reason = refused(planner.membership, lambda: planner.membership.signed_beacon(fork)).reason
    assert reason is Reason.EQUIVOCATION
    assert not planner.membership.live()


def test_beacon_that_names_what_is_not_held_does_not_count(world: World, planner: Member) -> None:
    operator = world.up_again()
    other = enclave(world, "redactor")
    operator.event(world.revocation("instance", other.instance.hex()))
    world.tick(1_000)
    counted = planner.membership._counted
    assert planner.beacons()[-1] is False
    assert planner.membership._counted == counted
    planner.refresh()
    assert planner.membership._counted == world.now


def test_beacon_counts_only_with_the_keys_of_every_epoch_that_the_views_list(
    world: World, planner: Member
) -> None:
    party = Party.enclave(world, "planner", chip="d0" * 64).join()
    whole = party.admitted
    party.admitted = replace(whole, holdings=replace(whole.holdings, senders=()))
    member = Member(world, party)
    assert not member.membership.live()
    member.refresh()
    assert member.membership.live()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sequence": 0}, Reason.REPLAYED),
        ({"term": 2}, Reason.TERM_NOT_ACCEPTED),
        ({"sequence": 10**6, "time": 0}, Reason.NOT_LIVE),
        ({"sequence": 10**6, "policy_version": 0}, Reason.STATE_ROLLED_BACK),
        ({"sequence": 10**6, "policy_hash": b"q" * 32}, Reason.EQUIVOCATION),
    ],
)
def test_signed_beacon_that_cannot_be_next_is_refused(
    world: World, planner: Member, changes: dict[str, Any], reason: Reason
) -> None:
    last = planner.membership.last_beacon
    assert last is not None
    fork = signed_beacon(world, last, **changes)
    assert refused(planner.membership, lambda: planner.membership.signed_beacon(fork)).reason is reason


def test_beacon_that_the_terms_key_did_not_sign_is_refused(world: World, planner: Member) -> None:
    last = planner.membership.last_beacon
    assert last is not None
    forged = last[:-1] + bytes([last[-1] ^ 1])
    reason = refused(planner.membership, lambda: planner.membership.signed_beacon(forged)).reason
    assert reason is Reason.SIGNATURE_INVALID


def test_beacon_comes_under_the_mesh_key_on_its_subject(world: World, planner: Member) -> None:
    world.tick(1_000)
    to = subject(world.mesh.id, Kind.BEACON)
    (frame,) = world.take(to)
    member = planner.membership
    assert refused(member, lambda: member.beacon(frame, "sb.elsewhere")).reason is Reason.NOT_AUTHENTIC
    own = member.keyring.sealer("planner", world.now).seal_group(b"body", to)
    assert refused(member, lambda: member.beacon(own, to)).reason is Reason.EPOCH_UNKNOWN
    assert refused(member, lambda: member.beacon(b"", to)).reason is Reason.EPOCH_UNKNOWN
    # A member may seal to the group; what it says there is no beacon.
    other = codec.encode(["init", bytes(16), b""])
    said = member.keyring.sealer("mesh", world.now).seal_group(other, to)
    assert refused(member, lambda: member.beacon(said, to)).reason is Reason.NOT_AUTHENTIC
    assert member.beacon(frame, to)
    assert refused(member, lambda: member.beacon(frame, to)).reason is Reason.REPLAYED


def test_peers_beacon_is_compared_and_says_nothing_where_it_cannot(world: World, planner: Member) -> None:
    member = planner.membership
    last = member.last_beacon
    assert last is not None
    member.compare_beacon(None)
    member.compare_beacon(last)
    beacon = open_message(last, world.keys.signing.public, world.mesh, "beacon", Beacon)
    member.compare_beacon(sign_message(SigningKey(), world.mesh, "beacon", beacon))
    with pytest.raises(PeerError, match="malformed"):
        member.compare_beacon(b"junk")
    assert member.live()
    fork = signed_beacon(world, last, log_root=b"f" * 32)
    with pytest.raises(PeerError) as refusal:
        member.compare_beacon(fork)
    assert refusal.value.reason is Reason.EQUIVOCATION
    assert not member.live()


# Admissions.


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": INSTANCE},
        {"signing_key": PartyKeys().signing.public},
        {"kem_key": PartyKeys().kem.public},
        {"kind": CLIENT},
        {"roles": ("redactor",)},
        {"roles": ("planner", "redactor")},
        {"term": 2},
    ],
)
def test_admission_of_somebody_else_is_refused(
    world: World, planner: Member, changes: dict[str, Any]
) -> None:
    admitted = with_admission(world, planner.party.admitted, **changes)
    refusal = refused(planner.membership, lambda: planner.membership.admitted(admitted))
    assert refusal.reason is Reason.NOT_AUTHENTIC


def test_admission_that_expired_is_refused(world: World, planner: Member) -> None:
    admitted = with_admission(world, planner.party.admitted, expires=world.now // SECOND)
    refusal = refused(planner.membership, lambda: planner.membership.admitted(admitted))
    assert refusal.reason is Reason.EXPIRED


def test_admission_of_a_term_that_nobody_ordered_is_refused(planner: Member) -> None:
    planner.membership.enter(2, GRACE)
    refusal = refused(planner.membership, lambda: planner.membership.admitted(planner.party.admitted))
    assert refusal.reason is Reason.TERM_NOT_ACCEPTED


def with_admission(world: World, admitted: Admitted, **changes: Any) -> Admitted:
    key = world.keys.signing
    admission = open_admission(admitted.admission, key.public, world.mesh)
    return replace(admitted, admission=sign_admission(key, world.mesh, replace(admission, **changes)))


def test_peer_is_who_its_admission_says_while_it_holds(world: World, planner: Member) -> None:
    other = enclave(world, "redactor")
    admission = other.party.admitted.admission
    assert planner.membership.peer(admission).subject == other.instance
    planner.revoke(other.instance)
    with pytest.raises(PeerError) as refusal:
        planner.membership.peer(admission)
    assert refusal.value.reason is Reason.INSTANCE_REVOKED


@pytest.mark.parametrize("changes", [{"term": 9}, {"mesh": b"o" * 32}])
def test_admission_that_the_terms_key_did_not_sign_is_nobodys(
    world: World, planner: Member, changes: dict[str, Any]
) -> None:
    admission = open_admission(planner.party.admitted.admission, world.keys.signing.public, world.mesh)
    forged = sign_admission(SigningKey(), world.mesh, replace(admission, **changes))
    with pytest.raises(PeerError) as refusal:
        planner.membership.peer(forged)
    assert refusal.value.reason is Reason.NOT_AUTHENTIC


def test_peers_admission_ends_when_it_expires(world: World, planner: Member) -> None:
    admission = planner.party.admitted.admission
    world.now = planner.membership.held().admission.expires * SECOND - 1
    planner.membership.peer(admission)
    world.now += 1
    with pytest.raises(PeerError) as refusal:
        planner.membership.peer(admission)
    assert refusal.value.reason is Reason.EXPIRED


# Holdings: adopted whole, or not at all.

Change = Callable[[World, Holdings], Holdings]


def views(world: World, holdings: Holdings, **changes: Any) -> Holdings:
    """Return holdings whose first view differs."""
    key = world.keys.signing
    view = replace(open_message(holdings.views[0], key.public, world.mesh, "view", View), **changes)
    return replace(holdings, views=(sign_message(key, world.mesh, "view", view), *holdings.views[1:]))


def grants(world: World, holdings: Holdings, **changes: Any) -> Holdings:
    """Return holdings whose first view has a newer version with another first grant."""
    key = world.keys.signing
    view = open_message(holdings.views[0], key.public, world.mesh, "view", View)
    grant = replace(open_grant(view.grants[0], key.public, world.mesh), **changes)
    documents = (sign_grant(key, world.mesh, grant), *view.grants[1:])
    return views(world, holdings, version=view.version + 1, grants=documents)


def forged_grant(world: World, holdings: Holdings) -> Holdings:
    key = world.keys.signing
    view = open_message(holdings.views[0], key.public, world.mesh, "view", View)
    grant: Grant = open_grant(view.grants[0], key.public, world.mesh)
    forged = sign_grant(SigningKey(), world.mesh, replace(grant, audience="vault"))
    return views(world, holdings, version=view.version + 1, grants=(forged,))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w, h: replace(h, views=()), Reason.TERM_NOT_ACCEPTED),
        (
            lambda w, h: replace(h, views=(h.views[0][:-1] + bytes((h.views[0][-1] ^ 1,)),)),
            Reason.SIGNATURE_INVALID,
        ),
        (lambda w, h: views(w, h, term=2), Reason.TERM_NOT_ACCEPTED),
        (lambda w, h: views(w, h, role="vault"), Reason.TERM_NOT_ACCEPTED),
        (lambda w, h: views(w, h, version=0), Reason.STATE_ROLLED_BACK),
        (lambda w, h: views(w, h, tools=(("tool", "vault"),)), Reason.EQUIVOCATION),
        (lambda w, h: grants(w, h, term=2), Reason.TERM_NOT_ACCEPTED),
        (lambda w, h: grants(w, h, policy_version=9), Reason.TERM_NOT_ACCEPTED),
        (forged_grant, Reason.SIGNATURE_INVALID),
        (lambda w, h: replace(h, members=foreign(w)), Reason.NOT_AUTHENTIC),
        (lambda w, h: replace(h, beacon=signed_beacon(w, h.beacon, log_root=b"f" * 32)), Reason.EQUIVOCATION),
        (lambda w, h: replace(h, beacon=signed_beacon(w, h.beacon, term=2)), Reason.TERM_NOT_ACCEPTED),
        (lambda w, h: replace(h, beacon=b"junk"), Reason.MALFORMED),
    ],
    ids=[
        "a view is missing",
        "a view's signature",
        "a view of another term",
        "a view of another role",
        "an older view",
        "another view of one version",
        "a grant of another term",
        "a grant of another policy",
        "a grant that another key signed",
        "a package of another group",
        "another beacon of one sequence",
        "a beacon of another term",
        "no beacon",
    ],
)
def test_holdings_are_adopted_whole_or_not_at_all(
    world: World, planner: Member, change: Change, reason: Reason
) -> None:
    holdings = change(world, planner.party.holdings())
    refusal = refused(planner.membership, lambda: planner.membership.hold(holdings))
    assert refusal.reason is reason


def foreign(world: World) -> tuple[Any, ...]:
    """Return the packages of another role."""
    return Party.enclave(world, "vault").join().admitted.holdings.members


def test_client_takes_no_member_package_of_a_role(world: World) -> None:
    desk = client(world)
    held = desk.party.holdings()
    own = replace(held.members[0], group="submitter")
    holdings = replace(held, members=(*held.members, own))
    refusal = refused(desk.membership, lambda: desk.membership.hold(holdings))
    assert refusal.reason is Reason.NOT_AUTHENTIC


def test_revoked_set_of_before_does_not_undo_a_newer_one(world: World, planner: Member) -> None:
    before = planner.party.holdings()
    other = enclave(world, "redactor")
    world.up_again().event(world.revocation("instance", other.instance.hex()))
    planner.refresh()
    assert other.instance in planner.membership.held().revoked
    # A frame that came late, or that the broker kept.
    refusal = refused(planner.membership, lambda: planner.membership.hold(before))
    assert refusal.reason is Reason.STATE_ROLLED_BACK
    without = replace(planner.party.holdings(), revoked=(), beacon=b"")
    refusal = refused(planner.membership, lambda: planner.membership.hold(without))
    assert refusal.reason is Reason.STATE_ROLLED_BACK


def test_a_broker_that_replays_or_withholds_lifts_no_quarantine_and_the_operators_do(world: World) -> None:
    vault = enclave(world, "vault")
    to = subject(world.mesh.id, Kind.BEACON)
    digest = vault.instance.hex()
    without = vault.party.holdings()
    world.tick(SECOND)
    (earlier,) = world.take(to)[-1:]
    world.up_again().event(world.revocation("quarantine", digest))
    (quarantined,) = vault.party.pushed()[-1:]
    vault.membership.hold(quarantined)
    assert vault.instance in vault.membership.held().quarantined
    # What was sent before the quarantine, sent again.
    assert refused(vault.membership, lambda: vault.membership.beacon(earlier, to)).reason is Reason.REPLAYED
    with pytest.raises(PeerError):
        vault.membership.hold(without)
    assert vault.instance in vault.membership.held().quarantined
    # The end of it, withheld: nothing changes, and without newer beacons nobody is live.
    world.tick(SECOND)
    world.up_again().event(world.revocation("lift", digest))
    (lifted,) = vault.party.pushed()[-1:]
    assert vault.instance in vault.membership.held().quarantined
    vault.membership.hold(lifted)
    assert vault.membership.held().quarantined == frozenset()
    assert vault.membership.live()
    # And the quarantine, sent again, does not come back.
    with pytest.raises(PeerError):
        vault.membership.hold(quarantined)
    assert vault.membership.held().quarantined == frozenset()


def test_holdings_close_what_they_do_not_list(world: World) -> None:
    first, second = enclave(world, "planner"), enclave(world, "planner", chip="d0" * 64)
    (before,) = second.membership.keyring.openers("planner")
    world.up_again().event(world.revocation("instance", first.instance.hex()))
    second.refresh()
    (after,) = second.membership.keyring.openers("planner")
    assert before.token != after.token
    assert second.membership.keyring.was_closed(before.token)
    assert second.membership.live()


def test_grants_that_were_verified_once_are_not_verified_again(planner: Member) -> None:
    before = planner.membership.held().verified
    planner.refresh()
    after = planner.membership.held().verified
    assert before
    assert all(after[digest] is grant for digest, grant in before.items())


def test_renewal_keeps_what_is_held_and_forgets_no_revocation(world: World, planner: Member) -> None:
    other = enclave(world, "redactor")
    world.up_again().event(world.revocation("instance", other.instance.hex()))
    planner.refresh()
    world.now += MINUTE
    planner.party.renew()
    planner.enter()
    assert other.instance in planner.membership.held().revoked
    assert planner.membership.live()
    # The same set under a beacon that is no more the last one undoes nothing; another one would.
    held = planner.party.admitted.holdings
    planner.membership.admitted(replace(planner.party.admitted, holdings=replace(held, beacon=b"")))
    none = replace(planner.party.admitted, holdings=replace(held, beacon=b"", revoked=()))
    refusal = refused(planner.membership, lambda: planner.membership.admitted(none))
    assert refusal.reason is Reason.STATE_ROLLED_BACK


def test_admission_by_another_coordinator_counts_by_that_ones_beacon_only(
    world: World, planner: Member
) -> None:
    successor = World()  # of the same operators: another coordinator of one mesh
    operator = Party(successor, OPERATOR, ("operator",), signing=successor.operators[0]).join()
    operator.event(successor.order(term=2))
    operator.event(successor.policy_event(successor.policy()))
    again = Party.enclave(successor, "planner")
    again.keys = planner.party.keys
    again.join()
    held = again.admitted.holdings
    member = planner.membership
    member.witness.enter_term(2, successor.keys.signing.public)
    member.enter(2, GRACE)
    member.admitted(replace(again.admitted, holdings=replace(held, beacon=b"")))
    assert member.last_beacon is None
    assert not member.live()
    # What the former one still says is of another term.
    world.tick(1_000)
    (late,) = world.take(subject(world.mesh.id, Kind.BEACON))
    with pytest.raises(PeerError):
        member.beacon(late, subject(world.mesh.id, Kind.BEACON))
    member.hold(held)
    assert member.live()


def test_revocation_entry_names_instances_whatever_it_revokes(world: World, planner: Member) -> None:
    entry = Revocation("chip", "c0" * 64, world.now, (INSTANCE, b"y" * 32))
    world.tick(1_000)
    held = planner.party.holdings()
    beacon = signed_beacon(world, held.beacon, sequence=1_000, revoked_hash=revoked_hash((entry,)))
    planner.membership.hold(replace(held, revoked=(entry,), beacon=beacon))
    assert planner.membership.held().revoked == {INSTANCE, b"y" * 32}


def test_revoked_set_that_its_beacon_does_not_name_is_none(world: World, planner: Member) -> None:
    other = enclave(world, "redactor")
    world.up_again().event(world.revocation("instance", other.instance.hex()))
    before = planner.membership.held()
    without = replace(planner.party.holdings(), revoked=())
    refusal = refused(planner.membership, lambda: planner.membership.hold(without))
    assert refusal.reason is Reason.NOT_LIVE
    assert planner.membership.held() is before
    world.tick(1_000)
    assert planner.beacons()[-1] is False


# Changes that were missed.


def behind(world: World, member: Member, frames: int) -> None:
    """Let so many beacons pass that a member does not hear."""
    for _ in range(frames):
        world.tick(SECOND)
    world.take(subject(world.mesh.id, Kind.BEACON))
    member.party.bodies()  # what was pushed is lost


def test_member_that_missed_a_turn_counts_no_beacon_until_it_has_caught_up_by_its_session(
    world: World,
) -> None:
    planner = enclave(world, "planner")
    evicted = enclave(world, "planner", chip="d0" * 64)
    before = set(planner.membership.held().epochs)
    world.up_again().event(world.revocation("instance", evicted.instance.hex()))
    behind(world, planner, 3)
    world.tick(SECOND)
    assert planner.beacons() == [False]
    # At once, although it does not hold the set yet.
    assert evicted.instance in planner.membership.held().revoked
    planner.refresh()
    after = set(planner.membership.held().epochs)
    assert {epoch for group, epoch in before if group == "planner"}.isdisjoint(
        {epoch for group, epoch in after if group == "planner"}
    )
    world.tick(SECOND)
    assert planner.beacons() == [True]


def test_member_that_was_away_for_longer_than_a_beacon_tells_asks_and_goes_on(world: World) -> None:
    planner = enclave(world, "planner")
    evicted = enclave(world, "redactor")
    world.up_again().event(world.revocation("instance", evicted.instance.hex()))
    behind(world, planner, TOLD_FOR // SECOND + 1)
    world.tick(SECOND)
    assert planner.beacons() == [False]
    assert not planner.membership.live()
    planner.refresh()
    assert planner.membership.live()


def test_late_holdings_do_not_undo_whom_a_newer_beacon_named(world: World) -> None:
    planner, evicted = enclave(world, "planner"), enclave(world, "vault")
    late = planner.party.holdings()
    world.up_again().event(world.revocation("instance", evicted.instance.hex()))
    behind(world, planner, 1)
    world.tick(SECOND)
    assert planner.beacons() == [False]
    planner.membership.hold(late)
    assert evicted.instance in planner.membership.held().revoked


def test_beacon_does_not_grow_with_the_roles_of_a_mesh() -> None:
    sizes = []
    for count in (3, 300):
        world = World()
        policy = world.policy()
        clients = {
            f"client-{number}": Client(key=number.to_bytes(32, "big").hex(), roles=(f"role-{number}",))
            for number in range(1, count)
        }
        world, _ = mesh_up(replace(policy, clients={**policy.clients, **clients}))
        world.tick(SECOND)
        for _ in range(TOLD_FOR // SECOND):
            world.tick(SECOND)
        sizes.append(len(world.core.authority._beacons.last))
    assert sizes[0] == sizes[1]


def lowered(world: World, operator: Party, seconds: int) -> None:
    limits = Limits(grace_seconds=seconds)
    operator.event(world.policy_event(world.next_policy(world.policy(), limits=limits)))


def test_a_policy_that_lowers_the_grace_reaches_who_has_joined() -> None:
    world, operator = mesh_up()
    planner = enclave(world, "planner")
    lowered(world, operator, 2)
    beat(world, planner)
    assert planner.membership.grace == 2 * SECOND
    world.now += 2 * SECOND + 1
    assert not planner.membership.live()


def test_no_beacon_counts_for_who_has_not_heard_of_a_lower_grace() -> None:
    world, operator = mesh_up()
    planner = enclave(world, "planner")
    world.take(subject(world.mesh.id, Kind.BEACON))
    before = world.now
    lowered(world, operator, 2)
    while planner.membership.live():
        world.tick(SECOND)
        assert not any(planner.beacons())
    assert world.now - before <= GRACE + SECOND


def test_a_renewal_by_an_older_offer_does_not_bring_the_former_grace_back() -> None:
    world, operator = mesh_up()
    planner = enclave(world, "planner")
    lowered(world, operator, 2)
    beat(world, planner)
    planner.party.renew()
    # The profile that its coordinator showed when it joined still says ten seconds.
    planner.enter()
    assert planner.membership.grace == 2 * SECOND
