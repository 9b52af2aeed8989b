"""A coordinator that says one thing to one half of its agents and another to the other half."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest

from agent_runtime.peering import ForkError
from schemas.errors import PeerError, Reason
from schemas.subjects import Kind, subject
from sealing.documents import sign_message
from sealing.keys import SigningKey
from tests.agent_runtime.world import Member, enclave, mesh_up, signed_beacon
from tests.coordinator.world import World

OUT = b"o" * 32  # an instance that one half is told is out, and the other is not


@dataclass
class Double:
    """A coordinator with one key and two views, one for each half of the agents."""

    world: World
    first: tuple[Member, ...]
    second: tuple[Member, ...]

    def beat(self) -> None:
        """Send each half its own beacon of the next sequence."""
        self.world.tick(1_000)
        (_,) = self.world.take(subject(self.world.mesh.id, Kind.BEACON))
        true = self.world.core.authority._beacons.last
        for member in self.first:
            assert member.membership.signed_beacon(true)
        for member in self.second:
            assert member.membership.signed_beacon(self.other(true))

    def other(self, true: bytes) -> bytes:
        return signed_beacon(self.world, true, revoked=(OUT,))


@pytest.fixture
def double() -> Double:
    world, _ = mesh_up()
    chips = iter(f"{number:02x}" * 64 for number in range(1, 9))
    first = tuple(enclave(world, role, chip=next(chips)) for role in ("redactor", "vault"))
    second = tuple(enclave(world, role, chip=next(chips)) for role in ("redactor", "vault"))
    world.take(subject(world.mesh.id, Kind.BEACON))
    return Double(world, first, second)


def meet(initiator: Member, responder: Member) -> None:
    """Open a session as far as it goes; what is refused on the way is refused."""
    role = responder.party.roles[0]
    pending, inbox, frame = initiator.peering.open(responder.party.admitted.admission, role)
    try:
        to, answer, _ = responder.peering.inbox(frame, inbox)
    except ForkError as fork:
        to, answer = fork.subject, fork.answer
    assert to == pending.accept_subject
    initiator.peering.accepted(pending.accept_subject, answer)


def test_within_a_half_nothing_is_noticed(double: Double) -> None:
    double.beat()
    for redactor, vault in (double.first, double.second):
        meet(redactor, vault)
        assert redactor.membership.live()
        assert vault.membership.live()


def test_both_know_and_stop_as_soon_as_two_of_the_halves_open_a_session(double: Double) -> None:
    double.beat()
    (redactor, _), (_, vault) = double.first, double.second
    with pytest.raises(PeerError, match="equivocation"):
        meet(redactor, vault)
    true = double.world.core.authority._beacons.last
    for member in (redactor, vault):
        proof = member.membership.witness.proof
        assert proof is not None
        assert set(proof) == {true, double.other(true)}
        assert not member.membership.live()
        with pytest.raises(PeerError, match="not-live"):
            member.peering.open(vault.party.admitted.admission, "vault")
        with pytest.raises(PeerError, match="equivocation"):
            member.membership.signed_beacon(true)
    # A proof holds for good: no beacon, no holdings and no admission make them live again.
    double.world.tick(1_000)
    with pytest.raises(PeerError, match="equivocation"):
        vault.refresh()
    assert not vault.membership.live()


def test_who_was_a_beacon_behind_when_a_peer_showed_its_own_finds_the_fork_when_its_comes(
    double: Double,
) -> None:
    double.beat()
    (redactor, _), (_, vault) = double.first, double.second
    double.world.tick(1_000)
    true = double.world.core.authority._beacons.last
    assert redactor.membership.signed_beacon(true)
    # The vault holds neither this one nor, of the one before, what the redactor was told last.
    redactor.membership.witness._beacons.clear()
    meet(redactor, vault)
    with pytest.raises(PeerError, match="equivocation"):
        vault.membership.signed_beacon(double.other(true))
    assert vault.membership.witness.proof == (true, double.other(true))


def signed(world: World, key: SigningKey, label: str) -> bytes:
    """Sign another beacon of the present sequence, by whatever key as whatever document."""
    authority = world.core.authority
    return sign_message(key, world.mesh, label, authority._beacon(authority._beacons.sequence, world.now))


@pytest.mark.parametrize(
    "claim",
    [
        lambda world, true: b"",
        lambda world, true: true[:-1] + bytes([true[-1] ^ 1]),
        lambda world, true: sign_message(
            SigningKey(), world.mesh, "beacon", world.core.authority._beacon(1, 0)
        ),
        lambda world, true: sign_message(
            world.keys.signing, world.mesh, "receipt", world.core.authority._beacon(1, 0)
        ),
        lambda world, true: signed_beacon(world, true, sequence=0),
        lambda world, true: signed_beacon(world, true, sequence=2**40),
        lambda world, true: signed_beacon(world, true, term=9),
        lambda world, true: None,
    ],
    ids=["nothing", "a signature", "another's", "another label", "old", "far ahead", "another term", "none"],
)
def test_no_claim_but_two_signed_beacons_of_one_sequence_stops_anybody(
    double: Double, claim: Callable[[World, bytes], bytes | None]
) -> None:
    double.beat()
    redactor, vault = double.first
    redactor.membership.last_beacon = claim(double.world, double.world.core.authority._beacons.last)
    with suppress(PeerError):
        meet(redactor, vault)
    assert vault.membership.witness.proof is None
    assert redactor.membership.witness.proof is None
    double.beat()
    assert vault.membership.live()


def test_a_fork_is_told_with_its_reason() -> None:
    assert ForkError("subject", b"").reason is Reason.EQUIVOCATION
