"""A whole mesh on a broker in a container, which is restarted, killed and paused under it."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from agent_runtime import Node, RefusedError
from agent_runtime.agent import Task
from lab.mesh import RunningMesh
from schemas.errors import Reason
from tests.containers.conftest import BROKER_PATIENCE, ContainerBroker, broker_container
from tests.mesh.world import client_identity, copy_lab, in_own_task, joined, up
from transport import connect

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]
TASKS = 40
DONE_WITHIN = 240.0


@pytest.fixture(scope="module")
async def shaken(
    anyio_backend: str, engine: None, lab_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[RunningMesh, ContainerBroker]]:
    """A mesh, and its broker in a container."""
    lab = copy_lab(lab_template, tmp_path_factory.mktemp("shaken"))
    with broker_container() as broker:
        async with connect(broker.url, name="first", patience=BROKER_PATIENCE):
            pass
        async with in_own_task(up(lab, url=broker.url)) as mesh:
            yield mesh, broker


@pytest.mark.parametrize("fault", ["restart", "kill", "pause"])
async def test_invariant_10_nothing_is_lost_with_a_broker_in_a_container(
    shaken: tuple[RunningMesh, ContainerBroker], fault: str
) -> None:
    mesh, broker = shaken
    before = [f"{fault} before {number}" for number in range(TASKS)]
    after = [f"{fault} after {number}" for number in range(TASKS)]
    async with joined(mesh, client_identity(mesh)) as desk:
        tasks = [await desk.context().submit("tally", name) for name in before]
        await broker.begin(fault)
        await broker.end(fault)
        with anyio.fail_after(DONE_WITHIN):
            tasks += [await submitted(desk, name) for name in after]
            assert [await task.result(str) for task in tasks] == before + after
            await desk.wait_live()
            counted = await desk.context().call("read", fault, dict[str, list[int]])
    # Once in effect, although some were delivered twice.
    assert {name: effects for name, (effects, _) in counted.items()} == dict.fromkeys(before + after, 1)


async def submitted(desk: Node, name: str) -> Task:
    """Submit a task as soon as it may be: who hears no beacon for the grace period says nothing."""
    while True:
        await desk.wait_live()
        try:
            return await desk.context().submit("tally", name)
        except RefusedError as error:
            if error.reason is not Reason.NOT_LIVE:
                raise


async def test_the_broker_is_somebody_elses(shaken: tuple[RunningMesh, ContainerBroker]) -> None:
    mesh, _ = shaken
    assert mesh.broker is None
    assert await mesh.broker_messages() is None
    assert mesh.store is None
