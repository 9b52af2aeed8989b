"""What the screen does to the exit code: nothing, but that a full disk is told as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SEALBUS = [sys.executable, "-c", "from console.entry import main; main()"]
FULL = Path("/dev/full")


@pytest.fixture
def sgx(tmp_path: Path) -> Path:
    """Evidence that is refused with exit code 1 and a sentence, without any vectors."""
    (tmp_path / "quote.bin").write_bytes(b"\x03" + bytes(47))
    return tmp_path


def closed_pipe() -> int:
    """Return the writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_character_that_the_encoding_lacks_is_written_as_an_escape(encoding: str, tmp_path: Path) -> None:
    folder = tmp_path / "…"
    folder.mkdir()
    (folder / "quote.bin").write_bytes(b"\x03" + bytes(47))
    (tmp_path / "policy.toml").write_text('[platforms.tdx]\nlab_roots = ["' + "00" * 32 + '"]\n')
    (tmp_path / "policy.toml").rename(tmp_path / "policy…toml")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [*SEALBUS, "policy", "anchor", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    command = [*SEALBUS, "evidence", "verify", str(folder), "--policy", str(tmp_path / "policy…toml")]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout[:8], done.stderr) == (1, b"refused:", b"")


@pytest.mark.parametrize("as_data", [(), ("--json",)], ids=["for people", "for programs"])
@pytest.mark.skipif(not FULL.exists(), reason="this system has no full device")
def test_an_output_that_can_not_be_written_is_no_verdict(as_data: tuple[str, ...], sgx: Path) -> None:
    with FULL.open("wb") as full:
        command = [*SEALBUS, "evidence", "verify", str(sgx), *as_data]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"sealbus: cannot write the output: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("as_data", [(), ("--json",)], ids=["for people", "for programs"])
def test_who_closes_the_pipe_early_does_not_change_the_verdict(as_data: tuple[str, ...], sgx: Path) -> None:
    writing = closed_pipe()
    command = [*SEALBUS, "evidence", "verify", str(sgx), *as_data]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
    writing = closed_pipe()
    done = subprocess.run([*SEALBUS, "policy", "schema"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_that_can_not_be_told_keeps_its_code(tmp_path: Path) -> None:
    writing = closed_pipe()
    command = [*SEALBUS, "evidence", "verify", str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, check=False)
    os.close(writing)
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize("what", ["a path of evidence", "an argument"])
def test_names_of_files_steer_no_terminal(what: str, tmp_path: Path) -> None:
    name = tmp_path / "\x1b]0;owned\x07\x1b[31m\nsealbus: accepted"
    arguments = ["evidence", "verify", str(name)]
    if what == "an argument":
        arguments = ["evidence", "verify", ".", "--root", str(name)]
    done = subprocess.run([*SEALBUS, *arguments], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr
    assert b"\\x1b]0;owned\\x07\\x1b[31m\\nsealbus: accepted" in done.stderr


def test_what_is_printed_for_programs_is_whole(sgx: Path) -> None:
    command = [*SEALBUS, "evidence", "verify", str(sgx), "--json"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert json.loads(done.stdout)["reasons"] == ["unsupported-platform"]
