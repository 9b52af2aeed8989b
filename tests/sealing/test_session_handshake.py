"""Three flights between two parties, and everyone in the middle who would be one of them."""

import os
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.errors import MalformedError, PeerError, Reason
from schemas.limits import MAX_HANDSHAKE
from schemas.messages import Accept, Init
from sealing import cose
from sealing.context import SUITE_GCM, Mesh, sha256
from sealing.errors import NotAuthenticError, SealingError, SignatureError
from sealing.keys import PartyKeys, seal_signed, seal_to
from sealing.padding import unpad
from sealing.session import Peer, PendingSession, open_init
from tests.sealing.world import (
    ALICE,
    BOB,
    MALLORY,
    MESH,
    OTHER_MESH,
    SIV_MESH,
    answer,
    anyone,
    flipped,
    opened,
    pair,
    peer,
    pending,
)


def unsealed(wire: bytes, by: PartyKeys) -> bytes:
    """Return the signed init as its responder reads it, for a responder who means ill."""
    return unpad(by.kem.open(wire, MESH.ctx("init", by.instance)))


@pytest.mark.parametrize("mesh", [MESH, SIV_MESH], ids=["GCM", "GCM-SIV"])
def test_two_parties_establish_and_agree_on_all_of_it(mesh: Mesh) -> None:
    made = pair(mesh=mesh)
    initiator, responder = made.initiator, made.responder
    assert (initiator.peer, responder.peer) == (BOB.instance, ALICE.instance)
    assert initiator.transcript == responder.transcript
    assert initiator.transcript == sha256(sha256(made.init), sha256(made.accept))
    assert initiator.send_subject == responder.receive_subject
    assert initiator.receive_subject == responder.send_subject
    assert initiator.send_subject != initiator.receive_subject
    assert responder.open(initiator.seal(b"question")) == b"question"
    assert initiator.open(responder.seal(b"answer")) == b"answer"


def test_the_responder_sends_nothing_before_the_initiator_has_confirmed() -> None:
    made = pair()
    assert not made.responder.confirmed
    with pytest.raises(NotAuthenticError, match="not open"):
        made.responder.seal(b"early")
    with pytest.raises(NotAuthenticError):
        made.responder.open(flipped(made.initiator.seal(b""), 400))
    with pytest.raises(NotAuthenticError, match="not open"):
        made.responder.seal(b"still early")
    made.responder.open(made.initiator.seal(b""))
    assert made.initiator.open(made.responder.seal(b"now")) == b"now"


def test_both_judge_what_the_other_shows_before_they_believe() -> None:
    asked = pending()
    seen: list[object] = []

    def judge(init: Init) -> Peer:
        seen.append(init.credential)
        return peer(ALICE)

    wire, _ = answer(open_init(MESH, BOB, asked.wire, judge))

    def refuse(accept: Accept) -> None:
        raise SealingError(Reason.STATE_ROLLED_BACK)

    with pytest.raises(SealingError, match="state-rolled-back"):
        asked.accept(wire, refuse)
    # A refused answer is no answer: the right one may still come.
    assert asked.accept(wire, lambda accept: seen.append(accept.credential))
    assert seen == [b"credential of the initiator", b"credential of the responder"]


def test_an_answer_is_good_once() -> None:
    asked = pending()
    wire, _ = answer(opened(asked.wire))
    asked.accept(wire, anyone)
    with pytest.raises(NotAuthenticError, match="not pending"):
        asked.accept(wire, anyone)


def test_two_sessions_of_the_same_two_share_nothing() -> None:
    one, other = pair(), pair()
    assert one.initiator.transcript != other.initiator.transcript
    subjects = {session.send_subject for made in (one, other) for session in (made.initiator, made.responder)}
    assert len(subjects) == 4


# Bits and lengths


def flights() -> tuple[PendingSession, bytes]:
    asked = pending()
    wire, _ = answer(opened(asked.wire))
    return asked, wire


ASKED, ANSWER = flights()


def every_byte(wire: bytes, refuse: Callable[[bytes], None]) -> None:
    for at in range(len(wire)):
        refuse(flipped(wire, at * 8 + at % 8))


def test_a_bit_changed_in_any_byte_of_the_first_flight_refuses() -> None:
    def refuse(wire: bytes) -> None:
        with pytest.raises(NotAuthenticError):
            opened(wire)

    every_byte(ASKED.wire, refuse)
    assert opened(ASKED.wire)


