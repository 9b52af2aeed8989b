"""Rounds of measurements as ratios: machines are noisy, so only figures of the same round compare."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Aim:
    """What a ratio has to reach, and what would be better still."""

    must: float
    better: str  # "lower" or "higher"

    def missed_by_all(self, ratios: Sequence[float]) -> bool:
        """Say whether every round missed it: a must is missed only then."""
        return all(ratio > self.must if self.better == "lower" else ratio < self.must for ratio in ratios)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured against its peer, over the rounds."""

    name: str
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
        """Return everything as JSON data."""
        ratios = self.ratios
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": statistics.median(self.ours),
            "peer": statistics.median(self.peers),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "rounds": len(ratios),
            "aim": None if self.aim is None else asdict(self.aim),
            "verdict": self.verdict,
        }


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
    }
