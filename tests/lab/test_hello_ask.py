"""The smallest client, where there is nobody to ask: one line and an exit code, never a traceback."""

import os
from pathlib import Path

import pytest

from examples.hello import ask
from lab.attached import BROKER_URL
from schemas.errors import SealbusError, UsageError
from transport import UnavailableError


@pytest.mark.parametrize("arguments", [[], ["somewhere"], ["somewhere", "Ada", "Bob"]])
def test_how_to_call_it_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask.main(arguments) == 2
    assert capsys.readouterr().err == f"{ask.USAGE}\n"


def test_a_directory_without_a_lab_names_the_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(os.environ, BROKER_URL, raising=False)
    assert ask.main([str(tmp_path / "none"), "Ada"]) == 2
    said = capsys.readouterr()
    assert "sealbus lab init" in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("errors", "code"),
    [([UsageError("no lab is up")], 2), ([UnavailableError("no broker"), UsageError("no lab is up")], 3)],
)
def test_what_ends_a_session_is_told_out_of_its_group(
    errors: list[SealbusError],
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(root: Path, name: str) -> str:
        raise ExceptionGroup("session", [ExceptionGroup("tasks", errors)])

    monkeypatch.setattr(ask, "ask", fail)
    assert ask.main(["somewhere", "Ada"]) == code
    assert capsys.readouterr().err.splitlines() == [str(error) for error in errors]


def test_a_bug_stays_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(root: Path, name: str) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(ask, "ask", breaks)
    with pytest.raises(ZeroDivisionError):
        ask.main(["somewhere", "Ada"])
