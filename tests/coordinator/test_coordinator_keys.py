"""Epochs, packages and beacons: who gets which keys, when they turn, and that none is given twice."""

from itertools import pairwise

import pytest

from coordinator.epochs import EPOCH_ZERO, MESH_GROUP, Epochs, spans
from schemas import codec
from schemas.documents import Beacon, View
from schemas.limits import DAY, HOUR, MINUTE, SECOND
from schemas.messages import Body, Holdings
from schemas.policy import Limits
from schemas.subjects import Kind, subject
from sealing.documents import open_message
from sealing.groups import Opener, Sealer, epoch_token
from tests.coordinator.world import START, Party, World, seeded


@pytest.fixture
def world() -> World:
    world = World()
    world.up()
    return world


def groups(holdings: Holdings) -> tuple[set[str], set[str]]:
    return {each.group for each in holdings.members}, {each.group for each in holdings.senders}


def beacons(world: World) -> list[bytes]:
    return world.take(subject(world.mesh.id, Kind.BEACON))


def opened(world: World, holdings: Holdings, frame: bytes) -> Beacon:
    """Open a beacon frame as a member of the mesh group does."""
    by_token = {epoch_token(world.mesh, each): each for each in holdings.members}
    opener = Opener(world.mesh, by_token[frame[2:18]])
    sender, body = opener.open_group(frame, subject(world.mesh.id, Kind.BEACON))
    assert sender.instance == world.keys.instance
    assert sender.role_id == world.mesh.role_id("coordinator")
    message = codec.decode(body, Body)
    assert message.purpose == "beacon"
    return open_message(message.fields, world.keys.signing.public, world.mesh, "beacon", Beacon)


# Packages.


def test_members_get_secrets_and_submitters_only_handles(world: World) -> None:
    assert groups(Party.enclave(world, "planner").join().admitted.holdings) == (
        {MESH_GROUP, "planner"},
        {"redactor"},
    )
    assert groups(Party.enclave(world, "redactor").join().admitted.holdings) == (
        {MESH_GROUP, "redactor"},
        set(),
    )
    assert groups(Party.client(world).join().admitted.holdings) == ({MESH_GROUP}, {"planner"})
    assert groups(world.up_again().holdings()) == ({MESH_GROUP}, set())


def test_what_a_submitter_seals_its_audience_opens_as_its_role(world: World) -> None:
    client, planner = Party.client(world).join(), Party.enclave(world, "planner").join()
    (package,) = client.admitted.holdings.senders
    (member,) = [each for each in planner.admitted.holdings.members if each.group == "planner"]
    frame = Sealer(world.mesh, package).seal_task(b"task", b"t" * 16)
    sender, _, body = Opener(world.mesh, member).open_task(frame)
    assert (sender.instance, sender.role_id) == (client.keys.instance, world.mesh.role_id("submitter"))
    assert body == b"task"


def test_restarted_client_has_its_instance_id_and_a_new_handle(world: World) -> None:
    before, after = Party.client(world).join(), Party.client(world).join()
    assert before.keys.instance == after.keys.instance
    (first,), (second,) = before.admitted.holdings.senders, after.admitted.holdings.senders
    assert (first.group, first.epoch) == (second.group, second.epoch)
    assert first.handle != second.handle
    assert first.key != second.key


def test_no_sender_package_is_ever_given_twice(world: World) -> None:
    operator = world.up_again()
    handles: list[bytes] = []
    client, planner = Party.client(world).join(), Party.enclave(world, "planner").join()
    handles += [each.handle for party in (client, planner) for each in party.admitted.holdings.senders]
    for party in (client, planner, client):
        handles += [each.handle for each in party.holdings().senders]
    operator.event(world.revocation("instance", "ab" * 32))
    for party in (client, planner):
        handles += [each.handle for held in party.pushed() for each in held.senders]
        party.renew()
        handles += [each.handle for each in party.admitted.holdings.senders]
    assert len(handles) == 9
    assert len(set(handles)) == len(handles)


def test_members_of_one_epoch_hold_one_secret(world: World) -> None:
    first, second = (Party.enclave(world, "redactor").join().admitted.holdings for _ in range(2))
    assert first.members == second.members


