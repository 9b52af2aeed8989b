"""Fuzzing by coverage: a short run of every target, and that a run says what it found."""

import subprocess
import sys
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz.blind import inputs
from tests.fuzz.run import BLIND, CORPUS, HOME, Outcome, fuzz
from tests.fuzz.targets import NAMES, Target
from tests.fuzz.trees import Dice

RUNS = 2000
HAS_ATHERIS = find_spec("atheris") is not None
needs_atheris = pytest.mark.skipif(not HAS_ATHERIS, reason="atheris has no wheel for this Python or system")

# A child whose target breaks on every input that is longer than three bytes.
BREAKS = """
import sys
from pathlib import Path
from tests.fuzz import {child}
from tests.fuzz.targets import Target

def read(data):
    if len(data) > 3:
        raise ZeroDivisionError

broken = Target("peer", read, 10, 0)
{put}
sys.exit({child}.main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
"""
BREAKS_IN_READING = BREAKS.format(
    child="child", put='child.instrumented = lambda said: {"peer": broken.once}'
)
BREAKS_IN_COUNTING = BREAKS.format(child="child", put='child.plain.targets = lambda world: {"peer": broken}')
BREAKS_BLIND = BREAKS.format(child="blind", put='blind.targets = lambda world: {"peer": broken}')
# One whose target reads for ever what is longer than three bytes, and whose clock is quick.
HANGS = BREAKS_BLIND.replace("raise ZeroDivisionError", "while True: pass").replace(
    "broken =", "blind.HANGS = 0.2\nbroken ="
)


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
@pytest.mark.parametrize("child", [BREAKS_IN_READING, BREAKS_IN_COUNTING])
def test_a_finding_is_an_input_that_can_be_repeated(child: str, tmp_path: Path) -> None:
    assert_found(fuzz(tmp_path, ["peer"], "runs", RUNS, child=("-c", child)), tmp_path)


@pytest.mark.slow
def test_a_finding_of_a_blind_run_is_one_too(tmp_path: Path) -> None:
    assert_found(fuzz(tmp_path, ["peer"], "runs", RUNS, child=("-c", BREAKS_BLIND)), tmp_path)


def assert_found(outcomes: list[Outcome], folder: Path) -> None:
    [outcome] = outcomes
    assert outcome.finding is not None
    assert outcome.finding.name.startswith("crash-")
    assert len(outcome.finding.read_bytes()) > 3
    assert "crashed: " in outcome.row()
    assert b"ZeroDivisionError" in (folder / "peer" / "log").read_bytes()
    # The true target of that name has nothing against it.
    command = [sys.executable, "-m", "tests.fuzz.run", "peer", "--dir", str(folder), "--input"]
    subprocess.run([*command, str(outcome.finding)], check=True, cwd=HOME)


@pytest.mark.slow
def test_a_blind_run_ends_an_input_that_hangs_and_keeps_it(tmp_path: Path) -> None:
    [outcome] = fuzz(tmp_path, ["peer"], "runs", RUNS, child=("-c", HANGS))
    assert outcome.finding is not None
    assert len(outcome.finding.read_bytes()) > 3
    assert b"HangError" in (tmp_path / "peer" / "log").read_bytes()


@pytest.mark.slow
def test_a_blind_run_of_every_target_finds_nothing_and_tells_no_coverage(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, NAMES, "runs", RUNS // 10, child=BLIND)
    assert [outcome.row() for outcome in outcomes if outcome.finding] == []
    slow = {"assess": 20, "signed-sev-snp": 10, "signed-tdx": 10, "signed-nitro": 10}
    assert {outcome.name: outcome.executions for outcome in outcomes} == {
        name: RUNS // 10 // slow.get(name, 1) for name in NAMES
    }
    assert all(" | - | - | nothing |" in outcome.row() for outcome in outcomes)


def test_a_blind_run_starts_from_what_runs_by_coverage_kept_too() -> None:
    target = Target("notes", lambda data: None, 10, 0)
    corpus = [b"a kept input", b"a seed"]
    drawn = list(islice(inputs(target, corpus, Dice(1)), 500))
    assert drawn[:2] == corpus
    assert drawn == list(islice(inputs(target, corpus, Dice(1)), 500))
    assert len({*drawn}) > 300
    for start in corpus:
        assert any(start[:4] in each for each in drawn[2:])


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
