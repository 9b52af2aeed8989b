"""The command line's exit codes and messages, as its help and README promise them."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from console import cli
from schemas.errors import PeerError, Reason, UsageError
from transport import UnavailableError


def test_help_lists_commands_of_packages_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "demo" in shown
    assert "lab" in shown


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["no-such-command"]) == 2
    assert "no-such-command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PeerError(Reason.INSTANCE_REVOKED), 1),
        (UsageError("name a file"), 2),
        (UnavailableError("no broker"), 3),
        (PeerError(Reason.UNAVAILABLE, "no coordinator"), 3),
        (PeerError(Reason.NOT_LIVE), 3),
    ],
)
def test_each_family_of_errors_has_its_exit_code(error: Exception, code: int) -> None:
    assert cli.code_of(error) == code


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a group"])
def test_an_expected_error_is_one_line_without_a_traceback(
    grouped: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def fails() -> None:
        error = UsageError("the port is taken: name another")
        raise ExceptionGroup("tasks", [error]) if grouped else error

    monkeypatch.setitem(cli.sealbus.commands, "fails", fails)
    assert cli.run(["fails"]) == 2
    shown = capsys.readouterr().err
    assert shown == "sealbus: the port is taken: name another\n"


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command that has `--json`."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        elif command is not None and any("--json" in each.opts for each in command.params):
            yield (*path, name)


@pytest.mark.parametrize("words", list(commands(cli.sealbus)), ids=" ".join)
def test_a_usage_error_is_an_object_too_where_a_program_reads(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*words, "--json", "--no-such-option"]) == 2
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["done"], told["reason"]) == (False, "usage")
    assert "--no-such-option" in told["detail"]
    assert "--no-such-option" in shown.err


def test_of_several_errors_the_gravest_is_the_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    @click.option("--json", "as_data", is_flag=True)
    def fails(as_data: bool) -> None:
        raise ExceptionGroup("tasks", [PeerError(Reason.REPLAYED), UnavailableError("no broker")])

    monkeypatch.setitem(cli.sealbus.commands, "fails", fails)
    assert cli.run(["fails", "--json"]) == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"done": False, "reason": "unavailable", "detail": "no broker"}
    assert shown.err == "sealbus: replayed\nsealbus: no broker\n"


def test_a_bug_is_not_dressed_up_as_an_expected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def breaks() -> None:
        raise ExceptionGroup("tasks", [UsageError("expected"), ZeroDivisionError()])

    monkeypatch.setitem(cli.sealbus.commands, "breaks", breaks)
    with pytest.raises(ExceptionGroup):
        cli.run(["breaks"])


def test_a_directory_that_is_no_lab_names_the_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["lab", "evict", "somebody", "--dir", str(tmp_path)]) == 2
    assert "is not a lab's directory: name another with --dir" in capsys.readouterr().err


def test_a_lab_is_never_made_over_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("data")
    assert cli.run(["lab", "init", "--dir", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "precious").read_text() == "data"


def test_a_damaged_blueprint_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blueprint = tmp_path / "blueprint.toml"
    blueprint.write_text('[agents.a]\nfile = "a.py"\nrole = "a"\nmachines = ["abacus"]\n')
    assert cli.run(["lab", "init", "--dir", str(tmp_path / "lab"), "--blueprint", str(blueprint)]) == 2
    assert "machines" in capsys.readouterr().err
    assert not (tmp_path / "lab").exists()