def test_packages_show_no_secret(world: World) -> None:
    planner = Party.enclave(world, "planner").join()
    holdings = planner.admitted.holdings
    secrets = [member.secret for member in holdings.members] + [sender.key for sender in holdings.senders]
    for secret in secrets:
        for text in (repr(holdings), str(holdings.members), str(holdings.senders)):
            assert repr(secret) not in text
            assert secret.hex() not in text


# Epochs.


def fresh() -> Epochs:
    world = World()
    epochs = Epochs(world.mesh, seeded(7))
    limits = Limits(role_epoch_seconds=3600)
    epochs.follow(spans(world.policy(limits=limits)), START)
    return epochs


def test_every_enclave_role_is_a_group_and_so_is_the_mesh() -> None:
    assert set(spans(World().policy())) == {"mesh", "planner", "redactor", "vault"}


@pytest.mark.parametrize(
    ("group", "last_seal", "closes"),
    [
        ("redactor", HOUR + MINUTE, HOUR + MINUTE + 10 * MINUTE),
        ("planner", HOUR + MINUTE, HOUR + MINUTE + HOUR),
        ("vault", HOUR + MINUTE, HOUR + 2 * MINUTE),
        ("mesh", DAY + HOUR, DAY + 2 * HOUR),
    ],
)
def test_epoch_lives_for_its_turn_its_overlap_and_the_longest_task(
    group: str, last_seal: int, closes: int
) -> None:
    (epoch,) = fresh().of(group)
    package = epoch.package
    assert (package.opens, package.last_seal, package.closes) == (START, START + last_seal, START + closes)
    assert (epoch.listed.last_seal, epoch.listed.closes) == (package.last_seal, package.closes)


def test_next_epoch_is_sent_a_minute_before_it_opens_and_opens_before_the_last_seal() -> None:
    epochs = fresh()
    assert not epochs.turn(START + HOUR - MINUTE - 1)
    assert epochs.turn(START + HOUR - MINUTE)
    old, new = (epoch.package for epoch in epochs.of("redactor"))
    assert new.opens == START + HOUR < old.last_seal
    assert new.epoch > old.epoch
    assert new.secret != old.secret
    assert not epochs.turn(START + HOUR)


def test_epoch_is_closed_when_its_tail_is_over() -> None:
    epochs = fresh()
    epochs.turn(START + HOUR)
    closes = epochs.of("redactor")[0].package.closes
    epochs.turn(closes - 1)
    assert len(epochs.of("redactor")) == 2
    epochs.turn(closes)
    assert len(epochs.of("redactor")) == 1


def test_hard_turn_closes_every_epoch_tails_included() -> None:
    epochs = fresh()
    epochs.turn(START + HOUR)
    before = {epoch.package.epoch for epoch in epochs.of("redactor")}
    epochs.hard_turn("redactor", START + HOUR)
    (after,) = epochs.of("redactor")
    assert len(before) == 2
    assert after.package.epoch > max(before)
    assert after.package.opens == START + HOUR


def test_after_a_long_silence_an_epoch_is_open_again() -> None:
    epochs = fresh()
    epochs.turn(START + 30 * DAY)
    for group in ("redactor", "mesh"):
        (epoch,) = epochs.of(group)
        assert epoch.package.opens == START + 30 * DAY


def test_epoch_numbers_rise_across_restarts_of_the_coordinator() -> None:
    before = fresh()
    for turn in range(10):
        before.hard_turn("redactor", START + turn * 100)
    world = World()
    after = Epochs(world.mesh, seeded(8))
    after.follow(spans(world.policy()), START + 30 * SECOND)
    (old,), (new,) = before.of("redactor"), after.of("redactor")
    assert START // SECOND - EPOCH_ZERO <= old.package.epoch < new.package.epoch < 2**32


def test_group_that_no_policy_names_is_closed() -> None:
    epochs = fresh()
    epochs.follow(spans(None), START)
    assert epochs.of("redactor") == ()
    epochs.hard_turn("redactor", START)
    assert epochs.of("redactor") == ()


