"""Quarantine, taint and what operators are told: who may finish, who goes, and who sees the registry."""

import msgspec
import pytest

from coordinator.beacons import revoked_hash
from coordinator.ledger import CHIPS_MOST
from coordinator.quarantine import LIFT_AHEAD
from coordinator.telling import PARTIES_A_PAGE
from coordinator.terms import AHEAD
from schemas import codec
from schemas.documents import Beacon
from schemas.evidence import SEV_SNP
from schemas.limits import MAX_BODY, MINUTE
from schemas.messages import Get, Holdings, MeshStatus, Millis
from schemas.pinning import Pinned
from schemas.policy import Workload
from sealing.context import sha256
from sealing.documents import open_message
from tests.coordinator.world import Party, Refusal, World, measured


@pytest.fixture
def world() -> World:
    return World()


def status(party: Party, page: str = "0") -> MeshStatus:
    return codec.convert(party.request("get", Get("status", page), "got"), MeshStatus)


def groups(holdings: Holdings) -> set[tuple[str, int]]:
    return {(package.group, package.epoch) for package in holdings.members}


# Quarantine.


def test_a_quarantined_instance_keeps_session_and_keys_and_is_named_to_nobody(world: World) -> None:
    operator = world.up()
    vault, redactor = Party.enclave(world, "vault").join(), Party.enclave(world, "redactor").join()
    before = vault.holdings()
    operator.event(world.revocation("quarantine", vault.keys.instance.hex()))
    assert redactor.directory("vault") == []
    # It may finish: it is let hold what it held, and to renew its admission.
    assert vault.session.send_subject in world.heard
    assert groups(vault.holdings()) == groups(before)
    vault.renew()
    assert redactor.directory("vault") == []


def test_everybody_is_told_of_a_quarantine_under_the_hash_that_beacons_carry(world: World) -> None:
    operator = world.up()
    vault, planner = Party.enclave(world, "vault").join(), Party.enclave(world, "planner").join()
    operator.event(world.revocation("quarantine", vault.keys.instance.hex()))
    for each in (vault, planner):
        (holdings,) = each.pushed()
        (entry,) = holdings.revoked
        assert (entry.kind, entry.instances) == ("quarantine", (vault.keys.instance,))
        signed = open_message(holdings.beacon, world.keys.signing.public, world.mesh, "beacon", Beacon)
        assert signed.revoked_hash == revoked_hash(holdings.revoked)


def test_a_quarantine_lasts_as_long_as_the_instance_is_admitted(world: World) -> None:
    operator = world.up()
    vault = Party.enclave(world, "vault").join()
    operator.event(world.revocation("quarantine", vault.keys.instance.hex()))
    for _ in range(4):
        world.tick(300_000)
        vault.renew()
    (entry,) = vault.holdings().revoked
    assert entry.kind == "quarantine"
    world.tick(3_600_000)
    assert world.core.authority.ledger.revoked() == ()
    # It comes back with its keys: so does the quarantine.
    vault.join()
    assert [each.kind for each in vault.admitted.holdings.revoked] == ["quarantine"]


def test_a_quarantined_instance_can_still_be_evicted(world: World) -> None:
    operator = world.up()
    vault = Party.enclave(world, "vault").join()
    operator.event(world.revocation("quarantine", vault.keys.instance.hex()))
    operator.event(world.revocation("instance", vault.keys.instance.hex()))
    assert vault.session.send_subject not in world.heard
    with pytest.raises(Refusal, match="instance-revoked"):
        vault.join()


# Its end.


def test_a_lifted_instance_takes_things_again_and_everybody_is_told_under_a_new_hash(world: World) -> None:
    operator = world.up()
    vault, redactor = Party.enclave(world, "vault").join(), Party.enclave(world, "redactor").join()
    digest = vault.keys.instance.hex()
    operator.event(world.revocation("quarantine", digest))
    world.tick(1_000)
    operator.event(world.revocation("lift", digest))
    assert redactor.directory("vault") == [vault.keys.instance]
    (holdings,) = vault.pushed()[-1:]
    assert holdings.revoked == ()
    signed = open_message(holdings.beacon, world.keys.signing.public, world.mesh, "beacon", Beacon)
    assert signed.revoked_hash == revoked_hash(())
    entries = [msgspec.json.decode(line) for line in world.log]
    (entry,) = [each for each in entries if each["decision"] == "lifted"]
    assert (entry["value"], entry["reason"]) == (digest, "test")
    # And nothing is left of it when the instance comes back.
    vault.join()
    assert vault.admitted.holdings.revoked == ()


