"""Signatures of a policy add up to the threshold: each operator counts once, and all sign one text."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from console.documents import SignedPolicy, open_signed_policy, sign_policy
from console.policy import signatures
from console.policy.operators import Operator, anchor_of, majority, public_line, read_public
from schemas import codec
from schemas.errors import PeerError, Reason, UsageError
from schemas.evidence import NITRO, PlatformValues
from schemas.messages import LAST_MOMENT
from schemas.policy import Policy
from schemas.vendor_roots import VENDOR_ROOTS
from sealing.documents import open_anchor, sign_by_operators
from sealing.errors import SealingError, SignatureError
from sealing.keys import SigningKey
from tests.policy.policies import ISSUED, POLICY

NAMES = ("alice", "bob", "carol")
KEYS = {name: SigningKey(bytes([n]) * 32) for n, name in enumerate(NAMES, 1)}
ANCHOR_BYTES, MESH = anchor_of(
    [Operator(name, key.public) for name, key in KEYS.items()], 2, VENDOR_ROOTS[NITRO], 5
)
ANCHOR, _ = open_anchor(ANCHOR_BYTES)
OURS = replace(POLICY, mesh=MESH.id.hex())


def signed(*names: str, policy: Policy = OURS) -> SignedPolicy:
    """Return what these operators made, one after the other."""
    held = signatures.NOBODY
    for name in names:
        held = signatures.sign(ANCHOR, MESH, KEYS[name], policy, held)
    return held


def read(held: SignedPolicy) -> signatures.Signed:
    return signatures.read_signed(ANCHOR, MESH, held)


def test_one_signature_is_one_too_few_and_two_are_enough() -> None:
    one, two = read(signed("alice")), read(signed("alice", "carol"))
    assert (one.signers, one.others, one.lacking) == (("alice",), ("bob", "carol"), 1)
    assert (two.signers, two.others, two.lacking) == (("alice", "carol"), ("bob",), 0)


def test_a_whole_set_is_what_is_published_with_its_profile() -> None:
    whole = codec.encode(signed("carol", "bob"))
    verified = open_signed_policy(ANCHOR, MESH, whole)
    assert verified.policy == OURS
    assert verified.policy_hash == read(signed("bob", "carol")).digest
    assert verified.profile.reference_values == OURS.coordinator_values()


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6))
def test_neither_order_nor_repetition_matters(names: list[str]) -> None:
    assert signed(*names) == signed(*sorted(set(names)))


def test_sets_made_apart_join_to_the_same_in_any_order() -> None:
    parts = [signed("alice"), signed("bob"), signed("carol", "alice")]
    joined = set()
    for order in itertools.permutations(parts):
        held = signatures.NOBODY
        for part in order:
            held = signatures.join(ANCHOR, MESH, held, part)
        joined.add(codec.encode(held))
    assert joined == {codec.encode(signed(*NAMES))}


def test_nobody_signs_a_policy_of_a_root_that_the_anchor_does_not_name() -> None:
    platforms = {NITRO: PlatformValues(lab_roots=("bb" * 32,))}
    with pytest.raises(SealingError) as refusal:
        signed("alice", policy=replace(OURS, platforms=platforms))
    assert refusal.value.reason is Reason.ROOT_NOT_IN_POLICY


def test_whoever_signed_another_text_is_named_with_its_version() -> None:
    other = signed("bob", policy=replace(OURS, version=7, predecessor="ee" * 32))
    with pytest.raises(SignatureError, match="bob signed another text of the policy, one of version 7"):
        signatures.sign(ANCHOR, MESH, KEYS["alice"], OURS, other)


def test_a_profile_that_does_not_follow_from_the_policy_is_refused() -> None:
    foreign = sign_policy(ANCHOR, [KEYS["bob"]], replace(OURS, issued=ISSUED + 1))
    mixed = SignedPolicy(signed("bob").policy, foreign.profile)
    with pytest.raises(SignatureError, match="bob signed another text of the profile"):
        read(mixed)


def test_whoever_signed_the_policy_and_not_its_profile_has_not_signed() -> None:
    whole = signed("alice", "bob")
    with pytest.raises(SignatureError, match="not everyone who signed the policy"):
        read(SignedPolicy(whole.policy, whole.profile[:1]))


def test_a_signature_for_one_purpose_is_none_for_the_other() -> None:
    whole = signed("alice", "bob")
    with pytest.raises(PeerError) as refusal:
        read(SignedPolicy(whole.profile, whole.policy))
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


def test_a_stranger_can_neither_sign_nor_be_slipped_in() -> None:
    stranger = SigningKey(b"\x09" * 32)
    with pytest.raises(SignatureError, match="none of this mesh's operators"):
        signatures.sign(ANCHOR, MESH, stranger, OURS, signatures.NOBODY)
    mine, theirs = signed("alice"), sign_policy(ANCHOR, [stranger], OURS)
    mixed = SignedPolicy(mine.policy + theirs.policy, mine.profile + theirs.profile)
    with pytest.raises(SignatureError, match="not an operator of this mesh"):
        read(mixed)


def test_signatures_for_this_mesh_of_a_policy_that_names_another_are_refused() -> None:
    names_another = sign_policy(ANCHOR, [KEYS["alice"], KEYS["bob"]], POLICY)
    with pytest.raises(SignatureError, match="of another mesh than the anchor"):
        read(names_another)


def test_a_policy_of_another_mesh_is_not_signed() -> None:
    with pytest.raises(UsageError, match=MESH.id.hex()):
        signatures.sign(ANCHOR, MESH, KEYS["alice"], POLICY, signatures.NOBODY)


def test_a_signed_text_that_is_no_policy_is_refused() -> None:
    junk = sign_by_operators([KEYS["alice"]], ANCHOR, "policy", b"\x80")
    with pytest.raises(PeerError) as refusal:
        read(SignedPolicy(junk, junk))
    assert refusal.value.reason is Reason.MALFORMED


def test_nothing_is_no_set_of_signatures() -> None:
    with pytest.raises(SignatureError, match="no signature"):
        read(signatures.NOBODY)
    with pytest.raises(SignatureError, match="no signature"):
        signatures.join(ANCHOR, MESH, signatures.NOBODY, signatures.NOBODY)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_set_or_a_usage_error(data: bytes) -> None:
    try:
        held = signatures.decode_signed(data, "x.signed")
    except UsageError:
        return
    with pytest.raises(PeerError):
        read(held)


# The chain of versions.

FIRST = read(signed("alice", "bob"))
SECOND = replace(OURS, version=2, predecessor=FIRST.digest.hex())


def test_a_successor_names_the_hash_of_the_version_before() -> None:
    assert signatures.chain(SECOND, FIRST) == []
    (found,) = signatures.chain(replace(SECOND, predecessor="ee" * 32), FIRST)
    assert found.code == "predecessor-mismatch"
    assert f'set predecessor = "{FIRST.digest.hex()}"' in found.text


@pytest.mark.parametrize("version", [1])
def test_a_version_that_is_not_newer_is_told_with_the_next(version: int) -> None:
    (found,) = signatures.chain(replace(SECOND, version=version), FIRST)
    assert (found.code, found.text) == ("version-not-newer", "version 1 does not follow version 1: set 2")


def test_without_the_version_before_only_a_missing_name_of_it_is_seen() -> None:
    assert signatures.chain(SECOND, None) == []
    (found,) = signatures.chain(replace(SECOND, predecessor=None), None)
    assert found.code == "no-predecessor"


def test_a_version_that_is_left_out_is_told_with_the_next() -> None:
    (found,) = signatures.chain(replace(SECOND, version=3), FIRST)
    assert (found.code, found.path) == ("version-gap", ("version",))
    assert found.text == "version 3 leaves out what follows version 1: set 2"


def test_a_first_version_far_ahead_is_told_as_the_coordinator_refuses_it() -> None:
    for version in (2**31 - 2**20, 2**40):
        (found,) = signatures.chain(replace(SECOND, version=version), None)
        assert (found.code, found.path) == ("version-jump", ("version",))
    assert signatures.chain(replace(SECOND, version=2**31 - 2**20 - 1), None) == []


def test_a_version_that_was_issued_before_the_one_that_it_replaces_is_told() -> None:
    assert signatures.chain(replace(SECOND, issued=OURS.issued), FIRST) == []
    (found,) = signatures.chain(replace(SECOND, issued=OURS.issued - 1), FIRST)
    assert (found.code, found.path) == ("issued-before", ("issued",))


def test_the_version_before_is_of_the_same_mesh() -> None:
    codes = [each.code for each in signatures.chain(replace(SECOND, mesh="ee" * 32), FIRST)]
    assert codes == ["other-mesh"]


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({}, "without an end"),
        ({"not_before": ISSUED + 1}, "not before 2026-09-21T14:13:20+00:00"),
        ({"expires": ISSUED + 1}, "until 2026-09-21T14:13:20+00:00"),
        ({"expires": ISSUED}, "ended 2026-09-21T14:13:20+00:00"),
        ({"expires": LAST_MOMENT}, "until 9999-12-31T23:59:59+00:00"),
    ],
    ids=["unbounded", "to come", "now", "over", "the last"],
)
def test_the_time_of_a_policy_is_said_in_words(bounds: dict[str, int], said: str) -> None:
    assert signatures.validity(replace(POLICY, **bounds), ISSUED) == said


# Operators and their anchor.


def test_a_public_key_is_a_line_that_reads_back() -> None:
    alice = Operator("alice", KEYS["alice"].public)
    assert read_public(public_line(alice), "alice.pub") == alice


@pytest.mark.parametrize(
    "line",
    [
        "",
        "alice",
        "sealbus-operator-1 alice zz",
        "sealbus-operator-1 A 00",
        "sealbus-operator-2 a " + "00" * 32,
    ],
)
def test_what_is_no_public_key_is_told_by_its_file(line: str) -> None:
    with pytest.raises(UsageError, match=r"alice\.pub"):
        read_public(line, "alice.pub")


@given(st.integers(1, 8), st.integers(-1, 10))
def test_a_threshold_is_more_than_half_or_refused(count: int, threshold: int) -> None:
    people = [Operator(f"o{n}", SigningKey(bytes([n]) * 32).public) for n in range(count)]
    if count < 2 * threshold <= 2 * count:
        data, mesh = anchor_of(people, threshold, VENDOR_ROOTS[NITRO], 5)
        assert open_anchor(data)[1] == mesh
        assert threshold >= majority(count)
        return
    with pytest.raises(UsageError, match="more than half"):
        anchor_of(people, threshold, VENDOR_ROOTS[NITRO], 5)


@pytest.mark.parametrize(
    ("twice", "said"),
    [
        (Operator("bob", KEYS["alice"].public), "alice and bob have one key: each"),
        (Operator("alice", KEYS["bob"].public), "two operators share the name alice"),
    ],
    ids=["key", "name"],
)
def test_one_operator_is_not_two(twice: Operator, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        anchor_of([Operator("alice", KEYS["alice"].public), twice], 2, VENDOR_ROOTS[NITRO], 5)
