"""An enclave's search for its own keys: whole secrets, in any chunks, with a control."""

import os

from hypothesis import given
from hypothesis import strategies as st

from sealing.erasure import held_secrets
from sealing.groups import Opener, Sender, sender_package
from sealing.keys import KemKey, SigningKey
from sealing.own_keys import OwnKeys, look_for
from tests.sealing.world import ALICE, MESH, package

SECRET, OTHER, CONTROL = b"s" * 16 + bytes(range(16)), b"o" * 64, b"public and on the wire"


def test_what_is_held_is_looked_for_and_what_is_erased_is_not() -> None:
    signing, kem, held = SigningKey(), KemKey(), package()
    opener = Opener(MESH, held)
    before = held_secrets()
    assert held.secret in before
    assert signing.secrets()[0] in before
    assert len(kem.secrets()) == 2
    assert set(kem.secrets()) <= set(before)
    opener.erase()
    signing.erase()
    kem.erase()
    assert signing.secrets() == kem.secrets() == opener.secrets() == ()
    assert len(held_secrets()) <= len(before) - 4


def test_no_public_value_is_among_the_secrets() -> None:
    held = package()
    public = sender_package(MESH, held, Sender(ALICE.instance, bytes(16)), os.urandom(12))
    secrets = held_secrets()
    for value in (ALICE.signing.public, ALICE.kem.public, ALICE.instance, public.handle, public.token):
        assert value not in secrets


@given(
    st.lists(st.sampled_from([SECRET, SECRET.hex().encode(), b"noise", b"", CONTROL]), max_size=6), st.data()
)
def test_every_occurrence_is_counted_whatever_the_chunks(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"|".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    expected = sum(piece in (SECRET, SECRET.hex().encode()) for piece in pieces)
    assert look_for([SECRET, OTHER, SECRET], CONTROL, chunks) == OwnKeys(2, expected, CONTROL in pieces)


def test_what_is_short_is_no_oracle() -> None:
    assert look_for([b"guess"], CONTROL, [b"a guess"]) == OwnKeys(0, 0, False)


def test_part_of_a_secret_is_no_hit() -> None:
    assert look_for([SECRET], CONTROL, [SECRET[:31], b"x", SECRET[1:]]).found == 0
