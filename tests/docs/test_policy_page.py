"""`docs/policy.md` names every command and every finding of `sealbus policy`, and no other."""

import re
import runpy
from pathlib import Path

import msgspec
import pytest

from console.policy.commands import policy
from schemas.policy import Client
from sealing.keys import SigningKey

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text("utf-8")


def test_the_commands_are_those_of_the_page() -> None:
    assert set(re.findall(r"^\| `sealbus policy ([a-z]+)", PAGE, re.MULTILINE)) == set(policy.commands)


def test_a_clients_key_is_made_as_the_page_says_and_is_one_that_a_policy_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    making, using = re.findall(r"```python\n(.*?)```", PAGE.split("## A client's key")[1], re.DOTALL)[:2]
    monkeypatch.chdir(tmp_path)
    Path("make.py").write_text(making)
    runpy.run_path("make.py")
    key = Path("desk.key")
    assert key.stat().st_mode & 0o777 == 0o600
    printed = capsys.readouterr().out.strip()
    client = msgspec.convert({"key": printed, "roles": ["requester"]}, Client)
    assert client.key == SigningKey(key.read_bytes()).public.hex()
    with pytest.raises(FileExistsError):  # a second run takes nobody's key away
        runpy.run_path("make.py")
    Path("use.py").write_text(using)
    assert callable(runpy.run_path("use.py")["ask"])


def test_the_findings_are_those_of_the_page() -> None:
    made = {"milan-without-chips"}  # its name is made of the line's
    for module in (ROOT / "console" / "policy").glob("*.py"):
        text = module.read_text("utf-8")
        made |= set(re.findall(r'Finding\(\s*"([a-z-]+)"', text))
        made |= set(re.findall(r'\("(unreachable-[a-z]+)"', text))
    table = PAGE.split("| finding | means |")[1].split("\n\n")[0]
    told = set()
    for line in table.splitlines()[2:]:
        told |= set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", line.split("|")[1]))
    assert told == made
