"""`docs/operating.md` names every command that needs a mesh, every option that they share, and no other."""

import re
from pathlib import Path

from console.operating.act_commands import glass, order, renewal, revoke
from console.operating.agent_commands import agents, workloads
from console.operating.mesh_commands import mesh, publish
from console.operating.operators_commands import operators

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text("utf-8")
GROUPS = {"mesh": mesh, "agents": agents, "workloads": workloads, "operators": operators}


def test_the_commands_are_those_of_the_page() -> None:
    said = set(re.findall(r"^\| `sealbus (mesh|agents|workloads|operators) ([a-z]+)", PAGE, re.MULTILINE))
    assert said == {(name, command) for name, group in GROUPS.items() for command in group.commands}


def test_what_is_signed_apart_has_the_same_commands_whatever_it_is() -> None:
    (told,) = re.findall(r"when operators sign apart: (.+) \|$", PAGE, re.MULTILINE)
    for group in (order, revoke, renewal, glass):
        assert set(re.findall(r"`([a-z]+)`", told)) == set(group.commands)


def test_the_options_that_all_share_are_those_of_the_page() -> None:
    block = PAGE.split("## What every command needs")[1].split("```")[1]
    said = set(re.findall(r"^(--[a-z-]+)", block, re.MULTILINE))
    have = {option.opts[0] for option in publish.params if option.param_type_name == "option"}
    assert have - {"--json"} == said
