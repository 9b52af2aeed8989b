"""The lab's operators: what they signed outlives whatever happens to coordinator, broker and themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_runtime import RefusedError
from agent_runtime.coordination import UnreachableError
from agent_runtime.joining import AdmissionRefusedError
from lab import operators as module
from lab.operators import Operators
from lab.state import State
from schemas.errors import PeerError, Reason
from schemas.messages import Event
from tests.mesh.fixtures import lab_template
from tests.mesh.world import copy_lab
from transport import UnavailableError

__all__ = ["lab_template"]
pytestmark = pytest.mark.anyio
NOWHERE = "nats://127.0.0.1:1"


class Line:
    """A session with a coordinator that takes, loses or refuses events."""

    coordinator = bytes(32)

    def __init__(self) -> None:
        self.term = 0
        self.heard: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.kept: Event | None = None

    def keep(self, event: Event) -> None:
        self.kept = event

    def roll(self) -> Event | None:
        return self.kept

    async def send(self, event: Event) -> None:
        if error := self.fails.pop(event.kind, None):
            raise error
        self.heard.append(event.kind)
        if event.kind == "order":
            self.term = 1


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def operators(lab_template: Path, tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch) -> Operators:
    made = Operators(State(copy_lab(lab_template, tmp_path)), NOWHERE)

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Line]:
        yield line

    monkeypatch.setattr(made, "line", opened)
    monkeypatch.setattr(module, "RETRY", 0.0)
    return made


async def test_a_coordinator_hears_of_revocations_before_it_can_admit_anybody(
    operators: Operators, line: Line
) -> None:
    await operators.revoke("chip", "00ff", "test")
    line.heard.clear()
    await operators.open_term()
    assert line.heard == ["order", "roll", "revocation", "policy"]


@pytest.mark.parametrize("lost", ["order", "roll", "revocation", "policy"])
async def test_what_was_interrupted_goes_on_from_where_it_had_come_to(
    operators: Operators, line: Line, lost: str
) -> None:
    await operators.revoke("chip", "00ff", "test")
    line.heard.clear()
    line.fails[lost] = UnreachableError("no answer to event")
    await operators.open_term()
    assert line.heard[-3:] == ["roll", "revocation", "policy"]
    assert line.heard.count("order") == 1


async def test_who_was_not_heard_and_who_was_refused_for_good_are_told_apart(
    operators: Operators, line: Line
) -> None:
    line.fails["order"] = UnavailableError("no broker")
    with pytest.raises(UnavailableError):
        await operators.open_term(patience=0)
    line.fails["order"] = RefusedError(Reason.MEASUREMENT_NOT_IN_POLICY, "the coordinator's code")
    with pytest.raises(RefusedError, match="sealbus lab resign --dir ") as refused:
        await operators.open_term()
    assert operators._state.command("resign") in str(refused.value)
    line.fails["order"] = RefusedError(Reason.TERM_NOT_ACCEPTED, "no term")
    with pytest.raises(RefusedError, match="no term"):
        await operators.open_term()


async def test_a_policy_that_nobody_answered_for_is_not_taken_for_one_that_is_in_force(
    operators: Operators, line: Line
) -> None:
    line.term = 1
    line.fails["policy"] = UnreachableError("no answer to event")
    with pytest.raises(UnreachableError):
        await operators._settle(line)  # type: ignore[arg-type]
    line.fails["policy"] = AdmissionRefusedError(Reason.VERSION_NOT_NEWER)
    assert await operators._settle(line) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (UnreachableError("its receipt was lost"), 1),
        (UnavailableError("no broker"), 1),
        (AdmissionRefusedError(Reason.MALFORMED, "not an instance id"), 0),
    ],
)
async def test_a_revocation_is_written_before_it_is_sent_and_forgotten_only_if_it_is_refused(
    operators: Operators, line: Line, error: Exception, kept: int
) -> None:
    line.fails["revocation"] = error
    with pytest.raises((PeerError, UnavailableError)):
        await operators.revoke("chip", "00ff", "test")
    assert len(operators._revocations()) == kept
