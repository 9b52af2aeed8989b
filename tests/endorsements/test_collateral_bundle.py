"""A signed offline bundle: by enough operators of this mesh, no older than the newest seen, never a root."""

from collections.abc import Callable

import pytest

from attestation import tdx
from attestation.bundles.bundle import (
    LABEL,
    SKEW,
    add_signatures,
    decode_file,
    decode_signed,
    encode_file,
    endorsements_for,
    open_bundle,
    sign_bundle,
    unverified_bundle,
)
from attestation.endorsements import Fetched, How, Subject, Validity, WrongDocumentError, needs_of
from attestation.endorsements.gather import check_entries, entry_of, merge
from attestation.errors import EvidenceMalformedError
from console.documents import make_anchor
from schemas import codec
from schemas.collateral import CollateralEntry, CollateralFile, Entries, SignedCollateral
from schemas.errors import MalformedError, PeerError, Reason
from schemas.evidence import Evidence
from sealing import cose
from sealing.context import SUITE_GCM
from sealing.council import succeed
from sealing.documents import open_anchor
from sealing.errors import SealingError, SignatureError
from sealing.keys import SigningKey
from tests.attestation.tdx_forge import Forge
from tests.endorsements.world import NOW
from tests.sealing.council_world import KEYS, change, council, signed
from tests.sealing.world import signed_anew

ALICE, BOB, CAROL, MALLORY = (SigningKey() for _ in "four")
ANCHOR, MESH = open_anchor(
    make_anchor(
        [("alice", ALICE.public), ("bob", BOB.public), ("carol", CAROL.public)],
        2,
        ["ab" * 32],
        1,
        SUITE_GCM,
    )
)
ISSUED = 1_790_000_000_000


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


@pytest.fixture(scope="module")
def entries(forge: Forge) -> Entries:
    files = forge.endorsements()

    def of(subject: Subject, *names: str) -> Fetched:
        chosen = {name: files[name] for name in names}
        return Fetched(subject, chosen, Validity(NOW, NOW), NOW, How.FETCHED)

    fetched = (
        of(Subject("tcb-info", ("1ab0c06f0000",)), "tcb_info.json", "tcb_info_chain.pem"),
        of(Subject("qe-identity"), "qe_identity.json", "qe_identity_chain.pem"),
        of(Subject("pck-crl", ("platform",)), "pck_crl.der", "pck_crl_chain.pem"),
        of(Subject("root-ca-crl"), "root_ca_crl.der", "pck_crl_chain.pem"),
    )
    return merge((), map(entry_of, fetched), roots=())[0]


def test_a_bundle_that_enough_operators_signed_verifies_evidence_offline(
    forge: Forge, entries: Entries
) -> None:
    data = sign_bundle(ANCHOR, (ALICE, BOB), entries, issued=ISSUED)
    bundle = open_bundle(ANCHOR, MESH, data, now=ISSUED, newest=ISSUED)
    evidence = Evidence(tdx.MEDIA_TYPE, forge.quote())
    found = endorsements_for(needs_of(evidence, {}), bundle.entries)
    assert tdx.verify(evidence.value, found, now=NOW).missing == ()


def test_operators_may_sign_one_after_the_other(entries: Entries) -> None:
    by_one = sign_bundle(ANCHOR, (ALICE,), entries, issued=ISSUED)
    with pytest.raises(SealingError) as caught:
        open_bundle(ANCHOR, MESH, by_one, now=ISSUED)
    assert caught.value.reason is Reason.SIGNATURES_TOO_FEW
    by_two = add_signatures(ANCHOR, (BOB,), decode_signed(by_one), now=ISSUED)
    assert open_bundle(ANCHOR, MESH, by_two, now=ISSUED).entries == entries


def test_an_operator_who_signs_twice_counts_once(entries: Entries) -> None:
    twice = add_signatures(
        ANCHOR, (ALICE,), decode_signed(sign_bundle(ANCHOR, (ALICE,), entries, issued=ISSUED)), now=ISSUED
    )
    assert len(decode_signed(twice).signatures) == 1


