"""Signed documents: by those who may, over one text, of this mesh, and saying nothing more."""

import os
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from schemas import codec
from schemas.documents import (
    ADMISSION_CLAIMS,
    GRANT_CLAIMS,
    Admission,
    Anchor,
    Constraints,
    Grant,
    LogReceipt,
    OperatorKey,
    Order,
    Profile,
    RevocationOrder,
)
from schemas.errors import MalformedError, PeerError, Reason
from schemas.evidence import MEASURED, SEV_SNP, PlatformValues, ReferenceValues
from schemas.pinning import Pinned
from schemas.policy import Policy, compiled
from schemas.vendor_roots import VENDOR_ROOTS
from sealing import cose
from sealing.context import Mesh, sha256
from sealing.documents import (
    fewest,
    open_act,
    open_admission,
    open_anchor,
    open_by_operators,
    open_grant,
    open_message,
    open_policy,
    open_profile,
    sign_admission,
    sign_by_operators,
    sign_grant,
    sign_message,
)
from sealing.errors import SealingError, SignatureError
from sealing.keys import SigningKey
from sealing.roll import EMPTY
from tests.sealing.world import ALICE, BOB, OTHER_MESH

ROOT, OTHER_ROOT, *_ = VENDOR_ROOTS[SEV_SNP]
LAB_ROOT = "aa" * 32
KEYS = [SigningKey() for _ in range(3)]
OPERATORS = tuple(OperatorKey(f"operator-{number}", key.public) for number, key in enumerate(KEYS))
ANCHOR_BYTES = codec.encode(Anchor(1, OPERATORS, 2, (ROOT, LAB_ROOT), 1_000, 5))
ANCHOR, MESH = open_anchor(ANCHOR_BYTES)
TERM = SigningKey()


def refused(reason: Reason, *arguments: Any, by: Any = open_by_operators) -> None:
    with pytest.raises(PeerError) as refusal:
        by(*arguments)
    assert refusal.value.reason is reason


# Anchor


def test_a_mesh_is_the_hash_of_its_anchor() -> None:
    assert Mesh(sha256(ANCHOR_BYTES), 1) == MESH


@pytest.mark.parametrize("suite", [-1, 0, 3, 255])
def test_an_anchor_of_another_suite_refuses(suite: int) -> None:
    data = codec.encode(msgspec.structs.replace(ANCHOR.anchor, suite=suite))
    refused(Reason.UNSUPPORTED_SUITE, data, by=open_anchor)


@pytest.mark.parametrize(("operators", "threshold"), [(1, 2), (2, 1), (3, 1), (3, 4), (3, 0)])
def test_a_threshold_is_more_than_half_and_can_be_met(operators: int, threshold: int) -> None:
    data = codec.encode(
        msgspec.structs.replace(ANCHOR.anchor, operators=OPERATORS[:operators], threshold=threshold)
    )
    refused(Reason.MALFORMED, data, by=open_anchor)


def test_operators_share_neither_key_nor_name() -> None:
    one, two, _ = OPERATORS
    for twin in (OperatorKey("another", one.key), OperatorKey(one.name, two.key)):
        data = codec.encode(msgspec.structs.replace(ANCHOR.anchor, operators=(one, twin), threshold=2))
        with pytest.raises(MalformedError, match="share"):
            open_anchor(data)


# By operators


def test_enough_different_operators_over_one_text_are_believed() -> None:
    for signers in (KEYS[:2], KEYS[1:], KEYS[::-1], KEYS):
        signed = sign_by_operators(signers, ANCHOR, "order", b"text")
        assert open_by_operators(ANCHOR, MESH, "order", signed) == b"text"


def test_too_few_refuse() -> None:
    refused(Reason.SIGNATURES_TOO_FEW, ANCHOR, MESH, "order", ())
    refused(
        Reason.SIGNATURES_TOO_FEW, ANCHOR, MESH, "order", sign_by_operators(KEYS[:1], ANCHOR, "order", b"t")
    )


