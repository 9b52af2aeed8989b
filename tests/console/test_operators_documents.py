"""What operators sign: nothing is in force that fewer than the threshold signed."""

import os

import pytest

from console.documents import (
    SignedPolicy,
    make_anchor,
    open_signed_policy,
    sign_order,
    sign_policy,
    sign_revocation,
)
from schemas import codec
from schemas.documents import Order, RevocationOrder
from schemas.errors import MalformedError, PeerError, Reason, UsageError
from schemas.evidence import PlatformValues
from schemas.pinning import Pinned
from schemas.policy import Policy, Workload
from sealing.context import SUITE_GCM, Mesh
from sealing.council import Council
from sealing.documents import open_act, open_anchor
from sealing.keys import SigningKey

ROOT = "ab" * 32
MEASURED = {"measurement": "01" * 48, "host_data": "02" * 32}


@pytest.fixture(scope="module")
def operators() -> list[SigningKey]:
    return [SigningKey(os.urandom(32)) for _ in range(3)]


@pytest.fixture(scope="module")
def opened(operators: list[SigningKey]) -> tuple[Council, Mesh]:
    names = [(f"operator-{number}", key.public) for number, key in enumerate(operators)]
    return open_anchor(make_anchor(names, 2, [ROOT], 1_000, SUITE_GCM))


def policy_of(mesh: Mesh, version: int = 1) -> Policy:
    return Policy(
        mesh=mesh.id.hex(),
        version=version,
        issued=2_000,
        platforms={"sev-snp": PlatformValues(lab_roots=(ROOT,))},
        coordinators={"sev-snp": Pinned(measurements=MEASURED)},
        workloads={"w": Workload(roles=("r",), on={"sev-snp": Pinned(measurements=MEASURED)})},
    )


def test_a_policy_and_its_profile_come_out_of_one_act(
    operators: list[SigningKey], opened: tuple[Council, Mesh]
) -> None:
    anchor, mesh = opened
    policy = policy_of(mesh)
    verified = open_signed_policy(anchor, mesh, codec.encode(sign_policy(anchor, operators[:2], policy)))
    assert verified.policy == policy
    assert verified.profile.version == policy.version
    assert verified.profile.reference_values == policy.coordinator_values()


def test_one_operator_alone_signs_nothing(operators: list[SigningKey], opened: tuple[Council, Mesh]) -> None:
    anchor, mesh = opened
    signed = codec.encode(sign_policy(anchor, operators[:1], policy_of(mesh)))
    with pytest.raises(PeerError) as refusal:
        open_signed_policy(anchor, mesh, signed)
    assert refusal.value.reason is Reason.SIGNATURES_TOO_FEW


def test_one_operator_twice_signs_nothing_either(
    operators: list[SigningKey], opened: tuple[Council, Mesh]
) -> None:
    anchor, mesh = opened
    signed = codec.encode(sign_policy(anchor, [operators[0], operators[0]], policy_of(mesh)))
    with pytest.raises(PeerError) as refusal:
        open_signed_policy(anchor, mesh, signed)
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


def test_signatures_of_two_policies_do_not_add_up(
    operators: list[SigningKey], opened: tuple[Council, Mesh]
) -> None:
    anchor, mesh = opened
    first = sign_policy(anchor, operators[:1], policy_of(mesh, 1))
    second = sign_policy(anchor, operators[1:2], policy_of(mesh, 2))
    mixed = SignedPolicy(first.policy + second.policy, first.profile + second.profile)
    with pytest.raises(PeerError) as refusal:
        open_signed_policy(anchor, mesh, codec.encode(mixed))
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


def test_a_damaged_file_says_what_to_do(opened: tuple[Council, Mesh]) -> None:
    anchor, mesh = opened
    with pytest.raises(UsageError, match="the signed policy is damaged or no signed policy: sign again"):
        open_signed_policy(anchor, mesh, b"\x82\x80")


def test_orders_and_revocations_are_not_interchangeable(
    operators: list[SigningKey], opened: tuple[Council, Mesh]
) -> None:
    anchor, mesh = opened
    order = sign_order(anchor, operators[:2], term=1, instance=bytes(32), policy_hash=None, time=5)
    revocation = sign_revocation(anchor, operators[:2], kind="workload", value="w", reason="", time=5)
    assert open_act(anchor, mesh, order, Order).term == 1
    assert open_act(anchor, mesh, revocation, RevocationOrder).value == "w"
    with pytest.raises(PeerError) as refusal:
        open_act(anchor, mesh, revocation, Order)
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("threshold", [1, 4])
def test_an_anchor_needs_a_threshold_of_more_than_half_and_no_more_than_all(
    operators: list[SigningKey], threshold: int
) -> None:
    names = [(f"operator-{number}", key.public) for number, key in enumerate(operators)]
    with pytest.raises(MalformedError, match="threshold"):
        open_anchor(make_anchor(names, threshold, [ROOT], 1_000, SUITE_GCM))
