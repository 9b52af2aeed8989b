"""Acts on disk: any bytes are an act or refused, and signatures only add up over one text."""

import os
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.documents import make_anchor
from console.operating import acts
from console.operating.acts import Act
from schemas import codec
from schemas.documents import Order, Renewal, RevocationOrder
from schemas.errors import PeerError, Reason, UsageError
from sealing.context import SUITE_GCM
from sealing.documents import open_anchor
from sealing.keys import SigningKey
from sealing.roll import EMPTY

KEYS = [SigningKey(os.urandom(32)) for _ in range(3)]
ANCHOR, MESH = open_anchor(
    make_anchor([(f"op{n}", key.public) for n, key in enumerate(KEYS)], 2, ["ab" * 32], 1, SUITE_GCM)
)
DOCUMENTS: list[acts.Document] = [
    Order(MESH.id, 1, bytes(32), None, None, EMPTY, 5),
    RevocationOrder(MESH.id, "chip", "c0", "stolen", 5),
    Renewal(MESH.id, 1, 5),
]


@given(st.binary(max_size=400))
def test_any_bytes_are_an_act_or_refused_with_the_files_name(data: bytes) -> None:
    with pytest.raises(UsageError, match="that file"):
        acts.decode_act(data, "that file")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: type(each).__name__)
def test_an_act_comes_back_as_it_was_written_and_no_byte_less(document: acts.Document) -> None:
    data = codec.encode(acts.sign(ANCHOR, MESH, acts.act_of(document), KEYS[:1]))
    act = acts.decode_act(data, "it")
    assert acts.document(act) == document
    for length in range(len(data)):
        with pytest.raises(UsageError):
            acts.decode_act(data[:length], "it")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: type(each).__name__)
def test_signatures_add_up_to_the_same_in_any_order(document: acts.Document) -> None:
    made = acts.act_of(document)
    joined = set()
    for order in permutations(KEYS):
        act = made
        for key in order:
            act = acts.join(ANCHOR, MESH, act, acts.sign(ANCHOR, MESH, made, [key, key]))
        joined.add(codec.encode(act))
    assert len(joined) == 1
    assert acts.signers(ANCHOR, MESH, act) == ("op0", "op1", "op2")
    assert acts.event_of(ANCHOR, MESH, act).kind == act.kind


def test_one_operator_is_too_few_and_a_stranger_is_none() -> None:
    made = acts.act_of(DOCUMENTS[0])
    with pytest.raises(PeerError) as refusal:
        acts.event_of(ANCHOR, MESH, acts.sign(ANCHOR, MESH, made, [KEYS[0], KEYS[0]]))
    assert refusal.value.reason is Reason.SIGNATURES_TOO_FEW
    with pytest.raises(PeerError) as refusal:
        acts.sign(ANCHOR, MESH, made, [SigningKey(os.urandom(32))])
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


def test_a_signature_over_another_text_or_for_another_purpose_names_its_signer_or_is_none() -> None:
    order, other = acts.act_of(DOCUMENTS[0]), acts.act_of(Order(MESH.id, 2, bytes(32), None, None, EMPTY, 5))
    signed = acts.sign(ANCHOR, MESH, other, KEYS[:1])
    with pytest.raises(PeerError, match="op0 signed another text"):
        acts.signers(ANCHOR, MESH, Act(order.kind, order.text, signed.signatures))
    renewal = acts.sign(ANCHOR, MESH, acts.act_of(DOCUMENTS[2]), KEYS[:2])
    with pytest.raises(PeerError) as refusal:
        acts.signers(ANCHOR, MESH, Act(order.kind, order.text, renewal.signatures))
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


def test_a_copied_signature_completes_nothing_and_the_next_who_signs_leaves_it_out() -> None:
    act = acts.sign(ANCHOR, MESH, acts.act_of(DOCUMENTS[1]), KEYS[:1])
    copied = Act(act.kind, act.text, act.signatures * 2)
    for step in (acts.signers, acts.event_of):
        with pytest.raises(PeerError, match="op0 has signed twice"):
            step(ANCHOR, MESH, copied)
    assert acts.signers(ANCHOR, MESH, acts.sign(ANCHOR, MESH, copied, KEYS[1:2])) == ("op0", "op1")


def test_an_act_of_another_mesh_is_not_signed() -> None:
    with pytest.raises(PeerError) as refusal:
        acts.sign(ANCHOR, MESH, acts.act_of(Renewal(bytes(32), 1, 5)), KEYS[:1])
    assert refusal.value.reason is Reason.WRONG_MESH