def test_two_signatures_of_one_operator_are_one_and_keep_no_bundle_from_being_whole(entries: Entries) -> None:
    (mine,) = decode_signed(sign_bundle(ANCHOR, (CAROL, CAROL), entries, issued=ISSUED)).signatures
    other = signed_anew(CAROL, MESH, LABEL, cose.unverified_payload(mine))
    assert other != mine
    twice = SignedCollateral((mine, other), ())
    still_one = decode_signed(add_signatures(ANCHOR, (CAROL,), twice, now=ISSUED))
    assert still_one.signatures == (mine,)
    by_two = add_signatures(ANCHOR, (ALICE,), twice, now=ISSUED)
    assert open_bundle(ANCHOR, MESH, by_two, now=ISSUED).entries == entries


def test_an_operators_signature_over_another_text_keeps_no_bundle_from_being_whole(entries: Entries) -> None:
    (mine,) = decode_signed(sign_bundle(ANCHOR, (ALICE,), entries, issued=ISSUED)).signatures
    (other,) = decode_signed(sign_bundle(ANCHOR, (BOB,), entries, issued=ISSUED + 1)).signatures
    by_two = add_signatures(ANCHOR, (BOB,), SignedCollateral((mine, other), ()), now=ISSUED)
    assert open_bundle(ANCHOR, MESH, by_two, now=ISSUED).issued == ISSUED


def test_a_bundle_that_nobody_signed_is_none() -> None:
    with pytest.raises(SealingError) as caught:
        unverified_bundle(SignedCollateral((), ()))
    assert caught.value.reason is Reason.SIGNATURES_TOO_FEW


def test_a_stranger_is_no_operator(entries: Entries) -> None:
    data = sign_bundle(ANCHOR, (ALICE, MALLORY), entries, issued=ISSUED)
    with pytest.raises(SignatureError):
        open_bundle(ANCHOR, MESH, data, now=ISSUED)


def test_a_bundle_older_than_the_newest_seen_is_refused(entries: Entries) -> None:
    data = sign_bundle(ANCHOR, (ALICE, BOB), entries, issued=ISSUED)
    with pytest.raises(SealingError) as caught:
        open_bundle(ANCHOR, MESH, data, now=ISSUED, newest=ISSUED + 1)
    assert caught.value.reason is Reason.VERSION_NOT_NEWER


def test_a_bundle_of_the_future_is_neither_taken_nor_signed(entries: Entries) -> None:
    data = sign_bundle(ANCHOR, (ALICE, BOB), entries, issued=ISSUED + SKEW)
    assert open_bundle(ANCHOR, MESH, data, now=ISSUED).issued == ISSUED + SKEW
    with pytest.raises(SealingError) as refusal:
        open_bundle(ANCHOR, MESH, data, now=ISSUED - 1)
    assert refusal.value.reason is Reason.NOT_YET_VALID
    with pytest.raises(SealingError) as refusal:
        add_signatures(ANCHOR, (CAROL,), decode_signed(data), now=ISSUED - 1)
    assert refusal.value.reason is Reason.NOT_YET_VALID


def test_a_time_that_is_no_date_is_malformed(entries: Entries) -> None:
    data = sign_bundle(ANCHOR, (ALICE, BOB), entries, issued=2**63 - 1)
    with pytest.raises(MalformedError):
        unverified_bundle(decode_signed(data))
    with pytest.raises(MalformedError):
        open_bundle(ANCHOR, MESH, data, now=2**63 - 1)


