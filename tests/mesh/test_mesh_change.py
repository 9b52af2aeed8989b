"""An agent that was changed by one byte: refused, the next step named, and admitted once it is signed."""

import inspect
import io
import re
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from rich.console import Console

from agent_runtime.errors import EXIT_REFUSED
from console.cli import run
from console.operator import operator_line
from lab import setup
from lab.commands import show_agents
from lab.mesh import RunningMesh
from lab.operators import Operators
from schemas.errors import Reason, UsageError
from schemas.messages import Event
from tests.mesh.world import AGENTS, client_identity, copy_lab, eventually, joined, up

pytestmark = pytest.mark.anyio


@pytest.fixture
def changed(lab_template: Path, tmp_path: Path) -> Path:
    """A lab whose relay is one byte longer than what the operators signed."""
    lab = copy_lab(lab_template, tmp_path)
    with (tmp_path / AGENTS / "relay.py").open("ab") as file:
        file.write(b"\n")
    return lab


def shown(mesh: RunningMesh) -> str:
    """Return what the command line says of a mesh's agents, in one line."""
    output = io.StringIO()
    show_agents(Console(file=output, width=200), mesh)
    return re.sub(r"\s+", " ", output.getvalue())


async def test_a_changed_agent_is_refused_and_after_resign_it_is_admitted(changed: Path) -> None:
    async with up(changed) as mesh:
        assert mesh.refused["relay"].startswith(Reason.MEASUREMENT_NOT_IN_POLICY.value)
        assert "relay" not in {agent.name for agent in mesh.admitted()}
        assert "sealbus lab resign" in shown(mesh)
        with anyio.fail_after(90):
            assert await mesh.machines["relay"].run() == EXIT_REFUSED
            async with joined(mesh, client_identity(mesh)) as node:
                task = await node.context().submit("echo", "the others work")
                assert await task.result(str) == "the others work"
    assert await to_thread.run_sync(run, ["lab", "resign", "--dir", str(changed)]) == 0
    async with up(changed) as mesh:
        assert mesh.refused == {}
        assert "relay" in {agent.name for agent in mesh.admitted()}


@pytest.mark.slow
async def test_a_new_policy_is_adopted_by_a_mesh_that_works(changed: Path) -> None:
    async with up(changed) as mesh, joined(mesh, client_identity(mesh)) as node:
        before = {agent.name: agent.instance for agent in mesh.admitted()}
        await to_thread.run_sync(setup.resign, mesh.state, lambda _: None)
        operators = Operators(mesh.state, mesh.url)
        signed = operators.policy.signed
        async with operators.line() as line:
            await line.send(Event("policy", signed.policy, signed.profile, ()))
        mesh.refused.clear()
        await mesh.rack.start(mesh.machines["relay"])
        await eventually(lambda: "relay" in {agent.name for agent in mesh.admitted()})
        assert before.items() <= {agent.name: agent.instance for agent in mesh.admitted()}.items()
        await eventually(lambda: node.membership.witness.policy_version == 2 and node.membership.live())
        task = await node.context().submit("fan", ["by the new policy"])
        with anyio.fail_after(90):
            assert await task.result(list[str]) == ["by the new policy"]


async def test_a_lab_whose_operators_published_comes_up_again_and_never_with_less(
    lab_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = copy_lab(lab_template, tmp_path)
    first = (lab / "policy.signed").read_bytes()
    async with up(lab) as mesh:
        await mesh.operators.publish(mesh.operators.sign(mesh.operators.next_policy()))
    async with up(lab) as mesh:
        assert mesh.operators.policy.policy.version == 2
        assert mesh.refused == {}
    (lab / "policy.signed").write_bytes(first)
    # Half a minute is for a coordinator that starts: this one will never be accepted.
    monkeypatch.setitem(inspect.unwrap(operator_line).__kwdefaults__, "patience", 2.0)
    with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match="sealbus lab resign"), flatten_subgroups=True):
        async with up(lab):
            pass
