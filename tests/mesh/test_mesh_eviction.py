"""Eviction by an event that the operators signed: at once for everybody else, for good for the evicted."""

from dataclasses import dataclass, field, replace

import anyio
import pytest

from agent_runtime import Agent, CallFailedError, Context, Node
from agent_runtime.agent import Task
from agent_runtime.joining import AdmissionRefusedError
from console.documents import sign_revocation
from coordinator.holdings import ENTRY_SIZE
from lab.mesh import RunningMesh
from schemas.errors import Reason
from schemas.limits import REVOKED_PAGE
from schemas.messages import Event
from tests.mesh.world import client_identity, enclave_identity, eventually, joined, log_of

pytestmark = pytest.mark.anyio


@dataclass
class Rogue:
    """A worker that keeps what it is given and answers when it likes."""

    agent: Agent = field(default_factory=lambda: Agent("worker", concurrency=8))
    taken: anyio.Event = field(default_factory=anyio.Event)
    answer: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        @self.agent.task("echo")
        async def echo(text: str, context: Context) -> str:
            self.taken.set()
            await self.answer.wait()
            return "rogue"


@dataclass
class Defiance:
    """An evicted party that goes on: it keeps to nothing that its code keeps to."""

    node: Node
    refusals: list[Reason] = field(default_factory=list)

    def stay(self) -> None:
        """Ask to be admitted again and again, whatever the answer."""

        def note(error: Exception) -> None:
            if isinstance(error, AdmissionRefusedError):
                self.refusals.append(error.reason)

        self.node._raise_if_final = note  # type: ignore[method-assign]

    def be_live(self) -> None:
        """Speak without being live."""
        member = self.node.membership
        member.require_live_now = lambda: (member.held(), member.clock.highest())  # type: ignore[method-assign]


def epochs_of(node: Node, group: str) -> set[int]:
    return {epoch for name, epoch in node.membership.held().epochs if name == group}


async def test_an_evicted_instance_has_lost_its_tasks_its_calls_its_keys_and_its_place(
    mesh: RunningMesh,
) -> None:
    rogue = Rogue()
    async with (
        joined(mesh, client_identity(mesh)) as desk,
        joined(mesh, enclave_identity(mesh, "worker-1", "worker"), rogue.agent) as evicted,
    ):
        defiance = Defiance(evicted)
        defiance.stay()
        await evicted.context(bytes(16)).call("add", "before", type(None))
        assert await desk.context().call("read", "before", dict) == {"before": [1, 0]}
        listing = evicted.calls.listings._listings["counter"]
        tasks: list[Task] = []
        with anyio.fail_after(90):
            while not rogue.taken.is_set():
                tasks.append(await desk.context().submit("echo", f"task {len(tasks)}"))
        before = epochs_of(desk, "worker")

        await mesh.operators.revoke("instance", evicted.membership.keys.instance.hex(), "test")
        (process,) = [agent for agent in mesh.admitted() if agent.name == "worker-2"]
        await mesh.operators.revoke("instance", process.instance, "test")

        # Its tasks are done by others, who got a new epoch that it has no keys of.
        with anyio.fail_after(90):
            assert [await task.result(str) for task in tasks] == [
                f"task {number}" for number in range(len(tasks))
            ]
        assert before.isdisjoint(epochs_of(desk, "worker"))
        assert epochs_of(evicted, "worker") == before
        # What it says now nobody believes: not in the session that it had, and it gets no other.
        defiance.be_live()
        rogue.answer.set()
        for _ in range(2):
            evicted.calls.listings._listings["counter"] = replace(listing, until=2**62)
            with pytest.raises(CallFailedError, match=Reason.DEADLINE_PASSED.value):
                await evicted.context(bytes(16)).call("add", "after", type(None), within=1)
            evicted.calls._peering.drop_all()
        await eventually(lambda: f"refused at inbox: {Reason.INSTANCE_REVOKED}" in log_of(mesh, "counter"))
        assert await desk.context().call("read", "after", dict) == {}
        # It is not let in again, on whatever Evidence.
        await eventually(lambda: Reason.INSTANCE_REVOKED in defiance.refusals)
        # A process of honest code ends, and says why.
        await eventually(lambda: "worker-2" in mesh.refused)
        assert mesh.refused["worker-2"].startswith(Reason.INSTANCE_REVOKED.value)


async def test_a_revoked_set_of_several_pages_reaches_who_is_here_and_who_comes(mesh: RunningMesh) -> None:
    revoked = {number.to_bytes(32, "big") for number in range(2 * REVOKED_PAGE // ENTRY_SIZE)}
    operators = mesh.operators
    async with joined(mesh, client_identity(mesh)) as here:
        async with operators.line() as line:
            for each in sorted(revoked):
                documents = sign_revocation(
                    operators.council,
                    operators._keys(),
                    kind="instance",
                    value=each.hex(),
                    reason="test",
                    time=1,
                )
                await line.send(Event("revocation", documents, None, ()))
        await eventually(lambda: revoked <= here.membership.held().revoked and here.membership.live(), 60)
    async with joined(mesh, client_identity(mesh)) as comes:
        assert revoked <= comes.membership.held().revoked
        task = await comes.context().submit("fan", ["in spite of it"])
        with anyio.fail_after(120):
            assert await task.result(list[str]) == ["in spite of it"]
