"""`docs/policy.md` names every command and every finding of `sealbus policy`, and no other."""

import re
from pathlib import Path

from console.policy.commands import policy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text("utf-8")


def test_the_commands_are_those_of_the_page() -> None:
    assert set(re.findall(r"^\| `sealbus policy ([a-z]+)", PAGE, re.MULTILINE)) == set(policy.commands)


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
