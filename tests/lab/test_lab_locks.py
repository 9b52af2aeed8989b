"""What runs in a lab's directory is told by locks: they cannot outlive who holds them."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import msgspec
import pytest

from lab import state, status
from lab.attached import UP
from lab.facts import LAB_FILE, LabFacts
from lab.operators import TERM, Operators
from lab.state import RUN, State, held_parts, hold_part, holder
from lab.status import stop
from schemas.errors import UsageError
from tests.mesh.fixtures import lab_template
from tests.mesh.world import copy_lab

__all__ = ["lab_template"]

HOLD = """
import signal, sys, time
from pathlib import Path
from lab.state import State, hold_part
if sys.argv[3] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with hold_part(State(Path(sys.argv[1])), sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(root: Path, name: str, manner: str = "") -> "subprocess.Popen[bytes]":
    """Hold a part's lock in a process of its own."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root), name, manner], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    process.stdout.close()
    return process


def test_a_part_that_runs_is_known_by_its_lock(tmp_path: Path) -> None:
    with hold(tmp_path, "tap") as process:
        assert held_parts(tmp_path) == {"tap": process.pid}
        taken = f"tap of the lab .* runs already .process {process.pid}."
        with pytest.raises(UsageError, match=taken), hold_part(State(tmp_path), "tap"):
            pytest.fail("two of one part")
        with hold_part(State(tmp_path), "scheduler"):
            assert set(held_parts(tmp_path)) == {"tap", "scheduler"}
        process.kill()
    assert held_parts(tmp_path) == {}


def test_what_is_written_in_a_lock_that_nobody_holds_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / RUN).mkdir()
    (tmp_path / RUN / "tap.lock").write_text("1")
    assert holder(tmp_path / RUN / "tap.lock") is None
    assert held_parts(tmp_path) == {}


@pytest.mark.anyio
async def test_stop_ends_every_part_also_one_that_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "STOP_PATIENCE", 0.2)
    (tmp_path / LAB_FILE).write_bytes(b"{}")
    with hold(tmp_path, "tap") as polite, hold(tmp_path, "vault", "stubborn") as stubborn:
        # Reaped while it is waited for: the kernel lets a lock go with the process, not with the zombie.
        assert await stop(tmp_path) == {"tap": polite.pid, "vault": stubborn.pid}
        assert (polite.wait(), stubborn.wait()) == (-15, -9)
    assert not (tmp_path / LAB_FILE).exists()
    assert await stop(tmp_path) == {}


@pytest.mark.anyio
async def test_stop_cleans_up_after_one_that_was_killed_and_where_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / LAB_FILE).write_bytes(b"{}")
    with anyio.fail_after(90):
        assert await stop(tmp_path) == {}
        assert await stop(tmp_path / "nowhere") == {}
    assert not (tmp_path / LAB_FILE).exists()


def test_a_process_that_died_is_not_believed_to_run_and_neither_is_another_of_its_number(
    tmp_path: Path,
) -> None:
    parts = {UP: os.getpid()}
    with subprocess.Popen(["sleep", "600"]) as ours:
        pids = {"coordinator": ours.pid, "scheduler": ours.pid, "vault": ours.pid, "linker": os.getppid()}
        facts = LabFacts("nats://127.0.0.1:1", pids, {}, [])
        (tmp_path / LAB_FILE).write_bytes(msgspec.json.encode(facts))
        # The planner was not even started again.
        assert status._dead(State(tmp_path), parts, {"vault", "linker", "planner"}) == {"linker", "planner"}
        ours.kill()
        ours.wait()
        assert "vault" in status._dead(State(tmp_path), parts, {"vault"})


def test_a_part_of_many_that_died_is_told_and_nothing_is_where_all_run_elsewhere(tmp_path: Path) -> None:
    assert status._dead(State(tmp_path), {"tap": 1, "vault": 2}, {"vault", "planner"}) == {"planner"}
    assert status._dead(State(tmp_path), {"tap": 1}, {"vault", "planner"}) == set()


def test_a_disk_that_is_as_good_as_full_is_told_before_anything_fails_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    State(tmp_path).require_room()
    monkeypatch.setattr(state, "ROOM", 1 << 62)
    with pytest.raises(UsageError, match="make room"):
        State(tmp_path).require_room()


def test_a_term_that_is_damaged_is_not_taken_for_none(lab_template: Path, tmp_path: Path) -> None:
    lab = State(copy_lab(lab_template, tmp_path))
    lab.save(TERM, b"")
    with pytest.raises(UsageError, match="number of the last term"):
        Operators(lab, "nats://127.0.0.1:1")._next_term()
    lab.save(TERM, b"7")
    assert Operators(lab, "nats://127.0.0.1:1")._next_term() == 8
    assert lab.load(TERM) == b"8"