def test_a_bit_changed_in_any_byte_of_the_second_flight_refuses_and_leaves_it_pending() -> None:
    asked, wire = flights()

    def refuse(changed: bytes) -> None:
        with pytest.raises(NotAuthenticError):
            asked.accept(changed, anyone)

    every_byte(wire, refuse)
    assert asked.accept(wire, anyone)


@settings(max_examples=60)
@given(st.data())
def test_a_flight_of_another_length_refuses(data: st.DataObject) -> None:
    for wire, opens in ((ASKED.wire, opened), (ANSWER, lambda wire: ASKED.accept(wire, anyone))):
        size = data.draw(st.integers(0, len(wire) - 1))
        for changed in (wire[:size], wire + bytes(1 + size % 40), wire[1:]):
            with pytest.raises(NotAuthenticError):
                opens(changed)


@settings(max_examples=60)
@given(st.binary(max_size=1_500))
def test_any_bytes_are_no_flight(data: bytes) -> None:
    with pytest.raises(NotAuthenticError):
        opened(data)
    with pytest.raises(NotAuthenticError):
        ASKED.accept(data, anyone)


def test_a_flight_larger_than_any_refuses_before_it_is_decrypted() -> None:
    for attempt in (opened, lambda wire: ASKED.accept(wire, anyone)):
        with pytest.raises(SealingError, match="too-large"):
            attempt(bytes(MAX_HANDSHAKE + 1))


# Wrong parties


def test_another_responder_cannot_open_it() -> None:
    with pytest.raises(NotAuthenticError, match="hpke"):
        opened(pending(BOB).wire, responder=MALLORY)


def test_another_mesh_or_suite_cannot_open_it() -> None:
    for mesh in (OTHER_MESH, SIV_MESH):
        with pytest.raises(NotAuthenticError):
            opened(pending(BOB).wire, mesh=mesh)


def test_a_mesh_of_no_suite_makes_no_session() -> None:
    with pytest.raises(SealingError, match="unsupported-suite"):
        pair(mesh=Mesh(MESH.id, SUITE_GCM + 7))


def test_an_init_signed_by_another_than_its_credential_refuses() -> None:
    with pytest.raises(SignatureError):
        opened(pending(initiator=MALLORY).wire, initiator=ALICE)


def test_a_credential_that_is_refused_refuses_the_init() -> None:
    def refuse(_: Init) -> Peer:
        raise SealingError(Reason.INSTANCE_REVOKED)

    with pytest.raises(SealingError, match="instance-revoked"):
        open_init(MESH, BOB, pending().wire, refuse)


def test_an_init_of_our_own_refuses() -> None:
    with pytest.raises(NotAuthenticError, match="our own"):
        opened(pending(BOB, initiator=BOB).wire, initiator=BOB)


def test_a_responder_cannot_pass_an_init_on_to_somebody_else() -> None:
    # Alice asks Mallory, who is admitted too, and who shows Alice's signed words to Bob.
    signed = unsealed(pending(MALLORY).wire, MALLORY)
    relayed = seal_signed(MESH, BOB.kem.public, signed, "init", BOB.instance)
    with pytest.raises(NotAuthenticError, match="another responder"):
        opened(relayed)


def test_a_responder_cannot_name_somebody_else_in_the_init_it_passes_on() -> None:
    init = codec.decode(cose.unverified_payload(unsealed(pending(MALLORY).wire, MALLORY)), Init)
    renamed = msgspec.structs.replace(init, responder=BOB.instance)
    forged = cose.sign(MALLORY.signing, MESH, "init", codec.encode(renamed))
    with pytest.raises(SignatureError):
        opened(seal_signed(MESH, BOB.kem.public, forged, "init", BOB.instance))


def test_a_signature_for_another_purpose_is_no_init() -> None:
    init = cose.unverified_payload(unsealed(pending(MALLORY).wire, MALLORY))
    renamed = codec.encode(msgspec.structs.replace(codec.decode(init, Init), responder=BOB.instance))
    signed = cose.sign(ALICE.signing, MESH, "accept", renamed)
    with pytest.raises(SignatureError):
        opened(seal_signed(MESH, BOB.kem.public, signed, "init", BOB.instance))


def test_an_ephemeral_key_that_is_none_is_the_initiators_fault() -> None:
    asked = pending(MALLORY)
    init = codec.decode(cose.unverified_payload(unsealed(asked.wire, MALLORY)), Init)
    broken = msgspec.structs.replace(init, responder=BOB.instance, ephemeral=bytes(1216))
    signed = cose.sign(ALICE.signing, MESH, "init", codec.encode(broken))
    got = opened(seal_signed(MESH, BOB.kem.public, signed, "init", BOB.instance))
    with pytest.raises(NotAuthenticError, match="X-Wing"):
        answer(got)


