"""What status says of an agent that was admitted and is not any more."""

import json
import os
import shlex
from io import StringIO
from pathlib import Path
from typing import cast

import anyio
import pytest
from rich.console import Console

from agent_runtime import RefusedError
from lab import logs
from lab.attached import UP
from lab.commands import show_status
from lab.logs import Admitted
from lab.state import State, hold_part, make_state, open_state
from lab.status import NOT_UP, SOME_NOT, Status, status_of
from lab.view import MeshView, require_every_workload
from schemas.errors import Reason, UsageError

ONE, OTHER = "1" * 64, "2" * 64


def decided(decision: str, instance: str = "", **more: str) -> dict[str, str]:
    return {"decision": decision, **({"instance": instance} if instance else {}), **more}


def admit(instance: str) -> dict[str, str]:
    return decided("admitted", instance, platform="tdx", workload="greeter")


def put_out(instance: str, cause: str = "revoked") -> dict[str, str]:
    return decided("evicted", instance, cause=cause)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, instance in (("greeter-1", ONE), ("greeter-2", OTHER)):
        (tmp_path / f"{name}.log").write_text(f"agent admitted as {instance[: logs.ID_SHOWN]}\n")
    return tmp_path


def evicted(folder: Path, *entries: dict[str, str]) -> dict[str, str]:
    lines = [f"audit {json.dumps(entry, separators=(',', ':'))}\n" for entry in entries]
    (folder / "coordinator.log").write_text("".join(lines))
    return logs.evicted(folder, ["greeter-1", "greeter-2"])


REVOKED = decided("revoked", kind="instance", value=ONE, reason="it was stolen")


def test_who_was_revoked_is_named_with_the_operators_reason(folder: Path) -> None:
    found = evicted(folder, admit(ONE), admit(OTHER), REVOKED, put_out(ONE), decided("turned"))
    assert found == {"greeter-1": "instance revoked by the operators: it was stolen"}


def test_all_that_one_revocation_struck_have_its_reason(folder: Path) -> None:
    revoked = decided("revoked", kind="workload", value="greeter", reason="a bug")
    found = evicted(folder, admit(ONE), admit(OTHER), revoked, put_out(ONE), put_out(OTHER))
    assert set(found.values()) == {"workload revoked by the operators: a bug"}
    assert len(found) == 2


def test_a_policy_s_eviction_is_not_told_as_an_earlier_revocation(folder: Path) -> None:
    found = evicted(
        folder,
        admit(ONE),
        admit(OTHER),
        REVOKED,
        put_out(ONE),
        decided("policy"),
        put_out(OTHER, "policy"),
    )
    assert "policy" in found["greeter-2"]
    late = (REVOKED, put_out(ONE), put_out(OTHER, "unproven"))
    assert "prove again" in evicted(folder, admit(ONE), admit(OTHER), *late)["greeter-2"]


def test_who_was_admitted_again_is_not_evicted(folder: Path) -> None:
    assert evicted(folder, admit(ONE), REVOKED, put_out(ONE), admit(ONE)) == {}
    assert evicted(folder) == {}


def test_a_lab_that_is_being_brought_up_says_so_and_not_to_bring_it_up(tmp_path: Path) -> None:
    with (
        make_state(tmp_path / "lab"),
        pytest.raises(UsageError, match=f"is being made, by process {os.getpid()}: ask again"),
        open_state(tmp_path / "lab", exclusive=False),
    ):
        pass
    with open_state(tmp_path / "lab") as state, hold_part(state, UP):
        found = anyio.run(status_of, state)
    assert (found.starting, found.code) == (True, NOT_UP)
    output = StringIO()
    show_status(Console(file=output, width=80), Path("lab"), found)
    assert f"starting: `lab up` runs here as process {os.getpid()}" in output.getvalue()
    assert "run: sealbus lab up" not in output.getvalue()


def test_status_shows_it_as_revoked_whatever_the_reason_looks_like() -> None:
    output = StringIO()
    found = Status("nats://x", True, revoked={"greeter-1": "instance revoked by the operators: [/red]"})
    show_status(Console(file=output, width=140), Path("lab"), found)
    assert "revoked greeter-1: instance revoked by the operators: [/red]" in output.getvalue()
    assert "missing" not in output.getvalue()
    assert found.code == SOME_NOT


def test_who_stopped_with_proof_of_equivocation_is_named_until_it_is_started_anew(folder: Path) -> None:
    log = folder / "greeter-1.log"
    assert logs.forked(folder, ["greeter-1", "greeter-2"]) == []
    log.write_text(
        log.read_text() + "sealbus.agent equivocation proved: two beacons, as signed: AA AB\nmore\n"
    )
    assert logs.forked(folder, ["greeter-1", "greeter-2"]) == ["greeter-1"]
    output = StringIO()
    found = Status("nats://x", True, forked=["greeter-1"])
    show_status(Console(file=output, width=200), Path("lab"), found)
    assert "equivocation greeter-1 has stopped" in output.getvalue()
    assert str(Path("lab") / "logs" / "greeter-1.log") in output.getvalue()
    assert found.code == SOME_NOT
    log.write_text(log.read_text() + f"agent admitted as {OTHER[: logs.ID_SHOWN]}\n")
    assert logs.forked(folder, ["greeter-1", "greeter-2"]) == []


def test_the_command_that_signs_a_change_is_there_whole_to_be_pasted(tmp_path: Path) -> None:
    root = tmp_path / "it's [my] lab"
    reason = f"{Reason.MEASUREMENT_NOT_IN_POLICY.value}: its code"
    found = Status("nats://x", reachable=True, refused={"relay": reason})
    output = StringIO()
    show_status(Console(file=output, width=20), root, found)
    (line,) = (each for each in output.getvalue().splitlines() if "resign" in each)
    words = ["sealbus", "lab", "resign", "--dir", str(root)]
    assert shlex.split(line.partition("have it signed: ")[2]) == words

    class Mesh:
        state, refused, workloads = State(root), {"relay": reason}, {"relay": "relay"}

        def admitted(self) -> list[Admitted]:
            return []

    with pytest.raises(RefusedError) as refused:
        require_every_workload(cast("MeshView", Mesh()))
    assert shlex.split(str(refused.value).partition("run: ")[2]) == words
