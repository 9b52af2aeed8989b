"""The results' folder and a job's input: what was good is kept, what is nothing is no obstacle."""

from pathlib import Path, PurePosixPath

import pytest

from console.cli import run
from examples.redaction import command
from examples.redaction.output import MARKER, OutputError, Results, check
from schemas.errors import UsageError


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The whole results of an earlier job."""
    with Results.create(tmp_path / "out") as made:
        made.write(PurePosixPath("a.txt"), b"good")
        made.finish([], {})
    return tmp_path / "out"


@pytest.fixture
def no_mesh(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A lab in which no mesh ever comes up; what is asked for."""
    asked: list[Path] = []

    def fail(root: Path) -> None:
        asked.append(root)
        raise UsageError("no mesh today")

    monkeypatch.setattr(command, "ready_state", fail)
    return asked


def demo(root: Path, *arguments: str | Path) -> int:
    return run(["demo", "--dir", str(root / "lab"), *map(str, arguments)])


def test_a_demo_without_a_mesh_keeps_the_results_that_it_was_to_replace(
    tmp_path: Path, results: Path, no_mesh: list[Path]
) -> None:
    assert demo(tmp_path, "--out", results, "--replace") == 2
    assert no_mesh
    assert (results / "redacted" / "a.txt").read_bytes() == b"good"
    assert (results / "findings.csv").is_file()


def test_a_demo_without_a_mesh_leaves_no_folder_that_blocks_the_next(
    tmp_path: Path, no_mesh: list[Path]
) -> None:
    assert demo(tmp_path, "--out", tmp_path / "new") == 2
    assert no_mesh
    assert not (tmp_path / "new").exists()


def test_results_are_refused_before_a_mesh_is_asked_for(
    tmp_path: Path, results: Path, no_mesh: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo(tmp_path, "--out", results) == 2
    assert not no_mesh
    assert "exists already" in capsys.readouterr().err


def test_looking_changes_nothing(results: Path) -> None:
    check(results, replace=True)
    assert (results / "redacted" / "a.txt").read_bytes() == b"good"


@pytest.mark.parametrize("killed", [False, True])
def test_a_job_that_ended_before_its_first_result_does_not_block_the_next(
    tmp_path: Path, killed: bool
) -> None:
    with Results.create(tmp_path / "out"):
        pass
    if killed:  # nobody tidied up
        (tmp_path / "out" / ".unfinished-1").write_text("half")
    check(tmp_path / "out", replace=False)
    with Results.create(tmp_path / "out") as made:
        made.finish([], {})
    assert (tmp_path / "out" / "links.json").is_file()


def test_a_single_result_of_an_interrupted_job_is_not_replaced_unasked(tmp_path: Path) -> None:
    with Results.create(tmp_path / "out") as made:
        made.write(PurePosixPath("deep/a.txt"), b"good")
    with pytest.raises(OutputError, match="exists already"):
        Results.create(tmp_path / "out")
    assert (tmp_path / "out" / "redacted" / "deep" / "a.txt").read_bytes() == b"good"


@pytest.mark.parametrize("marked", [False, True])
def test_what_others_put_there_is_never_emptied(tmp_path: Path, marked: bool) -> None:
    (tmp_path / "precious").write_text("data")
    if marked:
        (tmp_path / MARKER).touch()
    with pytest.raises(OutputError, match="exists already"):
        Results.create(tmp_path)
    with pytest.raises(OutputError, match="not results of sealbus"):
        Results.create(tmp_path, replace=True)
    assert (tmp_path / "precious").read_text() == "data"


def test_a_place_that_cannot_hold_results_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OutputError, match="choose another --out"):
            check(out, replace=True)


def test_an_act_that_there_is_not_is_refused_before_a_mesh_is_asked_for(
    tmp_path: Path, no_mesh: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo(tmp_path, "--attack", "--act", "nonsense") == 2
    assert not no_mesh
    assert "there is no act 'nonsense'" in capsys.readouterr().err


def test_files_of_which_none_can_be_redacted_are_refused(
    tmp_path: Path, no_mesh: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    photo, text = tmp_path / "photo.jpg", tmp_path / "a.txt"
    photo.touch()
    text.touch()
    assert demo(tmp_path, photo, "--out", tmp_path / "out") == 2
    assert not no_mesh
    assert "photo.jpg: of no supported type" in capsys.readouterr().err
    assert demo(tmp_path, photo, text, "--out", tmp_path / "out") == 2
    assert len(no_mesh) == 1  # one that can be is enough
