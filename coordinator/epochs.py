"""Group secrets and their epochs: drawn, turned on time, turned hard, closed.

Pure: randomness and time are handed in. An epoch's number is never used again, by this coordinator or
the next: it is the second in which it was made, or the number after its predecessor's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.documents import OpenEpoch
from schemas.limits import DAY, HOUR, MINUTE, SECOND
from schemas.messages import MemberPackage, Millis
from schemas.policy import Policy
from sealing.context import Mesh
from sealing.erasure import erase_on_fork
from sealing.groups import epoch_token

MESH_GROUP = "mesh"
EPOCH_ZERO = 1_767_225_600  # 2026-01-01 in seconds since 1970: numbers stay below 2^32 until 2162
LEAD = MINUTE  # an epoch is sent this long before it opens, so that nobody waits for its keys
ROLE_OVERLAP = MINUTE
MESH_TURN = DAY
MESH_OVERLAP = HOUR
SHORTEST_TASK = MINUTE  # for a role that no class names: what its members say to each other still opens


@dataclass(frozen=True, slots=True)
class Span:
    """How long the epochs of one group live."""

    turn: Millis  # from the opening of one to that of the next
    overlap: Millis  # sealing under the old one goes on this much longer
    tail: Millis  # and opening this much longer still


MESH_SPAN = Span(MESH_TURN, MESH_OVERLAP, MESH_OVERLAP)


def spans(policy: Policy | None) -> dict[str, Span]:
    """Return every group of a policy: one for each enclave role, and the mesh."""
    groups = {MESH_GROUP: MESH_SPAN}
    if policy is None:
        return groups
    turn = policy.limits.role_epoch_seconds * SECOND
    for role in {role for workload in policy.workloads.values() for role in workload.roles}:
        lives = [each.lifetime_seconds * SECOND for each in policy.classes.values() if each.role == role]
        groups[role] = Span(turn, ROLE_OVERLAP, max(lives, default=SHORTEST_TASK))
    return groups


@dataclass(frozen=True, slots=True)
class Epoch:
    """An open epoch: what its members get, and what views say of it."""

    package: MemberPackage = field(repr=False)
    listed: OpenEpoch


class Epochs:
    """The open epochs of every group, oldest first. One that is not here is closed."""

    def __init__(self, mesh: Mesh, random: Callable[[int], bytes]) -> None:
        self._mesh = mesh
        self._random = random
        self._spans: dict[str, Span] = {}
        self._open: dict[str, tuple[Epoch, ...]] = {}
        self._last: dict[str, int] = {}
        erase_on_fork(self)

    def erase(self) -> None:
        """Drop every secret: a forked child serves nobody."""
        self._open = {}
        self._spans = {}

    def secrets(self) -> tuple[bytes, ...]:
        """Return the open epochs' secrets, for `sealing.erasure.held_secrets`."""
        return tuple(epoch.package.secret for epochs in self._open.values() for epoch in epochs)

    def of(self, group: str) -> tuple[Epoch, ...]:
        """Return the open epochs of a group, those that are sent ahead included."""
        return self._open.get(group, ())

    def newest(self) -> dict[str, int]:
        """Return the number of each group's newest epoch, open or sent ahead."""
        return {group: epochs[-1].package.epoch for group, epochs in self._open.items() if epochs}

    def follow(self, groups: dict[str, Span], now: Millis) -> None:
        """Have exactly these groups: close the others' epochs, and open what is due."""
        self._spans = groups
        self._open = {group: epochs for group, epochs in self._open.items() if group in groups}
        self.turn(now)

    def turn(self, now: Millis) -> bool:
        """Close what is past its time, make what opens soon; tell whether anything did."""
        before = self._open
        self._open = {group: self._turned(group, span, now) for group, span in self._spans.items()}
        return self._open != before

    def hard_turn(self, group: str, now: Millis) -> None:
        """Close every epoch of a group at once and open a new one."""
        if group in self._spans:
            self._open[group] = (self._make(group, self._spans[group], opens=now, now=now),)

    def _turned(self, group: str, span: Span, now: Millis) -> tuple[Epoch, ...]:
        epochs = tuple(epoch for epoch in self.of(group) if now < epoch.listed.closes)
        if not epochs or now > epochs[-1].listed.last_seal:
            return (*epochs, self._make(group, span, opens=now, now=now))
        opens = epochs[-1].listed.last_seal - span.overlap
        if now >= opens - LEAD:
            return (*epochs, self._make(group, span, opens=opens, now=now))
        return epochs

    def _make(self, group: str, span: Span, *, opens: Millis, now: Millis) -> Epoch:
        number = max(self._last.get(group, 0) + 1, now // SECOND - EPOCH_ZERO)
        self._last[group] = number
        last_seal = opens + span.turn + span.overlap
        closes = last_seal + span.tail
        package = MemberPackage(group, number, self._random(32), opens, last_seal, closes)
        token = epoch_token(self._mesh, package)
        return Epoch(package, OpenEpoch(group, number, token, last_seal, closes))
