"""Real members of a mesh without processes: one coordinator's core, and parties that hold what it gave them.

The time is the world's. What a member knows it took from the core itself, by the code that is under test.
"""

from dataclasses import replace
from typing import Any

from agent_runtime.clock import MeshClock
from agent_runtime.gate import Gate
from agent_runtime.membership import Membership
from agent_runtime.peering import Peering
from agent_runtime.seen import SeenTasks
from agent_runtime.submitting import Submissions
from agent_runtime.witness import Witness
from schemas import codec
from schemas.documents import Beacon, Constraints
from schemas.granted import Granted
from schemas.limits import GRACE, MINUTE
from schemas.messages import Millis, TaskBody
from schemas.policy import Policy
from schemas.subjects import Kind, subject
from sealing.documents import open_message, sign_message
from tests.coordinator.world import START, Party, World, seeded

TASK = b"t" * 16
REPLY_TO = b"r" * 16
STORED = b"s" * 32
BOOTED = START - 1_000_000  # when this machine started: local time and mesh time are not the same numbers


class Member:
    """An admitted party with everything pure that an agent's process has."""

    def __init__(self, world: World, party: Party, *, seed: int = 7) -> None:
        self.world, self.party = world, party
        random = seeded(seed)
        self.membership = Membership(
            world.mesh,
            party.keys,
            MeshClock(self.local),
            Witness(world.council),
            kind=party.kind,
            roles=party.roles,
            random=random,
        )
        self.seen = SeenTasks()
        self.gate = Gate(self.membership, self.seen)
        self.peering = Peering(self.membership, random)
        self.submissions = Submissions(
            self.membership, self.gate, reply_to=REPLY_TO, stored_secret=STORED, random=random
        )
        self.enter()

    @property
    def instance(self) -> bytes:
        return self.membership.keys.instance

    def local(self) -> Millis:
        """Return this machine's own time."""
        return self.world.now - BOOTED

    def enter(self) -> None:
        """Believe the coordinator that this party has a session with."""
        member, state = self.membership, self.party.state
        member.clock.set(state.time, sent=self.local(), grace=GRACE)
        member.witness.enter_term(state.term, self.world.keys.signing.public)
        member.witness.enter_state(state)
        member.enter(state.term, GRACE)
        member.admitted(self.party.admitted)

    def refresh(self) -> None:
        """Get everything that the coordinator has for this party."""
        self.membership.hold(self.party.holdings())

    def beacons(self) -> list[bool]:
        """Take the beacons that were sent since somebody last asked; tell of each whether it counted."""
        to = subject(self.world.mesh.id, Kind.BEACON)
        return [self.membership.beacon(frame, to) for frame in self.world.take(to)]

    def believe(self, action: str, what: str, role: str, **constraints: Any) -> None:
        """Hold a grant that the coordinator never gave."""
        trust = self.membership.held()
        granted = {(own, action, what): Granted(role, Constraints(**constraints)) for own in self.party.roles}
        self.membership.trust = replace(trust, grants={**trust.grants, **granted})

    def revoke(self, instance: bytes) -> None:
        """Hold an instance for revoked."""
        trust = self.membership.held()
        self.membership.trust = replace(trust, revoked=trust.revoked | {instance})

    def body(self, **changes: Any) -> TaskBody:
        """Return the body of a task for a planner, or with something else in it."""
        fields = {
            "task_class": "plan",
            "task_id": TASK,
            "issued": self.world.now,
            "expires": self.world.now + MINUTE,
            "reply_key": b"k" * 32,
            "reply_epoch": 0,
            "reply_to": REPLY_TO,
            "payload": b"payload",
        }
        return TaskBody(**{**fields, **changes})

    def task(self, group: str = "planner", *, header: bytes | None = None, **changes: Any) -> bytes:
        """Seal a task as this member may, whether or not it is granted."""
        body = self.body(**changes)
        sealer = self.membership.keyring.sealer(group, self.world.now)
        return sealer.seal_task(codec.encode(body), header or body.task_id)


def mesh_up(policy: Policy | None = None) -> tuple[World, Party]:
    """Return a world whose mesh is up, and its operator."""
    world = World()
    return world, world.up(policy)


def enclave(world: World, role: str, **changes: Any) -> Member:
    """Return a live enclave of a role."""
    return Member(world, Party.enclave(world, role, **changes).join(), seed=hash_of(role))


def client(world: World) -> Member:
    """Return the live client, which may submit plans."""
    return Member(world, Party.client(world).join(), seed=1)


def hash_of(text: str) -> int:
    """Return a seed that is the same in every run."""
    return int.from_bytes(text.encode(), "big")


def beat(world: World, *members: Member, after: Millis = 1_000) -> None:
    """Let time pass; the members hear of it by a beacon, and get what it names."""
    world.tick(after)
    to = subject(world.mesh.id, Kind.BEACON)
    for frame in world.take(to):
        for member in members:
            if not member.membership.beacon(frame, to):
                member.refresh()


def signed_beacon(world: World, like: bytes, **changes: Any) -> bytes:
    """Return a beacon of the coordinator's key that differs from another in some fields."""
    key = world.keys.signing
    beacon = open_message(like, key.public, world.mesh, "beacon", Beacon)
    fields = {name: getattr(beacon, name) for name in Beacon.__struct_fields__}
    return sign_message(key, world.mesh, "beacon", Beacon(**{**fields, **changes}))
