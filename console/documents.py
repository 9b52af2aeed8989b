"""What operators sign: policies with their profiles, orders of terms, revocations. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from schemas import codec
from schemas.documents import Anchor, OperatorKey, Order, Profile, RevocationOrder
from schemas.errors import MalformedError, Reason, UsageError
from schemas.messages import Millis, SignedByOperators
from schemas.policy import Policy, compiled
from sealing.context import Mesh
from sealing.council import Council
from sealing.documents import open_policy, open_profile, sign_by_operators
from sealing.errors import SealingError
from sealing.keys import SigningKey
from sealing.profile import profile_of
from sealing.roll import roll_hash


def make_anchor(
    operators: Sequence[tuple[str, bytes]], threshold: int, roots: Sequence[str], issued: Millis, suite: int
) -> bytes:
    """Return the anchor's bytes: what a new mesh is."""
    keys = tuple(OperatorKey(name, key) for name, key in sorted(operators))
    return codec.encode(Anchor(suite, keys, threshold, tuple(sorted(set(roots))), issued, 1))


class SignedPolicy(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A policy and the profile that comes out of the same act, as the operators signed them."""

    policy: SignedByOperators
    profile: SignedByOperators


def sign_policy(council: Council, keys: Sequence[SigningKey], policy: Policy) -> SignedPolicy:
    """Have operators sign a policy and the profile that follows from it."""
    profile = profile_of(council.mesh, policy)
    return SignedPolicy(
        sign_by_operators(keys, council, "policy", compiled(policy)),
        sign_by_operators(keys, council, "profile", codec.encode(profile)),
    )


@dataclass(frozen=True, slots=True)
class VerifiedPolicy:
    """A policy file that was opened: enough operators signed it."""

    signed: SignedPolicy
    policy: Policy
    policy_hash: bytes
    profile: Profile


def open_signed_policy(
    council: Council, mesh: Mesh, data: bytes, source: str = "the signed policy"
) -> VerifiedPolicy:
    """Open a signed policy file, or raise `UsageError` that says what is wrong with `source`."""
    try:
        signed = codec.decode(data, SignedPolicy)
    except MalformedError as error:
        raise UsageError(f"{source} is damaged or no signed policy: sign again, or take a copy") from error
    try:
        policy, policy_hash = open_policy(council, mesh, signed.policy)
    except SealingError as error:
        if error.reason is not Reason.SIGNATURES_TOO_FEW:
            raise
        hint = f"{error.detail}; those who lack add theirs to {source} with `sealbus policy sign`"
        raise SealingError(error.reason, hint) from error
    profile = open_profile(council, mesh, signed.profile)
    if profile != profile_of(mesh, policy):
        raise UsageError("the profile in the signed policy does not follow from its policy: sign it again")
    return VerifiedPolicy(signed, policy, policy_hash, profile)


def sign_order(
    council: Council,
    keys: Sequence[SigningKey],
    *,
    term: int,
    instance: bytes,
    policy_hash: bytes | None,
    time: Millis,
    log_head: bytes | None = None,
    roll: Iterable[bytes] = (),
) -> tuple[bytes, ...]:
    """Have operators order a term for one coordinator instance.

    `log_head` is the root of the last term's audit log, as far as they hold it; `roll` the digests of the
    revocations that are to hold.
    """
    order = Order(council.mesh.id, term, instance, policy_hash, log_head, roll_hash(roll), time)
    return sign_by_operators(keys, council, "order", codec.encode(order))


def sign_revocation(
    council: Council, keys: Sequence[SigningKey], *, kind: str, value: str, reason: str, time: Millis
) -> tuple[bytes, ...]:
    """Have operators revoke an instance, a chip or a workload."""
    order = RevocationOrder(council.mesh.id, kind, value, reason, time)
    return sign_by_operators(keys, council, "revocation", codec.encode(order))
