"""What the parts of a lab say of themselves, read from the files into which they print."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent_runtime.node import FORK
from lab.plan import COORDINATOR
from schemas.audit import BY_POLICY, BY_REVOCATION, UNPROVEN
from sealing.own_keys import OwnKeys

ID_SHOWN = 16  # an instance id's first characters, as agents print them
_OWN_KEYS = re.compile(r"own keys: (\d+) searched for, found (\d+) times, control (found|missed)\n")
_ADMITTED = " admitted as "
_ADMISSION = frozenset({"admitted", "must-prove", "evicted", "expired"})
_CAUSES = {
    BY_POLICY: "by a policy that the operators signed since",
    UNPROVEN: "it did not prove again in time",
}


@dataclass(frozen=True, slots=True)
class Admitted:
    """An agent as the coordinator's log shows it."""

    name: str
    platform: str
    workload: str
    instance: str


def admitted(logs: Path, names: Iterable[str]) -> list[Admitted]:
    """Return each machine's agent as it was admitted last."""
    decided = {
        str(entry["instance"])[:ID_SHOWN]: entry
        for entry in read_audit(logs / f"{COORDINATOR}.log")
        if entry.get("decision") == "admitted"
    }
    found = []
    for name in sorted(names):
        entry = decided.get(_last_admission(logs / f"{name}.log"))
        if entry is not None:
            found.append(
                Admitted(name, str(entry["platform"]), str(entry["workload"]), str(entry["instance"]))
            )
    return found


def read_audit(path: Path) -> list[dict[str, object]]:
    """Read the decisions in a coordinator's output; other lines and a torn last one are passed over."""
    entries = []
    for line in _lines(path):
        start = line.find("{")
        if start < 0 or '"decision"' not in line:
            continue
        try:
            entries.append(json.loads(line[start:]))
        except json.JSONDecodeError:
            continue
    return entries


def tells_admission(line: str) -> bool:
    """Tell whether an agent says in this line that it was admitted."""
    return _ADMITTED in line


def admissions(path: Path) -> int:
    """Return how often an agent was admitted."""
    return sum(_ADMITTED in line for line in _lines(path))


def last_refusal(path: Path) -> str:
    """Return why an agent that ended was refused: its last line, "<time> <logger> <reason>[: detail]"."""
    lines = _lines(path)
    return lines[-1].split(" sealbus.agent ", 1)[-1] if lines else "unknown"


def note_refused(logs: Path, name: str, reason: str) -> None:
    """Write down that a machine's agent was refused for good."""
    _refused(logs, name).write_text(reason, "utf-8")


def forget_refused(logs: Path, name: str) -> None:
    """Forget that a machine's agent was refused: it is about to try again."""
    _refused(logs, name).unlink(missing_ok=True)


def refused(logs: Path, names: Iterable[str]) -> dict[str, str]:
    """Return which machines' agents were refused for good, and why."""
    return {name: "\n".join(lines) for name in sorted(names) if (lines := _lines(_refused(logs, name)))}


def standing(logs: Path, names: Iterable[str]) -> list[Admitted]:
    """Return the admitted whose admission the coordinator has not ended since."""
    last: dict[str, str] = {}
    for entry in read_audit(logs / f"{COORDINATOR}.log"):
        if entry.get("decision") in _ADMISSION:
            last[str(entry["instance"])] = str(entry["decision"])
    return [agent for agent in admitted(logs, names) if last[agent.instance] == "admitted"]


def evicted(logs: Path, names: Iterable[str]) -> dict[str, str]:
    """Return which machines' agents the coordinator evicted and has not admitted since, and by what."""
    last: dict[str, str] = {}
    revoked = ""
    for entry in read_audit(logs / f"{COORDINATOR}.log"):
        decision = entry.get("decision")
        if decision == "evicted":
            cause = str(entry.get("cause"))
            # Those whom a revocation names follow it, before any other revocation.
            last[str(entry["instance"])] = revoked if cause == BY_REVOCATION else _CAUSES.get(cause, "")
        elif decision == "revoked":
            revoked = f"{entry['kind']} revoked by the operators: {entry['reason']}"
        elif decision in _ADMISSION:
            last.pop(str(entry["instance"]), None)
    return {agent.name: last[agent.instance] for agent in admitted(logs, names) if agent.instance in last}


def forked(logs: Path, names: Iterable[str]) -> list[str]:
    """Return which machines' agents hold proof that their coordinator said two things, and have stopped."""
    found = []
    for name in sorted(names):
        told = [line for line in _lines(logs / f"{name}.log") if _ADMITTED in line or FORK in line]
        # A process that was started since knows nothing of it.
        if told and FORK in told[-1]:
            found.append(name)
    return found


def admission_times(logs: Path) -> dict[str, int]:
    """Return when the coordinator admitted each instance last, in its own milliseconds since 1970."""
    return {
        str(entry["instance"]): int(str(entry["time"]))
        for entry in read_audit(logs / f"{COORDINATOR}.log")
        if entry.get("decision") == "admitted"
    }


def own_key_reports(path: Path) -> list[OwnKeys]:
    """Return what an enclave reported of searching for its own keys, in order."""
    text = "".join(f"{line}\n" for line in _lines(path))
    return [OwnKeys(int(line[1]), int(line[2]), line[3] == "found") for line in _OWN_KEYS.finditer(text)]


def _refused(logs: Path, name: str) -> Path:
    return logs / f"{name}.refused"


def _last_admission(path: Path) -> str:
    found = [line.rpartition(_ADMITTED)[2] for line in _lines(path) if _ADMITTED in line]
    return found[-1][:ID_SHOWN] if found else ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