@pytest.mark.parametrize("text", [b"", b"\xf6", b"\x80", b"x" * 300])
def test_what_is_sealed_and_is_no_init_refuses(text: bytes) -> None:
    info = MESH.ctx("init", BOB.instance)
    with pytest.raises(MalformedError):
        opened(seal_signed(MESH, BOB.kem.public, text, "init", BOB.instance))
    signed = cose.sign(ALICE.signing, MESH, "init", text)
    with pytest.raises(MalformedError):
        opened(seal_signed(MESH, BOB.kem.public, signed, "init", BOB.instance))
    # Nothing is read of what is not padded as it must be.
    with pytest.raises(NotAuthenticError, match="padding"):
        opened(seal_to(BOB.kem.public, text, info))


# Wrong answers


def test_the_answer_to_another_init_refuses() -> None:
    one, other = pending(), pending()
    to_one, _ = answer(opened(one.wire))
    to_other, _ = answer(opened(other.wire))
    for asked, wire in ((one, to_other), (other, to_one)):
        with pytest.raises(NotAuthenticError):
            asked.accept(wire, anyone)


def test_an_init_passed_off_as_ones_own_gets_an_answer_that_nobody_can_use() -> None:
    # Mallory, asked by Alice, asks Bob in her own name, but for an answer to Alice's ephemeral key.
    asked = pending(MALLORY)
    init = codec.decode(cose.unverified_payload(unsealed(asked.wire, MALLORY)), Init)
    own = msgspec.structs.replace(init, responder=BOB.instance)
    signed = cose.sign(MALLORY.signing, MESH, "init", codec.encode(own))
    relayed = seal_signed(MESH, BOB.kem.public, signed, "init", BOB.instance)
    wire, _ = answer(opened(relayed, initiator=MALLORY))
    with pytest.raises(NotAuthenticError):
        asked.accept(wire, anyone)


def accept_of(asked: PendingSession, signer: PartyKeys, **changes: bytes) -> bytes:
    """Seal to the initiator what a dishonest responder might."""
    right = Accept(
        asked.init_hash, ALICE.instance, BOB.instance, b"credential", os.urandom(32), os.urandom(8), None
    )
    init = codec.decode(cose.unverified_payload(unsealed(asked.wire, BOB)), Init)
    signed = cose.sign(
        signer.signing, MESH, "accept", codec.encode(msgspec.structs.replace(right, **changes))
    )
    return seal_signed(MESH, init.ephemeral, signed, "accept", asked.init_hash)


def asked_accept(signer: PartyKeys, **changes: bytes) -> None:
    asked = pending()
    asked.accept(accept_of(asked, signer, **changes), anyone)


def test_an_answer_of_another_than_who_was_asked_refuses() -> None:
    with pytest.raises(SignatureError):
        asked_accept(MALLORY)


def test_an_answer_that_names_another_session_refuses() -> None:
    asked_accept(BOB)
    for changes in (
        {"init_hash": bytes(32)},
        {"initiator": MALLORY.instance},
        {"responder": MALLORY.instance},
        # The two names the wrong way round: an answer of ours, reflected
        {"initiator": BOB.instance, "responder": ALICE.instance},
    ):
        with pytest.raises(NotAuthenticError, match="another session"):
            asked_accept(BOB, **changes)


def test_an_erased_question_has_no_answer() -> None:
    asked = pending()
    wire, _ = answer(opened(asked.wire))
    asked.erase()
    with pytest.raises(NotAuthenticError, match="not pending"):
        asked.accept(wire, anyone)


def test_what_is_pending_or_opened_shows_no_secret() -> None:
    secret = os.urandom(32)
    asked = PendingSession(
        MESH,
        ALICE,
        responder=peer(BOB),
        responder_kem=BOB.kem.public,
        credential=b"",
        context=bytes(32),
        secret=secret,
        session_id=bytes(8),
    )
    got = opened(asked.wire)
    assert got.init.secret == secret
    for shown in (repr(asked), repr(got), repr(got.init), str(got)):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


def test_every_refusal_is_the_peers_fault() -> None:
    for kind in (NotAuthenticError, SignatureError, MalformedError):
        assert issubclass(kind, PeerError)
