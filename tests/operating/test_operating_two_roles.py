"""A process of two roles among real ones: it calls in the role that may, and the receiver goes by that."""

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from agent_runtime import Agent, Context, Node
from agent_runtime.errors import CallFailedError
from schemas.errors import Reason
from schemas.policy import Policy
from schemas.rules import Rule
from sealing.context import Mesh as Mesh_
from sealing.errors import SealingError
from tests.mesh.world import eventually
from tests.operating.world import Mesh

pytestmark = pytest.mark.anyio

BOTH = ("planner", "auditor")


@dataclass(frozen=True)
class Liar(Mesh_):
    """The mesh to a process whose code says `auditor` wherever it was to say `planner`."""

    def role_id(self, name: str) -> bytes:
        return super().role_id("auditor" if name == "planner" else name)


@pytest.fixture
def policy(mesh: Mesh) -> Policy:
    """One tool for each role of whoever has both, and one that neither may call."""
    planner = replace(mesh.policy.workloads["planner"], roles=BOTH)
    mesh.policy = replace(
        mesh.policy,
        workloads={**mesh.policy.workloads, "planner": planner},
        tools={"pseudonym": "vault", "look-up": "vault", "erase": "vault"},
        messages={"note": "vault"},
        rules=(
            Rule(role="planner", may="call", what="pseudonym"),
            Rule(role="auditor", may="call", what="look-up"),
            Rule(role="auditor", may="send", what="note"),
            Rule(role="requester", may="call", what="erase"),
        ),
    )
    mesh.write("policy.toml", mesh.policy)
    return mesh.policy


def vault(heard: list[str]) -> Agent:
    """An agent that answers with the role in which it is asked."""
    agent = Agent("vault")

    @agent.tool("pseudonym")
    async def pseudonym(text: str, context: Context) -> str:
        return context.caller_role

    @agent.tool("look-up")
    async def look_up(text: str, context: Context) -> str:
        return context.caller_role

    @agent.tool("erase")
    async def erase(text: str, context: Context) -> str:
        raise AssertionError("nobody may")

    @agent.message("note")
    async def note(text: str, context: Context) -> None:
        heard.append(context.caller_role)

    return agent


async def ask(node: Node, tool: str, *, own_role: str, within: float = 10.0) -> bytes:
    """Call as code would that has no gate of its own."""
    way = replace(node._gate.may_say("call", "pseudonym", "Ada"), own_role=own_role)
    return bytes(await node.calls.call(way, tool, b"\xa3Ada", within=within, idempotency=None))


@pytest.mark.usefixtures("policy")
async def test_each_call_and_message_goes_in_the_role_that_may_and_arrives_in_it(mesh: Mesh) -> None:
    heard: list[str] = []
    async with mesh.up(), mesh.agent("vault", vault(heard)), mesh.agent("planner", roles=BOTH) as both:
        context = both.context()
        for _ in range(2):  # the second time on the session that is there
            assert await context.call("pseudonym", "Ada", str) == "planner"
            assert await context.call("look-up", "Ada", str) == "auditor"
        await context.send("note", "Ada")
        await eventually(lambda: heard == ["auditor"])
        told = await mesh.data("explain", both.membership.keys.instance.hex(), "look-up", "call")
        assert (told["may"], told["role"]) == (True, "auditor")


@pytest.mark.usefixtures("policy")
async def test_the_receiver_judges_by_the_role_that_was_named_and_no_other(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("vault", vault([])), mesh.agent("planner", roles=BOTH) as both:
        for own_role, tool in (("planner", "look-up"), ("auditor", "pseudonym"), ("auditor", "erase")):
            with pytest.raises(CallFailedError, match=Reason.NO_GRANT.value):
                await ask(both, tool, own_role=own_role)
        # What was refused costs the honest calls nothing.
        assert await both.context().call("look-up", "Ada", str) == "auditor"


@pytest.mark.usefixtures("policy")
async def test_a_role_that_it_does_not_have_is_named_to_nobody(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("vault", vault([])) as taker, mesh.agent("planner") as one:
        assert await one.context().call("pseudonym", "Ada", str) == "planner"
        with pytest.raises(SealingError, match=Reason.ROLE_NOT_PERMITTED.value):
            await ask(one, "look-up", own_role="auditor")
        assert not any(place == "inbox" for place, _ in taker.refusals.counts)


@pytest.mark.usefixtures("policy")
async def test_whoever_names_a_role_that_its_admission_lacks_gets_no_session(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("vault", vault([])) as taker, mesh.agent("planner") as one:
        one.membership.mesh = Liar(mesh.mesh.id, mesh.mesh.suite)
        with pytest.raises(CallFailedError, match=Reason.DEADLINE_PASSED.value):
            await ask(one, "look-up", own_role="planner", within=1.0)
        assert taker.refusals.counts["inbox", Reason.ROLE_NOT_PERMITTED.value]
        one.membership.mesh = mesh.mesh
        assert await one.context().call("pseudonym", "Ada", str) == "planner"