def test_turned_epochs_reach_members_and_submitters_by_push(world: World) -> None:
    redactor, planner = Party.enclave(world, "redactor").join(), Party.enclave(world, "planner").join()
    vault = Party.enclave(world, "vault").join()
    for _ in range(11):
        world.tick(295 * SECOND)
        for party in (redactor, planner, vault):
            party.bodies()
            party.renew()
    world.tick(HOUR - MINUTE - 11 * 295 * SECOND)
    for party in (redactor, planner):
        (held,) = party.pushed()
        numbers = [each.epoch for each in held.members if each.group == "redactor"]
        numbers += [each.epoch for each in held.senders if each.group == "redactor"]
        assert len(numbers) == 2
        views = [_view(world, signed) for signed in held.views]
        assert [each.epoch for view in views for each in view.epochs if each.group == "redactor"] == numbers


def _view(world: World, signed: bytes) -> View:
    return open_message(signed, world.keys.signing.public, world.mesh, "view", View)


# Beacons.


def test_there_is_no_beacon_before_the_term() -> None:
    world = World()
    world.tick(1000)
    assert beacons(world) == []


def test_beacon_sequence_and_time_only_rise(world: World) -> None:
    planner = Party.enclave(world, "planner").join()
    seen = [
        open_message(
            planner.admitted.holdings.beacon, world.keys.signing.public, world.mesh, "beacon", Beacon
        )
    ]
    for _ in range(3):
        world.tick(1000)
        (frame,) = beacons(world)
        seen.append(opened(world, planner.admitted.holdings, frame))
    world.up_again().event(world.revocation("instance", "ab" * 32))
    world.tick(1000)
    (frame,) = beacons(world)
    seen.append(opened(world, planner.admitted.holdings, frame))
    for earlier, later in pairwise(seen):
        assert later.sequence > earlier.sequence
        assert later.time >= earlier.time
        assert later.log_size >= earlier.log_size
        assert later.term == 1


def test_invariant_06_one_text_for_each_beacon_sequence(world: World) -> None:
    planner = Party.enclave(world, "planner").join()
    operator = world.up_again()
    texts: dict[int, set[bytes]] = {}

    def note(signed: bytes) -> None:
        beacon = open_message(signed, world.keys.signing.public, world.mesh, "beacon", Beacon)
        texts.setdefault(beacon.sequence, set()).add(signed)

    note(planner.admitted.holdings.beacon)
    for number in range(3):
        operator.event(world.revocation("instance", f"{number:02x}" * 32))
        for held in planner.pushed():
            note(held.beacon)
        note(planner.holdings().beacon)
        world.tick(1000)
        for frame in beacons(world):
            opened(world, planner.admitted.holdings, frame)
    assert len(texts) > 3
    assert all(len(signed) == 1 for signed in texts.values())


def test_beacon_names_exactly_what_parties_hold(world: World) -> None:
    planner = Party.enclave(world, "planner").join()
    world.up_again().event(world.revocation("workload", "vault"))
    world.tick(1000)
    (frame,) = beacons(world)
    beacon = opened(world, planner.admitted.holdings, frame)
    (held,) = planner.pushed()
    view = _view(world, held.views[0])
    assert dict(beacon.changed)[world.mesh.role_id("planner")] == view.version


def test_beacon_that_comes_with_an_admission_is_not_behind_the_accept(world: World) -> None:
    # An agent refuses a beacon whose log is shorter than the one that its accept named.
    for _ in range(3):
        party = Party.enclave(world, "vault").join()
        signed = party.admitted.holdings.beacon
        beacon = open_message(signed, world.keys.signing.public, world.mesh, "beacon", Beacon)
        assert beacon.log_size > party.state.log_size


def test_view_changes_its_version_only_with_what_it_says(world: World) -> None:
    planner = Party.enclave(world, "planner").join()
    first = planner.admitted.holdings.views
    world.tick(1000)
    Party.enclave(world, "redactor").join()
    assert planner.holdings().views == first
    world.up_again().event(world.revocation("workload", "redactor"))
    (second,) = planner.holdings().views
    assert _view(world, second).version == _view(world, first[0]).version + 1


def test_beacon_is_sealed_under_the_next_mesh_epoch_once_that_is_open(world: World) -> None:
    tokens = set()
    for _ in range(27):
        world.tick(HOUR)
        (frame,) = beacons(world)
        tokens.add(frame[2:18])
    assert len(tokens) == 2
