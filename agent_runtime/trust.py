"""What a process believes, as one immutable value: swapped whole, read once per decision.

A `Trust` is only made by `adopt`, which verifies everything in it under the key of the term.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from schemas import codec
from schemas.documents import Admission, Beacon, ClassInfo, Grant, OpenEpoch, View
from schemas.errors import Reason
from schemas.granted import Granted, granted
from schemas.messages import BREAK_GLASS, QUARANTINE, Holdings, Millis, Revocation
from sealing.context import Mesh, sha256
from sealing.documents import open_grant, open_message
from sealing.errors import SealingError

MESH_GROUP = "mesh"
GrantKey = tuple[str, str, str]  # subject role, action, what


class Verified(NamedTuple):
    """A grant whose signature was checked, and the same as the gate looks it up."""

    grant: Grant
    granted: Granted


@dataclass(frozen=True, slots=True)
class Trust:
    """Admission, views, grants and revocations at one instant."""

    admission: Admission
    admission_bytes: bytes
    term_key: bytes
    views: Mapping[str, View] = field(default_factory=dict)
    grants: Mapping[GrantKey, Granted] = field(default_factory=dict)
    role_kinds: Mapping[str, str] = field(default_factory=dict)
    role_names: Mapping[bytes, str] = field(default_factory=dict)
    classes: Mapping[str, ClassInfo] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    epochs: Mapping[tuple[str, int], OpenEpoch] = field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()
    quarantined: frozenset[bytes] = frozenset()
    notices: tuple[str, ...] = ()  # what is given outside the policy, in words
    shunned: frozenset[bytes] = field(init=False)  # both: who gets nothing new
    revoked_hash: bytes = b""
    grace: Millis = 0  # the least that a view held names
    verified: Mapping[bytes, Verified] = field(default_factory=dict)  # by the hash of the signed bytes
    # What the gate found for own actions, by action and what; as much of it as there are grants.
    own: dict[tuple[str, str], Sequence[tuple[str, Granted]]] = field(
        init=False, compare=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        # Once for each trust: whoever compares by identity sees when it changed.
        object.__setattr__(self, "shunned", self.revoked | self.quarantined)

    def holds(self, mesh: Mesh, beacon: Beacon, views_version: int) -> bool:
        """Tell whether everything that a beacon names for the own roles is here.

        The views held are those of version `views_version` of all views.
        """
        if beacon.term != self.admission.term or beacon.revoked_hash != self.revoked_hash:
            return False
        # What changed before its list begins, and after what is held, it does not tell.
        if views_version < beacon.changed_since:
            return False
        changed = dict(beacon.changed)
        return all(
            role in self.views
            and changed.get(mesh.role_id(role), self.views[role].version) == self.views[role].version
            for role in self.admission.roles
        )

    def without(self, instances: Iterable[bytes]) -> "Trust":
        """Return the same with these instances revoked as well; `revoked_hash` stays that of the set held."""
        if self.revoked.issuperset(instances):
            return self
        return dataclasses.replace(self, revoked=self.revoked.union(instances))


def adopt(mesh: Mesh, previous: Trust, holdings: Holdings) -> Trust:
    """Return the trust that `holdings` gives, or raise and change nothing."""
    admission, key = previous.admission, previous.term_key
    views: dict[str, View] = {}
    verified: dict[bytes, Verified] = {}
    for signed in holdings.views:
        view = open_message(signed, key, mesh, "view", View)
        held = previous.views.get(view.role)
        if view.term != admission.term or view.role not in admission.roles:
            raise SealingError(Reason.TERM_NOT_ACCEPTED, "a view of another term or role")
        if held is not None and held.term == view.term:
            _check_successor(held, view)
        views[view.role] = view
        for document in view.grants:
            digest = sha256(document)
            known = previous.verified.get(digest) or verified.get(digest)
            if known is None:
                opened = open_grant(document, key, mesh)
                known = Verified(opened, granted(opened))
            verified[digest], grant = known, known.grant
            # A term has one key, so what is of this term was verified under it, now or earlier.
            if grant.term != view.term or grant.policy_version != view.policy_version:
                raise SealingError(Reason.TERM_NOT_ACCEPTED, "a grant of another term or policy")
    if set(views) != set(admission.roles):
        raise SealingError(Reason.TERM_NOT_ACCEPTED, "a role without its view")
    return Trust(
        admission=admission,
        admission_bytes=previous.admission_bytes,
        term_key=key,
        views=views,
        grants={(grant.subject, grant.action, grant.what): held for grant, held in verified.values()},
        role_kinds={kind.role: kind.kind for view in views.values() for kind in view.role_kinds},
        role_names={
            mesh.role_id(kind.role): kind.role for view in views.values() for kind in view.role_kinds
        },
        classes={info.name: info for view in views.values() for info in view.classes},
        tools={tool: role for view in views.values() for tool, role in view.tools},
        epochs={(epoch.group, epoch.epoch): epoch for view in views.values() for epoch in view.epochs},
        revoked=_instances(holdings.revoked, quarantined=False),
        quarantined=_instances(holdings.revoked, quarantined=True),
        notices=tuple(entry.value for entry in holdings.revoked if entry.kind == BREAK_GLASS),
        revoked_hash=revoked_hash(holdings.revoked),
        grace=min((view.grace for view in views.values()), default=0),
        verified=verified,
    )


def _instances(entries: tuple[Revocation, ...], *, quarantined: bool) -> frozenset[bytes]:
    return frozenset(
        instance
        for entry in entries
        if (entry.kind == QUARANTINE) is quarantined
        for instance in entry.instances
    )


def revoked_hash(revoked: tuple[Revocation, ...]) -> bytes:
    """Return the hash of a revoked set as beacons carry it."""
    return sha256(codec.encode(tuple(sorted(revoked, key=lambda entry: (entry.kind, entry.value)))))


def joined(pages: Sequence[tuple[Revocation, ...]]) -> tuple[Revocation, ...]:
    """Return the revoked set whose pages these are. Whether all are of one set, its hash has to tell."""
    entries: list[Revocation] = []
    for entry in (entry for page in pages for entry in page):
        last = entries[-1] if entries else None
        if last is not None and (last.kind, last.value, last.time) == (entry.kind, entry.value, entry.time):
            entries[-1] = replace(last, instances=last.instances + entry.instances)
        else:
            entries.append(entry)
    return tuple(entries)


def _check_successor(held: View, view: View) -> None:
    if view.version < held.version:
        raise SealingError(Reason.STATE_ROLLED_BACK, "view")
    if view.version == held.version and view != held:
        raise SealingError(Reason.EQUIVOCATION, "two views of one version")
