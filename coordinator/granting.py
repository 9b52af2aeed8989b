"""Policy -> grants and views: what each role may do and hold, and nothing else of the policy.

Pure. A view is signed anew, under the next version, exactly when what it says has changed.
"""

from dataclasses import dataclass

import msgspec

from coordinator.epochs import MESH_GROUP, Epochs, spans
from coordinator.errors import RefusedError
from coordinator.terms import Standing
from schemas import codec
from schemas.documents import ClassInfo, Grant, RoleKind, View
from schemas.errors import Reason
from schemas.limits import MAX_BODY, MAX_DOCUMENT, REVOKED_PAGE, SECOND
from schemas.messages import ENCLAVE, OPERATOR
from schemas.policy import Policy, Rule
from sealing.context import Mesh, sha256
from sealing.documents import sign_grant, sign_message
from sealing.keys import SigningKey

VIEW_MOST = MAX_DOCUMENT - 1024  # beside a signature and numbers
# Beside a page of the revoked set, a beacon, and an admission.
HOLDINGS_MOST = MAX_BODY - REVOKED_PAGE - 16 * 1024
GRANT_ROOM = 5  # a byte string's head
LISTED_SIZE, PACKAGE_SIZE = 128, 288  # of an epoch in a view, and of its package, with the longest name

SUBMIT = "submit"
CALL = "call"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a policy implies for one role."""

    rules: tuple[Rule, ...]  # that name it as subject or audience
    kinds: tuple[RoleKind, ...]  # of every role that they name, and of itself
    classes: tuple[ClassInfo, ...]
    tools: tuple[tuple[str, str], ...]
    opens: frozenset[str]  # groups that it is a member of, mesh apart
    seals: frozenset[str]  # groups of others that it submits to


def every_right(policy: Policy | None) -> dict[str, Rights]:
    """Return what `policy` implies for every role; before the first policy there are only operators."""
    nothing = Rights((), (RoleKind(OPERATOR, OPERATOR),), (), (), frozenset(), frozenset())
    if policy is None:
        return {OPERATOR: nothing}
    return {OPERATOR: nothing} | {role: _rights(policy, role) for role in sorted(policy.role_kinds())}


def _rights(policy: Policy, role: str) -> Rights:
    kinds = policy.role_kinds()
    rules = tuple(rule for rule in policy.rules if role in (rule.role, policy.target(rule)))
    named = {role} | {rule.role for rule in rules} | {policy.target(rule) for rule in rules}
    classes = {rule.what: policy.classes[rule.what] for rule in rules if rule.may == SUBMIT}
    opens = frozenset({role} if kinds[role] == ENCLAVE else ())
    targets = {policy.target(rule) for rule in rules if rule.role == role and rule.may == SUBMIT}
    return Rights(
        rules,
        tuple(RoleKind(name, kinds[name]) for name in sorted(named)),
        tuple(
            ClassInfo(name, each.role, each.lifetime_seconds * SECOND)
            for name, each in sorted(classes.items())
        ),
        tuple(sorted({(rule.what, policy.target(rule)) for rule in rules if rule.may == CALL})),
        opens,
        frozenset(targets) - opens,
    )


def may_look_up(policy: Policy | None, roles: tuple[str, ...], wanted: str) -> bool:
    """Tell whether one of `roles` may call a tool of the role `wanted`: then it may know who holds it."""
    return policy is not None and any(
        rule.may == CALL and rule.role in roles and policy.target(rule) == wanted for rule in policy.rules
    )


def grant(policy: Policy, mesh: Mesh, standing: Standing, rule: Rule) -> Grant:
    """Return the grant that a rule implies."""
    return Grant(
        subject=rule.role,
        audience=policy.target(rule),
        action=rule.may,
        what=rule.what,
        mesh=mesh.id,
        term=standing.term,
        policy_version=policy.version,
        issued=standing.adopted // SECOND,
        constraints=policy.constraints(rule),
    )


def check_sizes(policy: Policy, mesh: Mesh, standing: Standing, key: SigningKey) -> None:
    """Refuse a policy by which a view, or all that one party holds, would not fit its message."""
    grants = {rule: len(sign_grant(key, mesh, grant(policy, mesh, standing, rule))) for rule in policy.rules}
    # Those whose tail is still open, the present one, and the next, which is sent ahead.
    open_at_once = {
        group: (span.overlap + span.tail) // span.turn + 3 for group, span in spans(policy).items()
    }
    held: dict[str, int] = {}
    for role, rights in every_right(policy).items():
        epochs = sum(open_at_once[group] for group in {MESH_GROUP} | rights.opens | rights.seals)
        size = len(codec.encode((rights.kinds, rights.classes, rights.tools))) + epochs * LISTED_SIZE
        size += sum(grants[rule] + GRANT_ROOM for rule in rights.rules)
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
        self._grants: dict[Rule, bytes] = {}
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
        policy = standing.policy
        self._standing = standing
        self._rights = every_right(policy)
        self._views = {role: view for role, view in self._views.items() if role in self._rights}
        self._signed = {role: signed for role, signed in self._signed.items() if role in self._rights}
        if policy is not None:
            self._grants = {
                rule: sign_grant(self._key, self._mesh, grant(policy, self._mesh, standing, rule))
                for rule in policy.rules
            }

    def _changed(self, role: str, standing: Standing, epochs: Epochs) -> View | None:
        rights = self._rights[role]
        version = self._versions.get(role, 0)
        view = View(
            term=standing.term,
            role=role,
            version=version,
            policy_version=standing.policy_version,
            grants=tuple(self._grants[rule] for rule in rights.rules),
            role_kinds=rights.kinds,
            classes=rights.classes,
            epochs=tuple(
                epoch.listed
                for group in (MESH_GROUP, *sorted(rights.opens | rights.seals))
                for epoch in epochs.of(group)
            ),
            tools=rights.tools,
        )
        if view == self._views.get(role):
            return None
        return msgspec.structs.replace(view, version=version + 1)
