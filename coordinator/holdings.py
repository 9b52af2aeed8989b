"""What an admitted party holds: packages, views, the revoked set and the last beacon.

Pure. A sender package is made anew each time it is sent: a handle is never given twice, not even to a
client that restarts with the same instance id, so no key and counter ever meet again.
"""

from collections.abc import Callable

from msgspec.structs import replace

from coordinator.epochs import MESH_GROUP, Epochs
from coordinator.granting import Rights, Views
from coordinator.ledger import Party
from schemas.limits import REVOKED_PAGE
from schemas.messages import Chain, Holdings, MemberPackage, Millis, Revocation, SenderPackage
from sealing.context import Mesh
from sealing.groups import Sender, sender_package

NONCE = 12
ENTRY_SIZE = 300  # a revocation's kind, value and time, at their longest
INSTANCE_SIZE = 34


def holdings(
    mesh: Mesh,
    party: Party,
    *,
    epochs: Epochs,
    views: Views,
    revoked: tuple[tuple[Revocation, ...], ...],
    beacon: bytes,
    operators: Chain,
    random: Callable[[int], bytes],
) -> tuple[Holdings, Millis]:
    """Return everything that `party` holds, and when the last epoch closes that it gets keys of.

    `revoked` are the pages of the revoked set, of which it gets the first.
    """
    rights = {role: views.rights(role) for role in party.roles}
    member_of = frozenset({MESH_GROUP}).union(*(each.opens for each in rights.values()))
    members = _members(epochs, member_of)
    senders = []
    for group in sorted(frozenset().union(*(each.seals for each in rights.values())) - member_of):
        role = _submitter(rights, group)
        sender = Sender(party.instance, mesh.role_id(role))
        senders += [sender_package(mesh, epoch.package, sender, random(NONCE)) for epoch in epochs.of(group)]
    held: list[MemberPackage | SenderPackage] = [*members, *senders]
    signed = tuple(views.of(role) for role in party.roles)
    until = max((package.closes for package in held), default=0)
    return Holdings(members, tuple(senders), signed, revoked[0], beacon, len(revoked), operators), until


def pages(revoked: tuple[Revocation, ...]) -> tuple[tuple[Revocation, ...], ...]:
    """Cut a revoked set, in its order, into pages that fit a message: one at least."""
    made: list[tuple[Revocation, ...]] = []
    page: list[Revocation] = []
    room = REVOKED_PAGE
    for entry in revoked:
        rest = entry.instances
        while True:
            if room < ENTRY_SIZE + INSTANCE_SIZE:
                made.append(tuple(page))
                page, room = [], REVOKED_PAGE
            fit = (room - ENTRY_SIZE) // INSTANCE_SIZE
            page.append(replace(entry, instances=rest[:fit]))
            room -= ENTRY_SIZE + INSTANCE_SIZE * len(rest[:fit])
            rest = rest[fit:]
            if not rest:
                break
    return (*made, tuple(page))


def _members(epochs: Epochs, groups: frozenset[str]) -> tuple[MemberPackage, ...]:
    return tuple(epoch.package for group in sorted(groups) for epoch in epochs.of(group))


def _submitter(rights: dict[str, Rights], group: str) -> str:
    # A handle names one role: of several that may submit there, the first that the party asked for.
    return next(role for role, each in rights.items() if group in each.seals)
