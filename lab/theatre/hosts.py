"""Acts of whoever owns a machine: what runs on it, and what Evidence its enclave is handed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from lab.machine import Simulator
from lab.setup import simulator
from lab.simulate import nitro
from lab.theatre.act import Verdict, refused, succeeded
from lab.theatre.stage import Stage
from schemas.evidence import NITRO, Endorsements, Evidence


@dataclass
class Hands:
    """Hands Evidence of an earlier request to its enclave: as it was, or minted anew for the same keys."""

    chip: Simulator
    anew: bool
    kept: list[tuple[bytes, tuple[Evidence, Endorsements]]] = field(default_factory=list)

    def evidence(
        self,
        measurements: Mapping[str, bytes],
        key_binding: bytes,
        challenge: bytes,
        *,
        now: datetime,
        debug: bool = False,
    ) -> tuple[Evidence, Endorsements]:
        """Answer the first request honestly, and every later one with the keys of the first."""
        if not self.kept:
            honest = self.chip.evidence(dict(measurements), key_binding, challenge, now=now, debug=debug)
            self.kept.append((key_binding, honest))
        others, former = self.kept[0]
        if not self.anew:
            return former
        return self.chip.evidence(dict(measurements), others, challenge, now=now, debug=debug)


async def tampered_image(stage: Stage) -> Verdict:
    """Launch an agent whose file is one byte longer than what the operators signed."""
    honest = stage.mesh.machines[_on(stage, NITRO)].spec
    changed = stage.folder / "changed.py"
    changed.write_bytes((honest.agent or changed).read_bytes() + b"\n")
    async with stage.machine(_on(stage, NITRO), spec=replace(honest, agent=changed)) as name:
        return _verdict(await stage.judgement(name))


async def debug_enclave(stage: Stage) -> Verdict:
    """Launch the honest image on a machine that lets its host look inside."""
    async with stage.machine(_on(stage, NITRO), debug=True) as name:
        return _verdict(await stage.judgement(name))


async def replayed_evidence(stage: Stage) -> Verdict:
    """Hand an enclave the Evidence that admitted an earlier one."""
    return await _second_enclave(stage, anew=False)


async def relayed_evidence(stage: Stage) -> Verdict:
    """Hand an enclave fresh Evidence that was minted for another one's keys."""
    return await _second_enclave(stage, anew=True)


async def foreign_root(stage: Stage) -> Verdict:
    """Run the honest image on a machine whose maker no policy names."""
    chip = simulator(NITRO, nitro.make_root(datetime.now(UTC)), 1)
    async with stage.machine(_on(stage, NITRO), simulator=chip) as name:
        return _verdict(await stage.judgement(name))


async def _second_enclave(stage: Stage, *, anew: bool) -> Verdict:
    hands = Hands(stage.mesh.machines[_on(stage, NITRO)].simulator, anew)
    async with stage.machine(_on(stage, NITRO), simulator=hands) as name:
        if reason := await stage.judgement(name):
            return succeeded(f"the honest first enclave was refused ({reason}): nothing was shown")
    async with stage.machine(_on(stage, NITRO), simulator=hands) as name:
        return _verdict(await stage.judgement(name))


def _on(stage: Stage, platform: str) -> str:
    # One that is served by others as well: the mesh must not miss it.
    serving = list(stage.mesh.workloads.values())
    for name, machine in sorted(stage.mesh.machines.items()):
        if machine.platform == platform and serving.count(stage.mesh.workloads.get(name, "")) > 1:
            return name
    raise LookupError(f"the blueprint has no spare machine of {platform}")


def _verdict(reason: str) -> Verdict:
    if reason:
        return refused(reason, "the coordinator, to the enclave that asked to be admitted")
    return succeeded("it was admitted")
