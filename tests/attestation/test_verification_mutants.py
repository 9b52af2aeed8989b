"""Each verification step is there for a reason: with it disabled, a test fails.

A copy of the source tree is changed in one place, and the tests named for that place are run from there. Each
processor has a copy of its own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import pytest

from tests.attestation.mutants import MUTANTS, Mutant

HOME = Path(__file__).parents[2]
PARTS = ("schemas", "sealing", "attestation", "console", "lab", "tests/attestation", "tests/sealing")
# Less than the project's own settings: a run of a few tests starts in half the time.
SETTINGS = (
    "[pytest]\naddopts = --import-mode=importlib\nmarkers =\n    slow\n    anyio\nfilterwarnings = error\n"
)
LIMIT = 100  # seconds
FAILED = 1  # pytest's exit code for failed tests; 5 would say that no test has such a name


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory, amd: dict[str, bytes]) -> Queue[Path]:
    """Copies of what the tests need, one for each processor, with the keys that are costly to make."""
    copies: Queue[Path] = Queue()
    for number in range(os.cpu_count() or 1):
        root = tmp_path_factory.mktemp(f"tree-{number}")
        for part in PARTS:
            shutil.copytree(HOME / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HOME / "tests/amd.py", root / "tests/amd.py")
        (root / "pytest.ini").write_text(SETTINGS)
        (root / "amd").mkdir()
        for name, data in amd.items():
            (root / "amd" / name).write_bytes(data)
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(root)], check=True, timeout=LIMIT)
        copies.put(root)
    return copies


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, trees: Queue[Path]) -> Iterator[dict[Mutant, Future[int]]]:
    """The outcome of each mutant whose test was selected: as many run at once as there are copies."""
    ours = [item for item in request.session.items if item.location[0].endswith(Path(__file__).name)]
    calls = [
        item.callspec.params
        for item in ours
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    ]
    selected = [mutant for params in calls for mutant in params.values() if isinstance(mutant, Mutant)]
    with ThreadPoolExecutor(trees.qsize()) as pool:
        yield {mutant: pool.submit(outcome_of, mutant, trees) for mutant in selected}
        pool.shutdown(cancel_futures=True)


def outcome_of(mutant: Mutant, trees: Queue[Path]) -> int:
    """Disable one step in a free copy and run the tests that should notice; return pytest's exit code."""
    tree = trees.get()
    path = tree / "attestation" / mutant.file
    source = path.read_text("utf-8")
    try:
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()
        path.write_text(source.replace(mutant.old, mutant.new), "utf-8")
        return outcome(tree, mutant.suite, mutant.tests)
    finally:
        path.write_text(source, "utf-8")
        trees.put(tree)


def outcome(tree: Path, suite: str, tests: str) -> int:
    """Run some tests from a copy of the tree; return pytest's exit code."""
    selected = [f"tests/attestation/{suite}", "-k", tests]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-m",
            "not slow",
            "-p",
            "no:cacheprovider",
            "--tb=no",
            *selected,
        ],
        cwd=tree,
        env={
            **os.environ,
            "PYTHONPATH": str(tree),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            # Compiled code of what was there a moment ago would be taken for that of the mutant.
            "PYTHONDONTWRITEBYTECODE": "1",
            "SEALBUS_TEST_AMD": str(tree / "amd"),
        },
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode


def occurrences(mutant: Mutant) -> int:
    return (HOME / "attestation" / mutant.file).read_text("utf-8").count(mutant.old)


def test_every_mutant_changes_one_place() -> None:
    assert [mutant for mutant in MUTANTS if occurrences(mutant) != 1] == []
    assert len(set(MUTANTS)) == len(MUTANTS)


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
def test_without_a_change_the_tests_that_notice_one_pass(trees: Queue[Path]) -> None:
    tree = trees.get()
    for suite in sorted({mutant.suite for mutant in MUTANTS}):
        named = sorted({mutant.tests for mutant in MUTANTS if mutant.suite == suite})
        assert outcome(tree, suite, " or ".join(named)) == 0, suite
    trees.put(tree)


@pytest.mark.slow
@pytest.mark.timeout(len(MUTANTS) * LIMIT)  # the first may wait for all: it starts them
@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{each.file}-{n}" for n, each in enumerate(MUTANTS)])
def test_step_that_is_disabled_is_noticed(outcomes: dict[Mutant, Future[int]], mutant: Mutant) -> None:
    assert outcomes[mutant].result() == FAILED
