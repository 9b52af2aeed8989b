"""The README's example of a message and a tool is a blueprint, and an agent that has what it names."""

import re
import runpy
from pathlib import Path

from agent_runtime import Agent
from lab.blueprint import read_blueprint

TEXT = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_the_agent_with_a_message_and_a_tool_has_what_its_blueprint_declares(tmp_path: Path) -> None:
    (plan,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    (code,) = re.findall(r"```python\n# keeper.py\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "blueprint.toml").write_text(plan)
    (tmp_path / "keeper.py").write_text(code)
    blueprint = read_blueprint(tmp_path / "blueprint.toml")
    agent = runpy.run_path(str(tmp_path / blueprint.agents["keeper"].file))["agent"]
    assert isinstance(agent, Agent)
    assert agent.role == blueprint.agents["keeper"].role
    assert set(agent.tools) == set(blueprint.tools)
    assert set(agent.messages) == set(blueprint.messages)
    assert {each.what for each in blueprint.rules} == {*blueprint.tools, *blueprint.messages}