@pytest.mark.parametrize("others", [0, 1, 2])
def test_an_operator_who_signed_twice_refuses_however_many_others_did(others: int) -> None:
    twice = sign_by_operators([KEYS[0], *KEYS[1 : 1 + others], KEYS[0]], ANCHOR, "order", b"text")
    refused(Reason.SIGNATURE_INVALID, ANCHOR, MESH, "order", twice)


def test_what_is_handed_on_is_the_threshold_in_the_order_of_keys() -> None:
    by_key = sorted(KEYS, key=lambda key: key.public)
    for signers in (KEYS, KEYS[::-1]):
        signed = sign_by_operators(signers, ANCHOR, "order", b"text")
        kept = fewest(ANCHOR, MESH, "order", signed)
        assert kept == sign_by_operators(by_key[:2], ANCHOR, "order", b"text")
    refused(Reason.SIGNATURES_TOO_FEW, ANCHOR, MESH, "order", signed[:1], by=fewest)


def test_signatures_over_different_texts_refuse() -> None:
    one = sign_by_operators(KEYS[:1], ANCHOR, "order", b"one")
    other = sign_by_operators(KEYS[1:], ANCHOR, "order", b"other")
    refused(Reason.SIGNATURE_INVALID, ANCHOR, MESH, "order", (*one, *other))


def test_a_stranger_among_enough_operators_refuses() -> None:
    signed = sign_by_operators([*KEYS[:2], SigningKey()], ANCHOR, "order", b"text")
    refused(Reason.SIGNATURE_INVALID, ANCHOR, MESH, "order", signed)


def test_signatures_for_another_label_or_mesh_refuse() -> None:
    for mesh, label in ((MESH, "policy"), (OTHER_MESH, "order"), (Mesh(MESH.id, 2), "order")):
        signed = sign_by_operators(KEYS[:2], replace(ANCHOR, mesh=mesh), label, b"text")
        refused(Reason.SIGNATURE_INVALID, ANCHOR, MESH, "order", signed)


def test_what_is_no_signature_is_malformed() -> None:
    (good,) = sign_by_operators(KEYS[:1], ANCHOR, "order", b"text")
    refused(Reason.MALFORMED, ANCHOR, MESH, "order", (good, b""))
    refused(Reason.MALFORMED, ANCHOR, MESH, "order", (good[:-1], good))


# Profile, policy, order, revocation


def profile(**changes: Any) -> Profile:
    values = ReferenceValues(platforms={SEV_SNP: PlatformValues(roots=(ROOT,))}, workloads=())
    made = Profile(mesh=MESH.id, version=5, issued=1, reference_values=values, grace=10_000)
    return msgspec.structs.replace(made, **changes)


def by_two(label: str, document: Any) -> tuple[bytes, ...]:
    return sign_by_operators(KEYS[:2], ANCHOR, label, codec.encode(document))


def test_a_profile_is_read_and_one_of_another_mesh_below_the_floor_or_past_the_roots_refuses() -> None:
    assert open_profile(ANCHOR, MESH, by_two("profile", profile())) == profile()
    strange = ReferenceValues(platforms={SEV_SNP: PlatformValues(roots=(ROOT, OTHER_ROOT))}, workloads=())
    for wrong, reason in (
        (profile(mesh=OTHER_MESH.id), Reason.WRONG_MESH),
        (profile(version=4), Reason.VERSION_NOT_NEWER),
        (profile(reference_values=strange), Reason.ROOT_NOT_IN_POLICY),
    ):
        refused(reason, ANCHOR, MESH, by_two("profile", wrong), by=open_profile)


def demanding(values: PlatformValues) -> ReferenceValues:
    return ReferenceValues(platforms={SEV_SNP: values}, workloads=())


def test_a_root_that_the_anchor_does_not_name_refuses_as_a_simulators_too() -> None:
    strange = PlatformValues(lab_roots=("bb" * 32,))
    wrong = by_two("profile", profile(reference_values=demanding(strange)))
    refused(Reason.ROOT_NOT_IN_POLICY, ANCHOR, MESH, wrong, by=open_profile)
    # A lab's anchor names its roots.
    lab = profile(reference_values=demanding(PlatformValues(lab_roots=(LAB_ROOT,))))
    assert open_profile(ANCHOR, MESH, by_two("profile", lab)) == lab