def test_no_word_of_before_undoes_the_last_one(world: World) -> None:
    # Any operator alone can bring again what the threshold once signed.
    operator = world.up()
    vault = Party.enclave(world, "vault").join()
    digest = vault.keys.instance.hex()
    said = []
    for kind in ("quarantine", "lift", "quarantine", "lift"):
        world.tick(1_000)
        said.append(world.revocation(kind, digest))
        operator.event(said[-1])
    for overtaken in (said[0], said[2]):
        with pytest.raises(Refusal, match="replayed"):
            operator.event(overtaken)
    assert not world.core.authority.ledger.is_quarantined(vault.keys.instance)
    # The same side said earlier changes nothing, and has its receipt.
    operator.event(said[1])
    world.tick(1_000)
    operator.event(world.revocation("quarantine", digest))
    for overtaken in (said[1], said[3]):
        with pytest.raises(Refusal, match="replayed"):
            operator.event(overtaken)
    assert world.core.authority.ledger.is_quarantined(vault.keys.instance)


def test_a_successor_may_be_told_in_any_order(world: World) -> None:
    operator = world.up()
    vault = Party.enclave(world, "vault").join()
    digest = vault.keys.instance.hex()
    before = world.revocation("quarantine", digest)
    world.tick(1_000)
    operator.event(world.revocation("lift", digest))  # by a console that never heard of the quarantine
    with pytest.raises(Refusal, match="replayed"):
        operator.event(before)
    assert world.core.authority.ledger.revoked() == ()


def test_of_one_time_the_quarantine_holds(world: World) -> None:
    operator = world.up()
    vault = Party.enclave(world, "vault").join()
    digest = vault.keys.instance.hex()
    operator.event(world.revocation("lift", digest))
    operator.event(world.revocation("quarantine", digest))
    with pytest.raises(Refusal, match="replayed"):
        operator.event(world.revocation("lift", digest))
    assert world.core.authority.ledger.is_quarantined(vault.keys.instance)


@pytest.mark.parametrize(("kind", "room"), [("quarantine", AHEAD), ("lift", LIFT_AHEAD)])
def test_a_word_of_a_time_to_come_is_refused_for_it_would_outlast_those_until_then(
    world: World, kind: str, room: Millis
) -> None:
    operator = world.up()
    with pytest.raises(Refusal, match="not-yet-valid"):
        operator.event(world.revocation(kind, "ab" * 32, time=world.now + room + 1))
    operator.event(world.revocation(kind, "ab" * 32, time=world.now + room))


def test_no_lifting_by_a_fast_clock_undoes_a_later_quarantine(world: World) -> None:
    operator = world.up()
    vault = Party.enclave(world, "vault").join()
    digest = vault.keys.instance.hex()
    fast = world.revocation("lift", digest, time=world.now + MINUTE)
    with pytest.raises(Refusal, match="not-yet-valid"):
        operator.event(fast)
    world.tick(10_000)
    operator.event(world.revocation("quarantine", digest))
    assert world.core.authority.ledger.is_quarantined(vault.keys.instance)


def test_it_takes_the_threshold_to_lift(world: World) -> None:
    operator = world.up()
    vault = Party.enclave(world, "vault").join()
    digest = vault.keys.instance.hex()
    operator.event(world.revocation("quarantine", digest))
    with pytest.raises(Refusal, match="signatures-too-few"):
        operator.event(world.revocation("lift", digest, time=world.now + 1, signers=1))
    assert world.core.authority.ledger.is_quarantined(vault.keys.instance)


def test_whoever_is_out_stays_out(world: World) -> None:
    operator = world.up()
    vault = Party.enclave(world, "vault").join()
    digest = vault.keys.instance.hex()
    operator.event(world.revocation("instance", digest))
    world.tick(1_000)
    operator.event(world.revocation("lift", digest))
    with pytest.raises(Refusal, match="instance-revoked"):
        vault.join()


# Taint.


