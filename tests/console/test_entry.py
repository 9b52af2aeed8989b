"""The first moment of the command line: what is imported may be interrupted too."""

import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from types import ModuleType

import pytest

from console import cli, entry


class Interrupted(importlib.abc.MetaPathFinder):
    """Ctrl-C while a module is looked for."""

    def __init__(self, module: str) -> None:
        self.module = module

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == self.module:
            raise KeyboardInterrupt
        return None


def test_the_installed_command_begins_here() -> None:
    (script,) = entry_points(group="console_scripts", name="sealbus")
    assert script.load() is entry.main


def test_an_interrupt_during_the_imports_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "console.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted("console.cli"), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "sealbus: stopped\n"


def test_the_command_line_s_code_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "run", lambda _: 3)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 3