def test_a_profile_that_no_policy_could_make_refuses() -> None:
    for values in (PlatformValues(roots=(ROOT,), lab_roots=(LAB_ROOT,)), PlatformValues()):
        mixed = by_two("profile", profile(reference_values=demanding(values)))
        refused(Reason.MALFORMED, ANCHOR, MESH, mixed, by=open_profile)


@pytest.mark.parametrize(
    ("kind", "known", "other"), [("roots", ROOT, OTHER_ROOT), ("lab_roots", LAB_ROOT, "bb" * 32)]
)
def test_a_policy_names_no_root_that_the_anchor_does_not(kind: str, known: str, other: str) -> None:
    def naming(*roots: str) -> dict[str, PlatformValues]:
        return {SEV_SNP: msgspec.convert({kind: roots}, PlatformValues)}

    held = msgspec.structs.replace(policy(MESH), platforms=naming(known))
    assert open_policy(ANCHOR, MESH, sign_by_operators(KEYS[:2], ANCHOR, "policy", compiled(held)))[0] == held
    strange = msgspec.structs.replace(policy(MESH), platforms=naming(known, other))
    signed = sign_by_operators(KEYS[:2], ANCHOR, "policy", compiled(strange))
    refused(Reason.ROOT_NOT_IN_POLICY, ANCHOR, MESH, signed, by=open_policy)


def policy(mesh: Mesh) -> Policy:
    return Policy(
        mesh=mesh.id.hex(),
        version=1,
        issued=1,
        platforms={SEV_SNP: PlatformValues(roots=(ROOT,))},
        coordinators={SEV_SNP: Pinned(measurements=dict.fromkeys(MEASURED[SEV_SNP], "cc" * 32))},
        workloads={},
    )


def test_a_policy_is_of_this_mesh_and_named_by_the_hash_of_what_was_signed() -> None:
    signed = sign_by_operators(KEYS[:2], ANCHOR, "policy", compiled(policy(MESH)))
    assert open_policy(ANCHOR, MESH, signed) == (policy(MESH), sha256(compiled(policy(MESH))))
    other = sign_by_operators(KEYS[:2], ANCHOR, "policy", compiled(policy(OTHER_MESH)))
    refused(Reason.WRONG_MESH, ANCHOR, MESH, other, by=open_policy)


def test_an_order_and_a_revocation_are_of_this_mesh_and_each_its_own_kind() -> None:
    order = Order(MESH.id, 1, ALICE.instance, None, None, EMPTY, 9)
    revocation = RevocationOrder(MESH.id, "instance", ALICE.instance.hex(), "stolen", 9)
    assert open_act(ANCHOR, MESH, by_two("order", order), Order) == order
    assert open_act(ANCHOR, MESH, by_two("revocation", revocation), RevocationOrder) == revocation
    mixed = by_two("order", order)
    refused(Reason.SIGNATURE_INVALID, ANCHOR, MESH, mixed, RevocationOrder, by=open_act)
    refused(Reason.MALFORMED, ANCHOR, MESH, by_two("order", revocation), Order, by=open_act)
    for label, document in (("order", order), ("revocation", revocation)):
        elsewhere = msgspec.structs.replace(document, mesh=OTHER_MESH.id)
        refused(Reason.WRONG_MESH, ANCHOR, MESH, by_two(label, elsewhere), type(document), by=open_act)


def test_a_message_is_believed_of_the_terms_key_for_its_label() -> None:
    receipt = LogReceipt(bytes(32), 1, 1, 1)
    signed = sign_message(TERM, MESH, "receipt", receipt)
    assert open_message(signed, TERM.public, MESH, "receipt", LogReceipt) == receipt
    for public, mesh, label in (
        (ALICE.signing.public, MESH, "receipt"),
        (TERM.public, OTHER_MESH, "receipt"),
        (TERM.public, MESH, "beacon"),
    ):
        with pytest.raises(SignatureError):
            open_message(signed, public, mesh, label, LogReceipt)
    refused(Reason.MALFORMED, signed, TERM.public, MESH, "receipt", Order, by=open_message)


