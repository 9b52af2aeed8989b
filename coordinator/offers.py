"""Hellos of a tick -> one Merkle root as challenge -> one quote -> an offer for each hello.

Pure. Quotes are slow and serial, so one answers up to `HELLOS_PER_TICK` hellos; what comes on top is
dropped, and its sender asks again.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.errors import RefusedError
from coordinator.terms import Standing
from schemas import codec
from schemas.errors import Reason
from schemas.evidence import Endorsements, Evidence
from schemas.limits import BOOTSTRAP_MEMORY, MAX_OFFER
from schemas.messages import Hello, Millis, Offer
from schemas.subjects import Kind, subject
from sealing import binding, merkle
from sealing.context import Mesh, sha256
from sealing.keys import PartyKeys

HELLOS_PER_TICK = 1_024
MAX_HELLO = 128  # a hello is 71 bytes
OFFERS_REMEMBERED = 262_144  # 40 MiB: ten seconds of full ticks from a chip that quotes in 40 ms


@dataclass(frozen=True, slots=True)
class Batch:
    """The hellos that one quote will answer."""

    hellos: tuple[bytes, ...]
    root: bytes
    paths: tuple[tuple[bytes, ...], ...]


class Hellos:
    """The hellos of the present tick, each once."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._waiting: dict[bytes, None] = {}

    def add(self, wire: bytes) -> None:
        """Take a hello of this mesh, or raise."""
        if len(wire) > MAX_HELLO:
            raise RefusedError(Reason.TOO_LARGE, "hello")
        hello = codec.decode(wire, Hello)
        if hello.mesh != self._mesh.id:
            raise RefusedError(Reason.WRONG_MESH)
        if hello.suite != self._mesh.suite:
            raise RefusedError(Reason.UNSUPPORTED_SUITE)
        if len(self._waiting) >= HELLOS_PER_TICK:
            raise RefusedError(Reason.UNAVAILABLE, "too many hellos in one tick")
        self._waiting[wire] = None

    def take(self) -> Batch | None:
        """Return the tick's batch and begin another; None if nobody said hello."""
        if not self._waiting:
            return None
        hellos, self._waiting = tuple(self._waiting), {}
        root, paths = merkle.paths([merkle.leaf(self._mesh, hello) for hello in hellos])
        return Batch(hellos, root, tuple(paths))


def quote_binding(mesh: Mesh, keys: PartyKeys, batch: Batch) -> bytes:
    """Return what the coordinator's Evidence has to carry for a batch; its challenge is the batch's root."""
    return binding.key_binding(
        mesh,
        binding.COORDINATOR,
        batch.root,
        binding.NO_TRANSCRIPT,
        keys.signing.public,
        keys.kem.public,
    )


def offers(
    mesh: Mesh,
    keys: PartyKeys,
    batch: Batch,
    evidence: Evidence,
    endorsements: Endorsements,
    standing: Standing,
) -> list[tuple[str, bytes]]:
    """Return an offer for every hello of a batch, each with the subject that its sender listens on."""
    made = []
    for index, (hello, path) in enumerate(zip(batch.hellos, batch.paths, strict=True)):
        offer = Offer(
            sha256(hello),
            index,
            path,
            len(batch.hellos),
            evidence,
            endorsements,
            keys.signing.public,
            keys.kem.public,
            standing.profile,
            standing.term,
            standing.term_record,
            standing.council.chain,
        )
        made.append((subject(mesh.id, Kind.OFFER, offer.hello[:16]), codec.encode(offer)))
    # The host chooses the endorsements: that they are too many is its fault, and says so here, not there.
    if any(len(wire) > MAX_OFFER for _, wire in made):
        raise RefusedError(Reason.TOO_LARGE, "an offer with these endorsements")
    return made


class OfferMemory:
    """The hashes of our offers of the last minute: what the context of a first init must be."""

    def __init__(self) -> None:
        self._made: OrderedDict[bytes, Millis] = OrderedDict()

    def remember(self, made: Sequence[tuple[str, bytes]], now: Millis) -> None:
        """Remember offers; the oldest go first when there are too many."""
        for _, wire in made:
            self._made[sha256(wire)] = now
        while len(self._made) > OFFERS_REMEMBERED:
            self._made.popitem(last=False)

    def knows(self, context: bytes, now: Millis) -> bool:
        """Tell whether `context` is the hash of an offer of the last minute."""
        made = self._made.get(context)
        return made is not None and now - made < BOOTSTRAP_MEMORY

    def sweep(self, now: Millis) -> None:
        """Forget what is too old to answer to."""
        while self._made and now - next(iter(self._made.values())) >= BOOTSTRAP_MEMORY:
            self._made.popitem(last=False)
