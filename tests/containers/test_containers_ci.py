"""What `.ci/run` does about engines, with stand-ins for docker, make and the script that brings one up."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = 'echo "make $* engine=${SEALBUS_ENGINE-unset} setting=${SETTING-unset}"; exit 7'
# Answers once the other script has brought it up.
DOCKER = 'test -e "$WORLD/engine"'
IMAGES = """
echo "images $1" >&2
case "$1" in
    up) test -e "$WORLD/broken" && exit 1; touch "$WORLD/engine" ;;
    env) echo export SETTING=given ;;
    stop) rm -f "$WORLD/engine"; touch "$WORLD/stopped" ;;
esac
"""


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    (tmp_path / "clone/.ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", tmp_path / "clone/.ci/run")
    script(tmp_path / "bin/make", MAKE)
    script(tmp_path / "bin/docker", DOCKER)
    return tmp_path


def run(world: Path) -> "subprocess.CompletedProcess[str]":
    own = {name: value for name, value in os.environ.items() if name != "SETTING"}
    return subprocess.run(
        [world / "clone/.ci/run"],
        env={
            **own,
            "WORLD": str(world),
            "PATH": f"{world / 'bin'}:{os.environ['PATH']}",
            "SEALBUS_ENGINE": "x",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_engine_that_answers_is_required_and_left_alone(world: Path) -> None:
    script(world / "shared/tools/local-images", IMAGES)
    (world / "engine").touch()
    done = run(world)
    assert (done.returncode, done.stdout) == (7, "make ci engine=required setting=given\n")
    assert "images up" in done.stderr  # which it may lack
    assert "images stop" not in done.stderr
    assert (world / "engine").exists()


def test_an_engine_is_brought_up_required_and_stopped_again(world: Path) -> None:
    script(world / "shared/tools/local-images", IMAGES)
    done = run(world)
    assert (done.returncode, done.stdout) == (7, "make ci engine=required setting=given\n")
    assert (world / "stopped").exists()


def test_without_an_engine_nothing_is_required_and_the_reason_is_told(world: Path) -> None:
    done = run(world)
    assert (done.returncode, done.stdout) == (7, "make ci engine=unset setting=unset\n")
    assert "no container engine answers" in done.stderr


def test_an_engine_that_cannot_be_brought_up_is_not_required(world: Path) -> None:
    script(world / "shared/tools/local-images", IMAGES)
    (world / "broken").touch()
    done = run(world)
    assert (done.returncode, done.stdout) == (7, "make ci engine=unset setting=unset\n")
    assert "could not bring up an engine" in done.stderr
    assert (world / "stopped").exists()
