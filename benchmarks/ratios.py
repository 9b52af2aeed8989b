"""Rounds of measurements as ratios: machines are noisy, so only figures of the same round compare."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any


@dataclass(frozen=True, slots=True)
class Aim:
    """What a ratio has to reach, and what would be better still."""

    must: float
    better: str  # "lower" or "higher"

    def __str__(self) -> str:
        return f"{'<=' if self.better == 'lower' else '>='}{self.must:.2f}"

    def missed_by_all(self, ratios: Sequence[float]) -> bool:
        """Say whether every round missed it: a must is missed only then."""
        return all(ratio > self.must if self.better == "lower" else ratio < self.must for ratio in ratios)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured against its peer, over the rounds."""

    id: str  # stable, for programs
    name: str
    peer: str  # what it is measured against
    unit: str
    ours: tuple[float, ...]
    peers: tuple[float, ...]
    aim: Aim | None = None

    @property
    def ratios(self) -> tuple[float, ...]:
        """Return ours by the peer's, round by round."""
        return tuple(own / peer for own, peer in zip(self.ours, self.peers, strict=True))

    @property
    def verdict(self) -> str:
        """Say whether the aim was met in the median, at times, or never."""
        if self.aim is None:
            return ""
        if self.aim.missed_by_all(self.ratios):
            return "missed"
        reached = not self.aim.missed_by_all([statistics.median(self.ratios)])
        return "met" if reached else "met at times"

    def as_json(self) -> dict[str, Any]:
        """Return the medians and the range of the ratio as JSON data."""
        ratios = self.ratios
        return {
            "id": self.id,
            "name": self.name,
            "value": statistics.median(self.ours),
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": statistics.median(self.peers),
            "ratio": statistics.median(ratios),
            "low": min(ratios),
            "high": max(ratios),
            "must": None if self.aim is None else str(self.aim),
            "aim": None if self.aim is None else str(self.aim),
            "verdict": self.verdict,
        }


def versions(names: Iterable[str]) -> dict[str, str | None]:
    """Return the versions of packages, None for one that is not installed."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
    }
