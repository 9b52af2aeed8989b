"""Policy -> grants and views: what each role may do and hold, and nothing else of the policy.

Pure. A view is signed anew, under the next version, exactly when what it says has changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from coordinator.epochs import MESH_GROUP, Epochs, spans
from coordinator.errors import RefusedError
from coordinator.terms import Standing
from schemas import codec
from schemas.decisions import Decision, Permitted, permitted
from schemas.documents import ClassInfo, Grant, RoleKind, View
from schemas.errors import Reason
from schemas.limits import MAX_BODY, MAX_DOCUMENT, REVOKED_PAGE, SECOND
from schemas.messages import CHAIN_BYTES, ENCLAVE, OPERATOR
from schemas.policy import Policy
from schemas.rules import CALL, SEND, SUBMIT
from sealing.context import Mesh, sha256
from sealing.documents import sign_grant, sign_message
from sealing.keys import SigningKey

VIEW_MOST = MAX_DOCUMENT - 1024  # beside a signature and numbers
# Beside a page of the revoked set, all changes of operators, a beacon, and an admission.
HOLDINGS_MOST = MAX_BODY - REVOKED_PAGE - CHAIN_BYTES - 16 * 1024
GRANT_ROOM = 5  # a byte string's head
LISTED_SIZE, PACKAGE_SIZE = 128, 288  # of an epoch in a view, and of its package, with the longest name


@dataclass(frozen=True, slots=True)
class Rights:
    """What a policy implies for one role."""

    permits: tuple[tuple[Decision, Permitted], ...]  # that name it as subject or audience
    kinds: tuple[RoleKind, ...]  # of every role that they name, and of itself
    classes: tuple[ClassInfo, ...]
    tools: tuple[tuple[str, str], ...]
    opens: frozenset[str]  # groups that it is a member of, mesh apart
    seals: frozenset[str]  # groups of others that it submits to
    reaches: frozenset[str]  # roles with whose instances it may open a session


_OPERATORS = Rights((), (RoleKind(OPERATOR, OPERATOR),), (), (), frozenset(), frozenset(), frozenset())


def every_right(policy: Policy | None) -> dict[str, Rights]:
    """Return what `policy` implies for every role; before the first policy there are only operators."""
    if policy is None:
        return {OPERATOR: _OPERATORS}
    kinds = policy.role_kinds()
    # Once through the rules, not once for every role: a policy may have thousands of both.
    permits: dict[str, dict[Decision, Permitted]] = {role: {} for role in kinds}
    for decision, permit in permitted(policy).items():
        permits[decision.role][decision] = permit
        permits[permit.audience][decision] = permit
    return {OPERATOR: _OPERATORS} | {
        role: _rights(policy, role, kinds, permits[role]) for role in sorted(kinds)
    }


def _rights(
    policy: Policy, role: str, kinds: Mapping[str, str], permits: Mapping[Decision, Permitted]
) -> Rights:
    named = {role} | {each.role for each in permits} | {each.audience for each in permits.values()}
    classes = {each.what: policy.classes[each.what] for each in permits if each.action == SUBMIT}
    own = {decision: permit for decision, permit in permits.items() if decision.role == role}
    opens = frozenset({role} if kinds[role] == ENCLAVE else ())
    seals = frozenset(permit.audience for each, permit in own.items() if each.action == SUBMIT)
    return Rights(
        tuple(permits.items()),
        tuple(RoleKind(name, kinds[name]) for name in sorted(named)),
        tuple(
            ClassInfo(name, each.role, each.lifetime_seconds * SECOND)
            for name, each in sorted(classes.items())
        ),
        tuple(
            sorted({(each.what, permit.audience) for each, permit in permits.items() if each.action == CALL})
        ),
        opens,
        seals - opens,
        frozenset(permit.audience for each, permit in own.items() if each.action in (CALL, SEND)),
    )


def grant(mesh: Mesh, standing: Standing, decision: Decision, permit: Permitted) -> Grant:
    """Return the grant of a decision that the policy in force answers with yes."""
    return Grant(
        subject=decision.role,
        audience=permit.audience,
        expires=permit.expires,
        action=decision.action,
        what=decision.what,
        rule=permit.rule,
        mesh=mesh.id,
        term=standing.term,
        policy_version=standing.policy_version,
        issued=standing.adopted // SECOND,
        constraints=permit.constraints,
    )


def check_sizes(mesh: Mesh, standing: Standing, key: SigningKey) -> None:
    """Refuse what would be in force if a view, or all that one party holds, did not fit its message."""
    policy = standing.effective
    if policy is None:
        return
    grants = {
        decision: len(sign_grant(key, mesh, grant(mesh, standing, decision, permit)))
        for decision, permit in permitted(policy).items()
    }
    # Those whose tail is still open, the present one, and the next, which is sent ahead.
    open_at_once = {
        group: (span.overlap + span.tail) // span.turn + 3 for group, span in spans(policy).items()
    }
    held: dict[str, int] = {}
    for role, rights in every_right(policy).items():
        epochs = sum(open_at_once[group] for group in {MESH_GROUP} | rights.opens | rights.seals)
        size = len(codec.encode((rights.kinds, rights.classes, rights.tools))) + epochs * LISTED_SIZE
        size += sum(grants[decision] + GRANT_ROOM for decision, _ in rights.permits)
        if size > VIEW_MOST:
            detail = f"the view of {role}: give some of its rules to another role, or its epochs longer turns"
            raise RefusedError(Reason.TOO_LARGE, detail)
        held[role] = size + epochs * PACKAGE_SIZE
    holders = [workload.roles for workload in policy.workloads.values()]
    holders += [client.roles for client in policy.clients.values()]
    for roles in holders:
        if sum(held[role] for role in roles) > HOLDINGS_MOST:
            raise RefusedError(Reason.TOO_LARGE, f"what one holder of {len(roles)} roles gets: divide them")


class Views:
    """The current view of every role, signed by the term's key."""

    def __init__(self, mesh: Mesh, key: SigningKey) -> None:
        self._mesh = mesh
        self._key = key
        self._standing: Standing | None = None
        self._grants: dict[Decision, bytes] = {}
        self._rights: dict[str, Rights] = {}
        self._views: dict[str, View] = {}
        self._signed: dict[str, bytes] = {}
        # Of every role that ever was: a version never comes back, even if its role does.
        self._versions: dict[str, int] = {}

    def of(self, role: str) -> bytes:
        """Return a role's signed view."""
        return self._signed[role]

    def granted(self) -> tuple[int, bytes]:
        """Return how many grants the policy in force makes, and the hash over the hashes of all, sorted."""
        digests = sorted(sha256(signed) for signed in self._grants.values())
        return len(digests), sha256(*digests)

    def rights(self, role: str) -> Rights:
        """Return what the policy in force implies for a role."""
        return self._rights[role]

    def may_look_up(self, roles: Iterable[str], wanted: str) -> bool:
        """Tell whether one of `roles` may call or send to the role `wanted`: then it may know its holders."""
        return any(wanted in self._rights[role].reaches for role in roles if role in self._rights)

    def versions(self) -> tuple[tuple[bytes, int], ...]:
        """Return role id and view version of every role, as beacons carry them."""
        return tuple(sorted((self._mesh.role_id(role), view.version) for role, view in self._views.items()))

    def update(self, standing: Standing, epochs: Epochs) -> frozenset[str]:
        """Bring every view to what is in force; return the roles whose view has changed."""
        if standing is not self._standing:
            self._adopt(standing)
        changed = {role: view for role in self._rights if (view := self._changed(role, standing, epochs))}
        for role, view in changed.items():
            self._versions[role] = view.version
            self._views[role] = view
            self._signed[role] = sign_message(self._key, self._mesh, "view", view)
        return frozenset(changed)

    def _adopt(self, standing: Standing) -> None:
        self._standing = standing
        self._rights = every_right(standing.effective)
        self._views = {role: view for role, view in self._views.items() if role in self._rights}
        self._signed = {role: signed for role, signed in self._signed.items() if role in self._rights}
        everything = {
            decision: permit for rights in self._rights.values() for decision, permit in rights.permits
        }
        self._grants = {
            decision: sign_grant(self._key, self._mesh, grant(self._mesh, standing, decision, permit))
            for decision, permit in everything.items()
        }

    def _changed(self, role: str, standing: Standing, epochs: Epochs) -> View | None:
        rights = self._rights[role]
        version = self._versions.get(role, 0)
        view = View(
            term=standing.term,
            role=role,
            version=version,
            policy_version=standing.policy_version,
            grants=tuple(self._grants[decision] for decision, _ in rights.permits),
            role_kinds=rights.kinds,
            classes=rights.classes,
            epochs=tuple(
                epoch.listed
                for group in (MESH_GROUP, *sorted(rights.opens | rights.seals))
                for epoch in epochs.of(group)
            ),
            tools=rights.tools,
            grace=standing.limits.grace_seconds * SECOND,
        )
        if view == self._views.get(role):
            return None
        return msgspec.structs.replace(view, version=version + 1)
