"""Offers: one quote for a tick of hellos, each provably in it, and nothing for junk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.offers import OFFERS_REMEMBERED, Hellos, OfferMemory, offers, quote_binding
from coordinator.terms import Standing
from schemas import codec
from schemas.errors import PeerError, Reason
from schemas.evidence import Evidence
from schemas.messages import Hello, Offer
from schemas.subjects import Kind, subject
from sealing import binding, merkle
from sealing.context import sha256
from tests.coordinator.world import World

WORLD = World()
EVIDENCE = Evidence("application/test-evidence", b"evidence")


def hello(number: int) -> bytes:
    return codec.encode(Hello(1, WORLD.mesh.id, number.to_bytes(32, "big")))


def refusal(wire: bytes, hellos: Hellos | None = None) -> Reason:
    with pytest.raises(PeerError) as error:
        (hellos or Hellos(WORLD.mesh)).add(wire)
    return error.value.reason


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_every_hello_is_a_leaf_under_the_one_challenge(count: int) -> None:
    hellos = Hellos(WORLD.mesh)
    for number in range(count):
        hellos.add(hello(number))
    batch = hellos.take()
    assert batch is not None
    assert quote_binding(WORLD.mesh, WORLD.keys, batch) == binding.key_binding(
        WORLD.mesh,
        "coordinator",
        batch.root,
        bytes(32),
        WORLD.keys.signing.public,
        WORLD.keys.kem.public,
    )
    made = offers(WORLD.mesh, WORLD.keys, batch, EVIDENCE, {}, Standing(WORLD.council))
    assert len(made) == count
    for number, (to, wire) in enumerate(made):
        offer = codec.decode(wire, Offer)
        assert to == subject(WORLD.mesh.id, Kind.OFFER, sha256(hello(number))[:16])
        assert offer.hello == sha256(hello(number))
        leaf = merkle.leaf(WORLD.mesh, hello(number))
        assert merkle.root_of_path(leaf, offer.index, offer.count, offer.path) == batch.root


def test_offer_names_the_coordinators_own_keys() -> None:
    _, offer = World().offer()
    assert len(offer.kem_key) == 1216
    assert offer.signing_key != WORLD.keys.signing.public


def test_hello_said_twice_in_a_tick_is_one() -> None:
    hellos = Hellos(WORLD.mesh)
    hellos.add(hello(1))
    hellos.add(hello(1))
    batch = hellos.take()
    assert batch is not None
    assert len(batch.hellos) == 1
    assert hellos.take() is None


def test_tick_is_bounded_and_the_next_one_is_not_closed() -> None:
    hellos = Hellos(WORLD.mesh)
    for number in range(1_024):
        hellos.add(hello(number))
    assert refusal(hello(1_024), hellos) is Reason.UNAVAILABLE
    batch = hellos.take()
    assert batch is not None
    assert len(batch.hellos) == 1_024
    assert (
        merkle.root_of_path(merkle.leaf(WORLD.mesh, batch.hellos[700]), 700, 1_024, batch.paths[700])
        == batch.root
    )
    hellos.add(hello(1_024))


def test_hellos_of_others_are_refused() -> None:
    assert refusal(codec.encode(Hello(1, bytes(32), bytes(32)))) is Reason.WRONG_MESH
    assert refusal(codec.encode(Hello(2, WORLD.mesh.id, bytes(32)))) is Reason.UNSUPPORTED_SUITE
    assert refusal(bytes(129)) is Reason.TOO_LARGE
    assert refusal(b"") is Reason.MALFORMED


@given(st.binary(max_size=128))
def test_any_bytes_are_a_hello_or_a_refusal(wire: bytes) -> None:
    hellos = Hellos(WORLD.mesh)
    try:
        hellos.add(wire)
    except PeerError:
        assert hellos.take() is None


def test_offer_too_large_for_an_agent_is_the_hosts_fault_and_is_not_sent() -> None:
    hellos = Hellos(WORLD.mesh)
    hellos.add(hello(1))
    batch = hellos.take()
    assert batch is not None
    endorsements = {"one": bytes(160 * 1024), "two": bytes(160 * 1024)}
    with pytest.raises(PeerError) as error:
        offers(WORLD.mesh, WORLD.keys, batch, EVIDENCE, endorsements, Standing(WORLD.council))
    assert error.value.reason is Reason.TOO_LARGE


def test_offers_are_remembered_for_a_minute() -> None:
    memory = OfferMemory()
    memory.remember([("to", b"offer")], 1_000)
    assert memory.knows(sha256(b"offer"), 60_999)
    assert not memory.knows(sha256(b"offer"), 61_000)
    assert not memory.knows(sha256(b"other"), 1_000)
    memory.sweep(61_000)
    assert not memory.knows(sha256(b"offer"), 1_000)


def test_memory_of_offers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OFFERS_REMEMBERED > 1_024 * 25
    monkeypatch.setattr("coordinator.offers.OFFERS_REMEMBERED", 2)
    memory = OfferMemory()
    memory.remember([("to", bytes([number])) for number in range(3)], 0)
    assert [memory.knows(sha256(bytes([number])), 0) for number in range(3)] == [False, True, True]
