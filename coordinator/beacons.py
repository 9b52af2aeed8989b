"""Beacons: the coordinator's signed heartbeat, one (term, sequence) for each text.

Pure. Two signed beacons of one sequence that differ would prove equivocation, so a sequence number is
spent by every signature, whether or not its beacon is sent.
"""

from collections.abc import Callable

from coordinator.epochs import MESH_GROUP, Epochs
from schemas import codec
from schemas.documents import Beacon
from schemas.errors import UsageError
from schemas.messages import Body, Millis, Revocation
from schemas.policy import COORDINATOR
from schemas.subjects import Kind, subject
from sealing.context import Mesh, sha256
from sealing.documents import sign_message
from sealing.groups import Opener, Sealer, Sender, seals_at
from sealing.keys import PartyKeys

BEACON = "beacon"
NO_REQUEST = bytes(16)


def revoked_hash(revoked: tuple[Revocation, ...]) -> bytes:
    """Return the hash of a revoked set, sorted by kind and value, as beacons carry it."""
    return sha256(codec.encode(revoked))


class Beacons:
    """The sequence, the last beacon as signed, and the handles under which beacons are sealed."""

    def __init__(self, mesh: Mesh, keys: PartyKeys, random: Callable[[int], bytes]) -> None:
        self._mesh = mesh
        self._keys = keys
        self._random = random
        self._sender = Sender(keys.instance, mesh.role_id(COORDINATOR))
        self._sealers: dict[int, Sealer] = {}
        self._subject = subject(mesh.id, Kind.BEACON)
        self.sequence = 0
        self.last = b""

    def sign(self, make: Callable[[int], Beacon]) -> None:
        """Sign the beacon that `make` returns for the next sequence number."""
        self.sequence += 1
        self.last = sign_message(self._keys.signing, self._mesh, BEACON, make(self.sequence))

    def frame(self, epochs: Epochs, now: Millis) -> tuple[str, bytes]:
        """Return the last beacon as a frame of the mesh group, with its subject."""
        sealer = self._sealer(epochs, now)
        body = codec.encode(Body(BEACON, NO_REQUEST, self.last))
        return self._subject, sealer.seal_group(body, self._subject)

    def _sealer(self, epochs: Epochs, now: Millis) -> Sealer:
        packages = [epoch.package for epoch in epochs.of(MESH_GROUP)]
        for number in self._sealers.keys() - {package.epoch for package in packages}:
            self._sealers.pop(number).erase()
        for package in packages:
            if package.epoch not in self._sealers:
                opener = Opener(self._mesh, package)
                self._sealers[package.epoch] = opener.sealer(self._sender, self._random(12))
        for number in sorted(self._sealers, reverse=True):
            if seals_at(self._sealers[number], now):
                return self._sealers[number]
        raise UsageError("no mesh epoch is open: turn the epochs before sending a beacon")
