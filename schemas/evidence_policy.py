"""The part of a policy that judges evidence, read from a whole policy or from a file of that part alone.

What only a mesh needs (its name, versions, clients, rules) is not looked at: it may be missing, or be of a
starter that nobody has filled in yet.
"""

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import field

from schemas.codec import Document
from schemas.evidence import PlatformValues, ReferenceValues
from schemas.messages import Name
from schemas.pinning import Pinned, check_platforms
from schemas.placeholders import placeholders
from schemas.policy import COORDINATOR, Policy, Workload, check_workloads
from schemas.toml_errors import ContradictionError, placed, read_toml
from schemas.toml_place import Path, dotted


class EvidencePolicy(Document, frozen=True, kw_only=True):
    """What evidence is judged by, and nothing else."""

    platforms: dict[str, PlatformValues]
    coordinators: dict[str, Pinned] = field(default_factory=dict)
    workloads: dict[Name, Workload] = field(default_factory=dict)

    def reference_values(self) -> ReferenceValues:
        """Return all that evidence is appraised against, the coordinator's among it."""
        named = [(COORDINATOR, self.coordinators), *((n, w.on) for n, w in self.workloads.items())]
        return ReferenceValues(
            platforms=self.platforms,
            workloads=tuple(
                pinned.values(name, platform) for name, on in named for platform, pinned in sorted(on.items())
            ),
        )


def _rest_of_a_policy(*judging: str) -> list[tuple[str, Any, Any]]:
    return [(name, Any, None) for name in Policy.__struct_fields__ if name not in judging]


# A policy's other keys may stand there, with whatever value; a key that no policy has is still a mistake.
_Text = msgspec.defstruct(
    "_Text",
    _rest_of_a_policy("platforms", "coordinators", "workloads"),
    bases=(EvidencePolicy,),
    frozen=True,
    kw_only=True,
)
_WithoutCoordinators = msgspec.defstruct(
    "_WithoutCoordinators", [("coordinators", Any, None)], bases=(_Text,), frozen=True, kw_only=True
)


def parse_for_evidence(text: str, name: str = "the policy") -> EvidencePolicy:
    """Read what a policy says of evidence, or raise `UsageError` that says what is wrong at which line.

    A coordinator whose Reference Values are still to be filled in is left out: nothing is accepted as it.
    """
    found = placeholders(read_toml(text, dict[str, Any], name))
    gaps = {path[1:2] for path, _ in found if path[:1] == ("coordinators",)}
    read: Any = read_toml(text, _WithoutCoordinators if gaps else _Text, name)
    pinned = _filled_in(text, name, read.coordinators, gaps) if gaps else read.coordinators
    evidence = EvidencePolicy(platforms=read.platforms, coordinators=pinned, workloads=read.workloads)
    on = {workload: each.on for workload, each in evidence.workloads.items()}
    try:
        check_platforms(evidence.platforms)
        check_workloads(evidence.platforms, evidence.coordinators, on)
    except ContradictionError as error:
        raise placed(text, name, error) from error
    return evidence


def _filled_in(text: str, name: str, pins: Any, gaps: Collection[Path]) -> dict[str, Pinned]:
    filled: dict[str, Pinned] = {}
    if not isinstance(pins, dict):
        return filled
    for platform, pinned in pins.items():
        if (platform,) not in gaps:
            try:
                filled[platform] = msgspec.convert(pinned, Pinned)
            except msgspec.ValidationError as error:
                path = ("coordinators", platform)
                raise placed(text, name, ContradictionError(path, f"{dotted(path)}: {error}")) from error
    return filled


def absent_for_a_mesh(data: dict[str, Any]) -> list[str]:
    """Name what a whole policy has to have and this one has not: without it, it judges evidence alone."""
    return [each.name for each in msgspec.structs.fields(Policy) if each.required and each.name not in data]
