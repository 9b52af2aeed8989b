"""What a lab that is up says of itself in `lab.json`."""

from pathlib import Path

import msgspec

from lab.logs import Admitted
from lab.mesh import LAB_FILE, RunningMesh
from schemas.errors import UsageError

__all__ = ["LAB_FILE", "LabFacts", "facts_of", "read_facts"]


class LabFacts(msgspec.Struct, frozen=True):
    """Where the broker is, what runs, and who was admitted when the lab came up."""

    nats_url: str
    pids: dict[str, int]
    agents: dict[str, str]  # machine: the agent's file
    admitted: list[Admitted]


def facts_of(mesh: RunningMesh) -> LabFacts:
    """Return what a running mesh writes down."""
    files = {name: str(machine.spec.agent) for name, machine in mesh.machines.items() if machine.spec.agent}
    return LabFacts(mesh.url, mesh.pids(), files, mesh.admitted())


def read_facts(root: Path) -> LabFacts:
    """Return what a lab that is up wrote about itself, or raise `UsageError`."""
    try:
        return msgspec.json.decode((root / LAB_FILE).read_bytes(), type=LabFacts)
    except FileNotFoundError as error:
        raise UsageError(f"no lab is up in {root}: run: sealbus lab up --dir {root}") from error
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{root / LAB_FILE} cannot be read: stop the lab and start it again") from error