def test_a_bundle_brings_the_changes_by_which_its_signers_are_operators(entries: Entries) -> None:
    founders = council()
    step = signed(founders, change(founders, ("ada", "ben", "dan"), 2), ("ada", "ben", "dan"))
    heirs = succeed(founders, step)
    data = sign_bundle(heirs, (KEYS["ada"], KEYS["dan"]), entries, issued=ISSUED)
    # A process that starts knows the anchor alone.
    assert open_bundle(founders, founders.mesh, data, now=ISSUED).entries == entries
    by_former = sign_bundle(heirs, (KEYS["ada"], KEYS["cyd"]), entries, issued=ISSUED)
    with pytest.raises(SealingError) as caught:
        open_bundle(founders, founders.mesh, by_former, now=ISSUED)
    assert caught.value.reason is Reason.FORMER_OPERATOR
    # What those signed who stay is signed again: it was good for the set of before.
    before = decode_signed(sign_bundle(founders, (KEYS["ada"], KEYS["cyd"]), entries, issued=ISSUED))
    ada = add_signatures(heirs, (KEYS["ada"],), before, now=ISSUED)
    again = add_signatures(heirs, (KEYS["dan"],), decode_signed(ada), now=ISSUED)
    assert len(decode_signed(again).signatures) == 2
    assert open_bundle(heirs, heirs.mesh, again, now=ISSUED).entries == entries
    # And one that knows of the change takes none of before it.
    old = sign_bundle(founders, (KEYS["ada"], KEYS["cyd"]), entries, issued=ISSUED)
    with pytest.raises(SealingError) as caught:
        open_bundle(heirs, heirs.mesh, old, now=ISSUED)
    assert caught.value.reason is Reason.STATE_ROLLED_BACK


def test_another_meshs_bundle_is_refused(entries: Entries) -> None:
    elsewhere, _ = open_anchor(make_anchor([("alice", ALICE.public)], 1, ["cd" * 32], 1, SUITE_GCM))
    data = sign_bundle(elsewhere, (ALICE, BOB), entries, issued=ISSUED)
    with pytest.raises(SignatureError):
        open_bundle(ANCHOR, MESH, data, now=ISSUED)
    with pytest.raises(SealingError) as caught:
        add_signatures(ANCHOR, (CAROL,), decode_signed(data), now=ISSUED)
    assert caught.value.reason is Reason.WRONG_MESH


@pytest.mark.parametrize("position", [40, -200, -1])
def test_a_flipped_bit_is_refused(position: int, entries: Entries) -> None:
    data = bytearray(sign_bundle(ANCHOR, (ALICE, BOB), entries, issued=ISSUED))
    data[position] ^= 1
    with pytest.raises(PeerError):
        open_bundle(ANCHOR, MESH, bytes(data), now=ISSUED)


def reverse(entries: Entries) -> Entries:
    return entries[::-1]


def double(entries: Entries) -> Entries:
    return (entries[0], *entries)


@pytest.mark.parametrize("change", [reverse, double])
def test_entries_out_of_order_or_twice_are_refused(
    change: Callable[[Entries], Entries], entries: Entries
) -> None:
    with pytest.raises(MalformedError):
        decode_file(codec.encode(CollateralFile(entries=change(entries))))


@pytest.mark.parametrize("subject", ["vcek/Genoa", "tcb-info/../../etc", "no-such-kind", "crl/Genoa/other"])
def test_a_subject_that_names_nothing_is_refused(subject: str) -> None:
    entry = CollateralEntry(subject=subject, files={}, fetched=0)
    with pytest.raises(EvidenceMalformedError):
        decode_file(codec.encode(CollateralFile(entries=(entry,))))


def test_a_file_is_read_back_as_it_was_written(entries: Entries) -> None:
    assert decode_file(encode_file(entries)) == entries


def test_what_is_not_what_it_says_is_not_for_signing(forge: Forge, entries: Entries) -> None:
    check_entries(entries, roots=(forge.root,), now=NOW)
    renamed = tuple(
        CollateralEntry(subject="tcb-info/00806f050000", files=entry.files, fetched=entry.fetched)
        for entry in entries
        if entry.subject.startswith("tcb-info")
    )
    with pytest.raises(WrongDocumentError, match="FMSPC"):
        check_entries(renamed, roots=(forge.root,), now=NOW)
    with pytest.raises(WrongDocumentError, match="another root"):
        check_entries(entries, roots=ANCHOR.roots, now=NOW)
