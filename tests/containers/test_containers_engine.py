"""Without an engine these tests say why they are skipped, and fail where one is required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers.conftest import why_no_engine

ROOT = Path(__file__).parents[2]


def test_a_missing_engine_is_told_with_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    reason = why_no_engine()
    assert reason is not None
    assert "start one" in reason


@pytest.mark.slow
@pytest.mark.parametrize(("required", "code", "word"), [("", 0, "skipped"), ("required", 1, "error")])
def test_tests_are_skipped_without_an_engine_unless_it_is_required(
    tmp_path: Path, required: str, code: int, word: str
) -> None:
    test = Path(__file__).with_name("test_containers_broker.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "slow", "-p", "no:cacheprovider", f"{test}::{ONE}"],
        cwd=ROOT,
        env={**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/no.sock", "SEALBUS_ENGINE": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert f"1 {word}" in done.stdout
    assert "no container engine answers" in done.stdout


ONE = "test_subjects_streams_and_buckets_work"
