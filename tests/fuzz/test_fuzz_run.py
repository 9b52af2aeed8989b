"""Fuzzing by coverage: a short run of every target, and that a run says what it found."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.run import CORPUS, HOME, Outcome, fuzz
from tests.fuzz.targets import NAMES

RUNS = 2000
HAS_ATHERIS = find_spec("atheris") is not None
needs_atheris = pytest.mark.skipif(not HAS_ATHERIS, reason="atheris has no wheel for this Python or system")

# A child whose target breaks on every input that is longer than three bytes.
BREAKS = """
import sys
from pathlib import Path
from tests.fuzz import child
from tests.fuzz.targets import Target

def read(data):
    if len(data) > 3:
        raise ZeroDivisionError

child.targets = lambda world: {"peer": Target("peer", read, 10, 0)}
sys.exit(child.main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
"""


@pytest.mark.slow
@needs_atheris
def test_a_short_run_of_every_target_finds_nothing(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, NAMES, "runs", RUNS)
    assert [outcome.row() for outcome in outcomes if outcome.finding] == []
    assert all(outcome.executions and outcome.covered for outcome in outcomes)
    slow = {name for name in NAMES if name == "assess" or name.startswith("signed-")}
    assert {outcome.name for outcome in outcomes if outcome.executions >= RUNS} == {*NAMES} - slow


@pytest.mark.slow
@needs_atheris
def test_a_finding_is_an_input_that_can_be_repeated(tmp_path: Path) -> None:
    [outcome] = fuzz(tmp_path, ["peer"], "runs", RUNS, child=("-c", BREAKS))
    assert outcome.finding is not None
    assert outcome.finding.name.startswith("crash-")
    assert len(outcome.finding.read_bytes()) > 3
    assert "crashed: " in outcome.row()
    assert b"ZeroDivisionError" in (tmp_path / "peer" / "log").read_bytes()
    # The true target of that name has nothing against it.
    command = [sys.executable, "-m", "tests.fuzz.run", "peer", "--dir", str(tmp_path), "--input"]
    subprocess.run([*command, str(outcome.finding)], check=True, cwd=HOME)


@pytest.mark.slow
@needs_atheris
def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    fuzz(tmp_path, ["nats"], "runs", RUNS)
    world, kept = (tmp_path / "world").read_bytes(), len(list((tmp_path / "nats" / CORPUS).iterdir()))
    [outcome] = fuzz(tmp_path, ["nats"], "runs", 1)
    assert (tmp_path / "world").read_bytes() == world
    assert outcome.executions >= kept > 0


def test_a_target_that_left_no_statistics_did_not_pass(tmp_path: Path) -> None:
    assert Outcome.of(tmp_path, 0).finding == tmp_path / "log"


@pytest.mark.parametrize("arguments", [["nonsense"], ["nats", "--runs", "1", "--seconds", "1"]])
def test_a_run_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", *arguments]
    assert subprocess.run(command, check=False, cwd=HOME, capture_output=True).returncode == 2