# Admission and grant

ADMISSION = Admission(
    subject=ALICE.instance,
    expires=200,
    issued=100,
    signing_key=ALICE.signing.public,
    kem_key=ALICE.kem.public,
    mesh=MESH.id,
    term=1,
    policy_version=2,
    kind="enclave",
    workload="redactor",
    platform=SEV_SNP,
    roles=("redactor",),
)
GRANT = Grant(
    subject="submitter",
    audience="redactor",
    action="submit",
    what="redact",
    rule=1,
    mesh=MESH.id,
    term=1,
    policy_version=2,
    issued=100,
    constraints=Constraints(max_bytes=9),
)
SIGNED_ADMISSION = sign_admission(TERM, MESH, ADMISSION)
SIGNED_GRANT = sign_grant(TERM, MESH, GRANT)


def claims_of(signed: bytes) -> dict[Any, Any]:
    claims = codec.decode_any(cose.unverified_payload(signed))
    assert isinstance(claims, dict)
    return claims


def test_an_admission_is_a_cwt_that_names_its_key_in_cnf() -> None:
    assert open_admission(SIGNED_ADMISSION, TERM.public, MESH) == ADMISSION
    claims = claims_of(SIGNED_ADMISSION)
    # RFC 8392: sub 2, exp 4, iat 6. RFC 8747: cnf 8 with a COSE_Key 1 of OKP and Ed25519.
    assert (claims[2], claims[4], claims[6]) == (ALICE.instance, 200, 100)
    assert claims[8] == {1: {1: 1, -1: 6, -2: ALICE.signing.public}}


def test_a_grant_is_a_cwt() -> None:
    assert open_grant(SIGNED_GRANT, TERM.public, MESH) == GRANT
    claims = claims_of(SIGNED_GRANT)
    assert (claims[2], claims[3], claims[6]) == ("submitter", "redactor", 100)


def test_admission_and_grant_are_the_terms_for_this_mesh_each_for_itself() -> None:
    for public, mesh in ((BOB.signing.public, MESH), (TERM.public, OTHER_MESH)):
        refused(Reason.SIGNATURE_INVALID, SIGNED_ADMISSION, public, mesh, by=open_admission)
        refused(Reason.SIGNATURE_INVALID, SIGNED_GRANT, public, mesh, by=open_grant)
    refused(Reason.SIGNATURE_INVALID, SIGNED_GRANT, TERM.public, MESH, by=open_admission)
    refused(Reason.SIGNATURE_INVALID, SIGNED_ADMISSION, TERM.public, MESH, by=open_grant)


def test_a_document_that_names_another_mesh_refuses_whoever_signed() -> None:
    admission = sign_admission(TERM, MESH, msgspec.structs.replace(ADMISSION, mesh=OTHER_MESH.id))
    grant = sign_grant(TERM, MESH, msgspec.structs.replace(GRANT, mesh=OTHER_MESH.id))
    refused(Reason.WRONG_MESH, admission, TERM.public, MESH, by=open_admission)
    refused(Reason.WRONG_MESH, grant, TERM.public, MESH, by=open_grant)


COSE_KEY = {1: 1, -1: 6, -2: ALICE.signing.public}
ADMISSION_CHANGES: dict[str, dict[int, Any]] = {
    "a claim more": {7: b"cti"},
    "not before": {5: 1},
    "the key beside cnf": {ADMISSION_CLAIMS["signing_key"]: BOB.signing.public},
    "cnf with a second key": {8: {1: COSE_KEY, 3: b"kid"}},
    "cnf of a key with a kid": {8: {1: {**COSE_KEY, 2: b"kid"}}},
    "cnf of another curve": {8: {1: {**COSE_KEY, -1: 4}}},
    "cnf with true for 1": {8: {1: {**COSE_KEY, 1: True}}},
    "cnf of a short key": {8: {1: {**COSE_KEY, -2: bytes(31)}}},
    "cnf that is a key id": {8: {3: b"kid"}},
    "cnf that is bytes": {8: ALICE.signing.public},
    "a subject that is text": {2: ALICE.instance.hex()},
    "a time that is negative": {4: -1},
    "a time with a fraction": {4: 1.5},
}


