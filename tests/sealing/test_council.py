"""Operators follow operators: only by the thresholds of both, with every new key proven, and never back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import codec
from schemas.documents import OperatorKey, Operators, Order
from schemas.errors import PeerError, Reason
from schemas.messages import CHAIN_BYTES, CHANGES_OF_OPERATORS, Signature, Succession
from sealing import cose
from sealing.council import LABEL, Council, follow, signers_of, succeed
from sealing.documents import open_act, open_by_operators, sign_by_operators
from sealing.roll import EMPTY
from tests.sealing.council_world import KEYS, NAMES, change, council, operators, signed

FOUNDERS = council()
LOST = change(FOUNDERS, ("ada", "ben", "dan", "eve"), 3)  # cyd's key is lost
ALL = ("ada", "ben", "dan", "eve")
STEP = signed(FOUNDERS, LOST, ALL)
HEIRS = succeed(FOUNDERS, STEP)


def refusal(held: Council, *chain: Succession) -> Reason:
    with pytest.raises(PeerError) as refused:
        follow(held, chain)
    return refused.value.reason


def order_by(names: tuple[str, ...], as_of: Council = FOUNDERS) -> tuple[bytes, ...]:
    text = codec.encode(Order(FOUNDERS.mesh.id, 1, bytes(32), None, None, EMPTY, 9))
    return sign_by_operators([KEYS[name] for name in names], as_of, "order", text)


def order_refusal(held: Council, names: tuple[str, ...]) -> Reason:
    with pytest.raises(PeerError) as refused:
        open_act(held, held.mesh, order_by(names, held), Order)
    return refused.value.reason


def test_a_lost_key_is_replaced_by_the_others() -> None:
    assert [each.name for each in HEIRS.operators] == list(ALL)
    assert (HEIRS.version, HEIRS.threshold, HEIRS.mesh) == (1, 3, FOUNDERS.mesh)
    assert follow(FOUNDERS, HEIRS.chain) == HEIRS == follow(HEIRS, HEIRS.chain)


def test_documents_are_believed_of_the_present_operators_alone() -> None:
    assert open_act(FOUNDERS, FOUNDERS.mesh, order_by(("ben", "cyd")), Order).term == 1
    assert open_act(HEIRS, FOUNDERS.mesh, order_by(("ada", "dan", "eve"), HEIRS), Order).term == 1
    # The old threshold, of whom some are still operators: too few. One who is none any more: told as that.
    assert order_refusal(HEIRS, ("ada", "ben")) is Reason.SIGNATURES_TOO_FEW
    assert order_refusal(HEIRS, ("ada", "cyd")) is Reason.FORMER_OPERATOR
    assert order_refusal(HEIRS, ("ada", "ben", "dan", "cyd")) is Reason.FORMER_OPERATOR
    assert order_refusal(HEIRS, ("ada", "ben", "fay")) is Reason.SIGNATURE_INVALID
    assert order_refusal(FOUNDERS, ("ada", "ben", "dan")) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("held", "as_of", "names", "reason"),
    [
        # Signed for a set that is not in force, by those who are operators now and will be.
        (FOUNDERS, HEIRS, ("ada", "ben"), Reason.SIGNATURE_INVALID),
        # Signed by those of before, who are so still.
        (HEIRS, FOUNDERS, ("ada", "ben", "cyd"), Reason.FORMER_OPERATOR),
        (HEIRS, FOUNDERS, ("ada", "ben"), Reason.FORMER_OPERATOR),
        (HEIRS, FOUNDERS, ("dan", "eve"), Reason.SIGNATURE_INVALID),
    ],
)
def test_a_signature_counts_for_the_set_that_it_names_alone(
    held: Council, as_of: Council, names: tuple[str, ...], reason: Reason
) -> None:
    with pytest.raises(PeerError) as refused:
        open_act(held, held.mesh, order_by(names, as_of), Order)
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    ("signers", "reason"),
    [
        ((), Reason.SIGNATURES_TOO_FEW),
        (("ada", "dan", "eve"), Reason.SIGNATURES_TOO_FEW),  # one of the old two
        (("ada", "cyd"), Reason.SIGNATURES_TOO_FEW),  # the old two, and none that is new
        (("ada", "cyd", "dan"), Reason.SIGNATURES_TOO_FEW),  # two of the new three
        (("ada", "ben", "dan"), Reason.KEY_NOT_PROVEN),  # enough of both, and eve has shown nothing
        (("ada", "ben", "cyd", "dan"), Reason.KEY_NOT_PROVEN),
    ],
)
def test_both_thresholds_and_every_new_key_sign(signers: tuple[str, ...], reason: Reason) -> None:
    assert refusal(FOUNDERS, signed(FOUNDERS, LOST, signers)) is reason


def test_the_old_threshold_may_be_met_by_who_goes() -> None:
    assert succeed(FOUNDERS, signed(FOUNDERS, LOST, ("ada", "cyd", "dan", "eve"))).version == 1


def test_a_stranger_cannot_sign_along() -> None:
    text = STEP.text
    made = Signature(KEYS["hal"].public, cose.sign_detached(KEYS["hal"], FOUNDERS.mesh, LABEL, text))
    more = tuple(sorted((*STEP.signatures, made), key=lambda each: each.key))
    assert refusal(FOUNDERS, Succession(text, more)) is Reason.SIGNATURE_INVALID


def test_signatures_stand_once_and_in_order() -> None:
    first, *_ = STEP.signatures
    for other in ((first, *STEP.signatures), STEP.signatures[::-1]):
        assert refusal(FOUNDERS, Succession(STEP.text, other)) is Reason.MALFORMED


def test_a_signature_of_another_text_mesh_or_purpose_counts_for_nothing() -> None:
    elsewhere = council(issued=2)
    for mesh, label, text in (
        (elsewhere.mesh, LABEL, STEP.text),
        (FOUNDERS.mesh, "order", STEP.text),
        (FOUNDERS.mesh, LABEL, STEP.text + b"\0"),
    ):
        ada = KEYS["ada"]
        false = Signature(ada.public, cose.sign_detached(ada, mesh, label, text))
        given = tuple(false if each.key == ada.public else each for each in STEP.signatures)
        assert refusal(FOUNDERS, Succession(STEP.text, given)) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mesh": bytes(32)}, Reason.WRONG_MESH),
        ({"previous": bytes(32)}, Reason.PREDECESSOR_MISMATCH),
        ({"version": 2}, Reason.VERSION_GAP),
        ({"version": 0}, Reason.MALFORMED),
        ({"threshold": 2}, Reason.MALFORMED),  # of four: half
        ({"threshold": 5}, Reason.MALFORMED),
        ({"reason": ""}, Reason.MALFORMED),
        ({"operators": operators(("ada", "ben", "dan")) * 2}, Reason.MALFORMED),
        (
            {"operators": (*operators(("ada", "ben", "dan")), OperatorKey("x", KEYS["ada"].public))},
            Reason.MALFORMED,
        ),
        ({"operators": (*operators(("ada", "ben", "dan")), OperatorKey("ada", bytes(32)))}, Reason.MALFORMED),
    ],
)
def test_one_change_to_the_document_one_refusal(changes: dict[str, Any], reason: Reason) -> None:
    text = change(FOUNDERS, ALL, **{"threshold": 3, **changes}).text
    signatures = tuple(
        Signature(KEYS[name].public, cose.sign_detached(KEYS[name], FOUNDERS.mesh, LABEL, text))
        for name in sorted(ALL, key=lambda name: KEYS[name].public)
    )
    assert refusal(FOUNDERS, Succession(text, signatures)) is reason


def test_a_chain_goes_neither_back_nor_aside() -> None:
    other = signed(FOUNDERS, change(FOUNDERS, ("ada", "ben", "fay"), 2), ("ada", "ben", "fay"))
    assert refusal(HEIRS) is Reason.STATE_ROLLED_BACK
    assert refusal(HEIRS, other) is Reason.FORKED
    assert refusal(HEIRS, other, STEP) is Reason.FORKED
    # As the next one: the very document that is held, and another one of its version.
    assert refusal(HEIRS, STEP, STEP) is Reason.REPLAYED
    assert refusal(HEIRS, STEP, other) is Reason.FORKED


def test_a_replaced_threshold_appoints_nobody() -> None:
    gone = council(("ada", "ben", "cyd"))
    step = signed(gone, change(gone, ("dan", "eve", "fay"), 2), ("ada", "ben", "dan", "eve", "fay"))
    heirs = succeed(gone, step)
    back = change(heirs, ("ada", "ben", "gus"), 2)
    assert refusal(heirs, step, signed(heirs, back, ("ada", "ben", "gus"))) is Reason.SIGNATURES_TOO_FEW
    # Named anew they sign, and a former operator who is not is told as one.
    named = signed(heirs, change(heirs, ("dan", "eve", "ada"), 2), ("dan", "eve", "ada"))
    assert succeed(heirs, named).version == 2
    text = named.text
    cyd = Signature(KEYS["cyd"].public, cose.sign_detached(KEYS["cyd"], gone.mesh, LABEL, text))
    more = tuple(sorted((*named.signatures, cyd), key=lambda each: each.key))
    assert refusal(heirs, step, Succession(text, more)) is Reason.FORMER_OPERATOR


def test_a_gap_in_a_chain_is_refused() -> None:
    step = signed(HEIRS, change(HEIRS, ("ada", "ben", "dan"), 2), ("ada", "ben", "dan"))
    assert follow(FOUNDERS, (STEP, step)).version == 2
    assert refusal(FOUNDERS, step) is Reason.VERSION_GAP
    assert refusal(FOUNDERS, step, STEP) is Reason.VERSION_GAP


def test_a_name_may_get_a_new_key_which_has_to_be_proven() -> None:
    renewed = (*operators(("ada", "ben")), OperatorKey("cyd", KEYS["dan"].public))
    step = change(FOUNDERS, (), 2, operators=renewed)
    assert refusal(FOUNDERS, signed(FOUNDERS, step, ("ada", "ben"))) is Reason.KEY_NOT_PROVEN
    heirs = succeed(FOUNDERS, signed(FOUNDERS, step, ("ada", "ben", "dan")))
    assert heirs.name_of(KEYS["dan"].public) == "cyd"
    assert heirs.is_former(KEYS["cyd"].public)
    assert open_act(heirs, heirs.mesh, order_by(("ada", "dan"), heirs), Order).term == 1
    assert order_refusal(heirs, ("ada", "cyd")) is Reason.FORMER_OPERATOR


def test_a_mesh_ends_its_changes_somewhere() -> None:
    held, threshold = FOUNDERS, 2
    for number in range(CHANGES_OF_OPERATORS):
        names = ("ada", "ben", NAMES[2 + number % 2])
        held = succeed(held, signed(held, change(held, names, threshold), names))
    assert held.version == CHANGES_OF_OPERATORS
    assert len(codec.encode(held.chain)) <= CHAIN_BYTES
    assert follow(FOUNDERS, held.chain) == held
    with pytest.raises(PeerError) as refused:
        follow(held, (*held.chain, replace(held.chain[-1], signatures=())))
    assert refused.value.reason is Reason.TOO_LARGE


def test_who_signed_is_told_before_it_is_enough() -> None:
    step = signed(FOUNDERS, LOST, ("eve",))
    assert signers_of(FOUNDERS, step) == {KEYS["eve"].public}


names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True)


@given(names, names, st.data())
def test_the_reference_of_ten_lines_agrees(old: list[str], new: list[str], data: st.DataObject) -> None:
    # What the text of the protocol says, with sets of names instead of keys.
    need_old = data.draw(st.integers(len(old) // 2 + 1, len(old)))
    need_new = data.draw(st.integers(len(new) // 2 + 1, len(new)))
    signers = set(data.draw(st.lists(st.sampled_from(sorted({*old, *new})), unique=True)))
    held = council(old, need_old)
    step = signed(held, change(held, new, need_new), signers)
    good = (
        len(signers & set(old)) >= need_old
        and len(signers & set(new)) >= need_new
        and set(new) - set(old) <= signers
    )
    if not good:
        assert refusal(held, step) in (Reason.SIGNATURES_TOO_FEW, Reason.KEY_NOT_PROVEN)
        return
    heirs = follow(held, (step,))
    # And then exactly the new ones decide, with exactly their threshold.
    by = data.draw(st.lists(st.sampled_from(new), unique=True, min_size=1))
    document = sign_by_operators([KEYS[name] for name in by], heirs, "renewal", b"text")
    if len(by) >= need_new:
        assert open_by_operators(heirs, held.mesh, "renewal", document) == b"text"
        return
    with pytest.raises(PeerError) as few:
        open_by_operators(heirs, held.mesh, "renewal", document)
    assert few.value.reason is Reason.SIGNATURES_TOO_FEW


@given(
    st.binary(max_size=200),
    st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)), max_size=3),
)
def test_any_bytes_are_no_change(text: bytes, signatures: list[tuple[bytes, bytes]]) -> None:
    given_ = Succession(text, tuple(Signature(*each) for each in signatures))
    with pytest.raises(PeerError):
        follow(FOUNDERS, (given_,))
    flipped = replace(STEP, text=STEP.text[:-1] + bytes([STEP.text[-1] ^ 1]))
    with pytest.raises(PeerError):
        follow(FOUNDERS, (flipped,))
    assert codec.decode(STEP.text, Operators).threshold == 3