def test_a_tainted_measurement_takes_all_its_instances_and_turns_their_groups(world: World) -> None:
    operator = world.up()
    first, second = Party.enclave(world, "redactor").join(), Party.enclave(world, "redactor").join()
    planner = Party.enclave(world, "planner").join()
    before = {epoch for group, epoch in groups(first.holdings()) if group == "redactor"}
    operator.event(world.revocation("measurement", sha256(b"redactor").hex()))
    for party in (first, second):
        assert party.session.send_subject not in world.heard
    holdings = planner.pushed()[-1]
    (entry,) = holdings.revoked
    assert set(entry.instances) == {first.keys.instance, second.keys.instance}
    assert before.isdisjoint(package.epoch for package in holdings.senders if package.group == "redactor")
    with pytest.raises(Refusal, match="instance-revoked"):
        Party.enclave(world, "redactor").join()


def test_what_measures_otherwise_may_take_a_tainted_workloads_name(world: World) -> None:
    # To mend an image and sign it under its old name is what operators do next.
    operator, policy = world.up(), world.policy()
    operator.event(world.revocation("measurement", sha256(b"redactor").hex()))
    mended = {
        **policy.workloads,
        "redactor": Workload(roles=("redactor",), on={SEV_SNP: Pinned(measurements=measured("mended"))}),
    }
    operator.event(world.policy_event(world.next_policy(policy, workloads=mended)))
    Party.enclave(world, "redactor", workload="mended").join()


@pytest.mark.parametrize("kind", ["instance", "measurement", "quarantine"])
def test_an_id_that_is_none_is_refused(world: World, kind: str) -> None:
    with pytest.raises(Refusal, match="malformed"):
        world.up().event(world.revocation(kind, "redactor"))


# Status.


def test_operators_are_told_who_is_admitted_and_where_the_coordinator_stands(world: World) -> None:
    operator = world.up()
    vault, client = Party.enclave(world, "vault").join(), Party.client(world).join()
    operator.event(world.revocation("quarantine", vault.keys.instance.hex()))
    told = status(operator)
    assert (told.term, told.policy_version, told.policy_hash) == (1, 1, operator_hash(world))
    assert (told.log_size, told.log_root) == (
        world.core.authority.audit.size,
        world.core.authority.audit.root,
    )
    assert (told.revoked, told.pages) == (1, 1)
    parties = {each.instance: each for each in told.parties}
    assert set(parties) == {operator.keys.instance, vault.keys.instance, client.keys.instance}
    shown = parties[vault.keys.instance]
    assert (shown.kind, shown.roles, shown.workload, shown.state) == (
        "enclave",
        ("vault",),
        "vault",
        "quarantined",
    )
    assert shown.workload_id == sha256(b"vault")
    assert parties[client.keys.instance].state == "admitted"


def operator_hash(world: World) -> bytes:
    return world.core.authority.standing.policy_hash


def test_nobody_else_is_told(world: World) -> None:
    world.up()
    for party in (Party.enclave(world, "vault"), Party.client(world)):
        with pytest.raises(Refusal, match="role-not-permitted"):
            status(party.join())


def test_a_page_of_those_who_take_the_most_room_fits_a_message(world: World) -> None:
    world.up()
    ledger = world.core.authority.ledger
    known = Party.enclave(world, "redactor").join()
    party = ledger.admitted(known.keys.instance)
    assert party is not None
    most = msgspec.structs.replace(
        party,
        roles=tuple(f"{number:064}" for number in range(16)),
        chip="00" * 64,
    )
    for number in range(PARTIES_A_PAGE):
        instance = number.to_bytes(32, "big")
        for chip in range(CHIPS_MOST):
            ledger.enter(msgspec.structs.replace(most, instance=instance, chip=f"{chip:02x}" * 64))
    told = status(world.up_again())
    assert {len(each.chips) for each in told.parties} == {CHIPS_MOST}
    assert len(codec.encode(told)) < MAX_BODY * 0.8  # it is padded, by an eighth at most


def test_a_registry_of_many_comes_in_pages_that_hold_each_party_once(world: World) -> None:
    world.up()
    ledger = world.core.authority.ledger
    (known,) = ledger.parties()
    for number in range(PARTIES_A_PAGE + 5):
        ledger.enter(msgspec.structs.replace(known, instance=number.to_bytes(32, "big")))
    operator = world.up_again()
    first, second = status(operator), status(operator, "1")
    assert first.pages == second.pages == 2
    instances = [each.instance for each in (*first.parties, *second.parties)]
    assert len(instances) == len(set(instances)) == PARTIES_A_PAGE + 6
    with pytest.raises(Refusal, match="no-handler"):
        status(operator, "2")
    with pytest.raises(Refusal, match="malformed"):
        status(operator, "-1")
