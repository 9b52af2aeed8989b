"""What the operators have put in force: the term, the profile, the policy. One value, swapped whole.

Pure. A document is taken only with the signatures of the operators' threshold, and never backwards.
"""

from dataclasses import dataclass, replace

from coordinator.errors import ForkError, RefusedError
from schemas.documents import Order
from schemas.errors import Reason
from schemas.limits import FIRST_VERSION_MOST, MINUTE, NUMBERS_END
from schemas.messages import Event, Millis
from schemas.policy import Limits, Policy, with_rules
from schemas.rules import Rule
from schemas.words import moment
from sealing.context import Mesh
from sealing.council import Council
from sealing.documents import fewest, open_act, open_policy, open_profile
from sealing.profile import profile_of

NO_HASH = bytes(32)
AHEAD = 5 * MINUTE  # by how much operators' clocks may be ahead of the coordinator's host
PAST_KEPT = 256  # policies that are told apart from a fork of theirs


@dataclass(frozen=True, slots=True)
class Standing:
    """Term, profile and policy at one instant; a decision reads it once and uses it to the end."""

    council: Council  # who signs, as of now
    order: Order | None = None
    term_record: tuple[bytes, ...] | None = None
    profile: tuple[bytes, ...] = ()
    policy: Policy | None = None
    policy_documents: tuple[bytes, ...] = ()  # as it was signed
    policy_hash: bytes = NO_HASH
    past: tuple[tuple[int, bytes], ...] = ()  # versions that were in force before, and their hashes
    adopted: Millis = 0
    extra: tuple[Rule, ...] = ()  # what operators gave for some hours, by break-glass

    @property
    def term(self) -> int:
        """The term that is open; 0 before the order."""
        return self.order.term if self.order else 0

    @property
    def policy_version(self) -> int:
        """The version in force; 0 before the first policy."""
        return self.policy.version if self.policy else 0

    @property
    def effective(self) -> Policy | None:
        """The policy in force with what is given beside it: what grants are made from."""
        return with_rules(self.policy, self.extra) if self.policy and self.extra else self.policy

    @property
    def limits(self) -> Limits:
        """How long things live."""
        return self.policy.limits if self.policy else Limits()


def take_order(
    standing: Standing, mesh: Mesh, instance: bytes, event: Event, *, now: Millis
) -> tuple[Standing, Order]:
    """Open the term that the operators ordered for this very instance."""
    # 1. Signed by the threshold, for this mesh.
    order = open_act(standing.council, mesh, event.documents, Order)
    # 2. Terms only rise, and a process serves one: its successor has other keys.
    if order.term <= standing.term:
        raise RefusedError(Reason.VERSION_NOT_NEWER, "term")
    if standing.order is not None:
        raise RefusedError(Reason.TERM_NOT_ACCEPTED, "this coordinator serves another term: start a new one")
    # 3. It names these keys.
    if order.instance != instance:
        raise RefusedError(Reason.TERM_NOT_ACCEPTED, "the order names another instance")
    # 4. Of now: it moves mesh time on, which never goes back. And there is room for terms after it.
    if order.time > now + AHEAD:
        raise RefusedError(Reason.NOT_YET_VALID, "an order of a time to come: set the clock that signs")
    if order.term >= NUMBERS_END:
        raise RefusedError(Reason.CONSTRAINT_VIOLATED, f"a term is below {NUMBERS_END}")
    record = fewest(standing.council, mesh, "order", event.documents)
    return replace(standing, order=order, term_record=record), order


def take_policy(standing: Standing, mesh: Mesh, event: Event, *, now: Millis) -> tuple[Standing, Policy]:
    """Adopt a policy that follows the one in force, with the profile that came with it."""
    # 1. Signed by the threshold, for this mesh.
    policy, digest = open_policy(standing.council, mesh, event.documents)
    # 2. A term is open.
    if standing.order is None:
        raise RefusedError(Reason.TERM_NOT_ACCEPTED, "no order is in force")
    # 3. Versions rise by one, and each names the one that it replaces.
    known = dict((*standing.past, (standing.policy_version, standing.policy_hash)))
    if known.get(policy.version, digest) != digest:
        raise ForkError(policy.version, known[policy.version], digest)
    if policy.version <= standing.policy_version:
        raise RefusedError(Reason.VERSION_NOT_NEWER, f"policy: version {standing.policy_version} is in force")
    # Of a mesh that goes on, the order names what was in force, and that may be any.
    goes_on = standing.order.term > 1 and standing.order.policy_hash is not None
    most = NUMBERS_END - 1 if standing.policy is not None or goes_on else FIRST_VERSION_MOST
    if policy.version > most:
        raise RefusedError(Reason.CONSTRAINT_VIOLATED, f"a policy's version: {most} at most is taken here")
    # What was left out could be signed later, and nobody could say which of the two was meant.
    if standing.policy is not None and policy.version != standing.policy_version + 1:
        held = f"policy: version {standing.policy_version} is in force, so that of the next is one more"
        raise RefusedError(Reason.VERSION_GAP, held)
    predecessor = bytes.fromhex(policy.predecessor) if policy.predecessor else None
    if standing.policy is not None and predecessor != standing.policy_hash:
        held = f"version {standing.policy_version} is in force as {standing.policy_hash.hex()}"
        raise RefusedError(Reason.PREDECESSOR_MISMATCH, held)
    # 4. A coordinator without a policy holds to the one that its order names.
    ordered = standing.order.policy_hash
    if standing.policy is None and ordered is not None and ordered not in (digest, predecessor):
        raise RefusedError(Reason.PREDECESSOR_MISMATCH, "the order names another policy")
    # 5. It is of now: what operators signed long ago and nobody published is not adopted by surprise.
    if policy.not_before is not None and now < policy.not_before:
        text = f"the policy's `not_before` is {moment(policy.not_before)}: publish it then"
        raise RefusedError(Reason.NOT_YET_VALID, text)
    if policy.expires is not None and policy.expires <= now:
        text = f"the policy's `expires` was {moment(policy.expires)}: sign one with a later end"
        raise RefusedError(Reason.EXPIRED, text)
    # Parties take `issued` for a time that has come: one ahead would shut out whoever joins by it.
    if policy.issued > now + AHEAD:
        raise RefusedError(Reason.NOT_YET_VALID, "a policy issued at a time to come: mend `issued`")
    if standing.policy is not None and policy.issued < standing.policy.issued:
        raise RefusedError(Reason.CONSTRAINT_VIOLATED, "a policy issued before the one that it replaces")
    # 6. The profile, for those who are not admitted yet: the one that follows from this policy.
    signed = take_profile(standing.council, mesh, policy, event)
    taken = replace(
        standing,
        profile=signed,
        policy=policy,
        policy_documents=event.documents,
        policy_hash=digest,
        past=_past(standing),
        adopted=now,
    )
    return taken, policy


def take_profile(council: Council, mesh: Mesh, policy: Policy, event: Event) -> tuple[bytes, ...]:
    """Return the signed profile that came with a policy, or raise: it says what that policy says."""
    if event.profile is None:
        raise RefusedError(Reason.CONSTRAINT_VIOLATED, "a policy without its profile")
    if open_profile(council, mesh, event.profile) != profile_of(mesh, policy):
        raise RefusedError(Reason.CONSTRAINT_VIOLATED, "the profile does not follow from this policy")
    # It is in every offer.
    return fewest(council, mesh, "profile", event.profile)


def _past(standing: Standing) -> tuple[tuple[int, bytes], ...]:
    if standing.policy is None:
        return ()
    return (*standing.past, (standing.policy_version, standing.policy_hash))[-PAST_KEPT:]
