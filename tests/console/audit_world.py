"""A coordinator's log as an operator's console meets it: over `get`, from the real core, with no network."""

from dataclasses import dataclass
from pathlib import Path

import anyio

from console.audit_fetch import Fetched, following
from schemas import codec
from schemas.audit import TermProof
from schemas.messages import Get, LogPage
from tests.coordinator.world import Party, World


def up() -> tuple[World, Party]:
    """Return a mesh with one admission and one refusal, and its operator."""
    world = World()
    operator = world.up()
    Party.enclave(world, "redactor").join()
    return world, operator


@dataclass
class Line:
    """An operator's line whose coordinator is the world's."""

    world: World
    operator: Party
    term_proof: TermProof

    async def log(self, first: int) -> LogPage:
        return codec.convert(self.operator.request("get", Get("log", str(first)), "got"), LogPage)


def line(world: World, operator: Party) -> Line:
    """Return the line of an operator that was admitted in the term."""
    order = world.core.authority.standing.term_record
    assert order is not None
    return Line(world, operator, TermProof(order, world.keys.signing.public, world.keys.kem.public))


def fetch(folder: Path, source: Line) -> Fetched:
    """Store what is new, as `sealbus audit fetch` does."""

    async def run() -> Fetched:
        with following(folder, source.world.council, source.world.mesh, source.term_proof) as follower:
            return await follower.catch_up(source)

    return anyio.run(run)