@pytest.mark.parametrize("change", ADMISSION_CHANGES.values(), ids=ADMISSION_CHANGES.keys())
def test_an_admission_with_another_claim_is_malformed(change: dict[int, Any]) -> None:
    signed = cose.sign(TERM, MESH, "admission", codec.encode({**claims_of(SIGNED_ADMISSION), **change}))
    refused(Reason.MALFORMED, signed, TERM.public, MESH, by=open_admission)


@pytest.mark.parametrize("claim", sorted({*ADMISSION_CLAIMS.values(), 8} - {-65537}))
def test_an_admission_without_one_of_its_claims_is_malformed(claim: int) -> None:
    claims = claims_of(SIGNED_ADMISSION)
    del claims[claim]
    signed = cose.sign(TERM, MESH, "admission", codec.encode(claims))
    refused(Reason.MALFORMED, signed, TERM.public, MESH, by=open_admission)


@pytest.mark.parametrize("claim", sorted({*GRANT_CLAIMS.values()} - {4}))
def test_a_grant_without_one_of_its_claims_is_malformed(claim: int) -> None:
    claims = claims_of(SIGNED_GRANT)
    del claims[claim]
    signed = cose.sign(TERM, MESH, "grant", codec.encode(claims))
    refused(Reason.MALFORMED, signed, TERM.public, MESH, by=open_grant)


CONSTRAINTS = GRANT_CLAIMS["constraints"]
PLAIN = claims_of(SIGNED_GRANT)[CONSTRAINTS]
GRANT_CHANGES: dict[str, dict[int, Any]] = {
    "a claim more": {5: 200},
    "an end that is none": {4: None},
    "an end that is no number": {4: "2027-01-31"},
    "another action": {GRANT_CLAIMS["action"]: "own"},
    "a constraint that nobody checks": {CONSTRAINTS: {**PLAIN, "place": "here"}},
    "constraints in another encoding": {CONSTRAINTS: {"max_bytes": 9}},
    "a bound of nothing": {CONSTRAINTS: {**PLAIN, "max_bytes": 0}},
    "hours that are none": {CONSTRAINTS: {**PLAIN, "hours": "9-17"}},
    "a day that is none": {CONSTRAINTS: {**PLAIN, "days": ["someday"]}},
    "conditions without a number": {CONSTRAINTS: {**PLAIN, "unless": [{}]}},
}


@pytest.mark.parametrize("change", GRANT_CHANGES.values(), ids=GRANT_CHANGES.keys())
def test_a_grant_with_another_claim_is_malformed(change: dict[int, Any]) -> None:
    signed = cose.sign(TERM, MESH, "grant", codec.encode({**claims_of(SIGNED_GRANT), **change}))
    refused(Reason.MALFORMED, signed, TERM.public, MESH, by=open_grant)


def test_a_grant_that_ends_says_so_in_the_claim_that_the_standard_has_for_it() -> None:
    ending = msgspec.structs.replace(GRANT, expires=200)
    signed = sign_grant(TERM, MESH, ending)
    assert claims_of(signed)[4] == 200
    assert open_grant(signed, TERM.public, MESH) == ending
    assert 4 not in claims_of(SIGNED_GRANT)


def test_what_the_term_signed_is_not_believed_in_any_other_form() -> None:
    for payload in (b"", b"\xa0", b"\x80", os.urandom(40)):
        signed = cose.sign(TERM, MESH, "admission", payload)
        refused(Reason.MALFORMED, signed, TERM.public, MESH, by=open_admission)
        with pytest.raises(MalformedError):
            open_grant(cose.sign(TERM, MESH, "grant", payload), TERM.public, MESH)


def test_refusals_of_documents_are_the_peers_fault() -> None:
    assert issubclass(SealingError, PeerError)
    assert issubclass(SignatureError, SealingError)
