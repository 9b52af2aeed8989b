"""What a mesh does when nobody disturbs it, and what it refuses: whoever asks, and wherever it is checked."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from agent_runtime import Agent, CallFailedError, Context, Node, RefusedError, TaskFailedError
from agent_runtime.joining import AdmissionRefusedError
from agent_runtime.listings import Listing
from agent_runtime.peering import Link
from lab.mesh import RunningMesh
from schemas.errors import PeerError, Reason
from sealing.keys import SigningKey
from tests.mesh.world import client_identity, enclave_identity, forge, joined

pytestmark = pytest.mark.anyio


def reason_of(caught: "pytest.ExceptionInfo[BaseExceptionGroup[BaseException]]") -> Reason:
    """Return why a node ended."""
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, PeerError)
    return error.reason


async def test_every_agent_is_admitted_on_the_tee_that_it_runs_on(mesh: RunningMesh) -> None:
    assert {agent.name: (agent.platform, agent.workload) for agent in mesh.admitted()} == {
        "worker-1": ("sev-snp", "worker"),
        "worker-2": ("tdx", "worker"),
        "counter": ("nitro", "counter"),
        "relay": ("tdx", "relay"),
    }
    assert mesh.refused == {}


async def test_tasks_come_back_done(mesh: RunningMesh) -> None:
    texts = [f"task {number}" for number in range(100)]
    async with joined(mesh, client_identity(mesh)) as node:
        tasks = [await node.context().submit("echo", text) for text in texts]
        with anyio.fail_after(90):
            assert [await task.result(str) for task in tasks] == texts


async def test_an_enclave_submits_to_another(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)) as node:
        task = await node.context().submit("fan", ["one", "two"])
        with anyio.fail_after(90):
            assert await task.result(list[str]) == ["one", "two"]


async def test_an_agent_calls_the_tool_of_another(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)) as node:
        task = await node.context().submit("tally", "counted")
        with anyio.fail_after(90):
            await task.result(str)
            assert await node.context().call("read", "counted", dict) == {"counted": [1, 0]}


async def test_invariant_04_what_is_not_granted_is_refused_before_it_leaves(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh, "guest")) as node:
        with pytest.raises(RefusedError, match="no-grant"):
            await node.context().submit("echo", "text")
        with pytest.raises(RefusedError, match="no-grant"):
            await node.context().call("read", "", dict)
    async with joined(mesh, client_identity(mesh)) as node:
        with pytest.raises(RefusedError, match="no-grant"):
            await node.context().submit("guarded", "text")
        with pytest.raises(RefusedError, match="no-grant"):
            await node.context().call("erase", "name", type(None))
        with pytest.raises(RefusedError, match="constraint-violated"):
            await node.context().call("release", "x" * 200, type(None))


async def test_invariant_04_a_task_without_a_grant_is_refused_at_the_gate(
    mesh: RunningMesh,
) -> None:
    async with joined(mesh, client_identity(mesh)) as node:
        believe(node, "submit", "guarded", "worker")
        task = await node.context().submit("guarded", "text")
        with anyio.fail_after(90), pytest.raises(TaskFailedError) as failure:
            await task.result(str)
    assert failure.value.reason is Reason.NO_GRANT


@pytest.mark.parametrize(
    ("tool", "argument", "reason"),
    [("erase", "name", Reason.NO_GRANT), ("release", "x" * 200, Reason.CONSTRAINT_VIOLATED)],
)
async def test_invariant_04_a_call_without_a_grant_is_refused_at_the_gate(
    mesh: RunningMesh, tool: str, argument: str, reason: Reason
) -> None:
    async with joined(mesh, client_identity(mesh)) as node:
        believe(node, "call", tool, "counter")
        with pytest.raises(CallFailedError) as failure:
            await node.context().call(tool, argument, type(None))
    assert failure.value.reason is reason


async def test_a_client_without_grants_learns_no_admission_and_one_that_it_got_elsewhere_does_not_help(
    mesh: RunningMesh,
) -> None:
    async with (
        joined(mesh, client_identity(mesh)) as desk,
        joined(mesh, client_identity(mesh, "guest")) as guest,
    ):
        believe(guest, "call", "read", "counter")
        with pytest.raises(AdmissionRefusedError, match="no-grant"):
            await guest.context().call("read", "", dict)
        await desk.context().call("read", "", dict)
        listing = desk.calls.listings._listings["counter"]
        guest.calls.listings._listings["counter"] = replace(listing, until=2**62)
        with pytest.raises(CallFailedError) as failure:
            await guest.context().call("read", "", dict)
    assert failure.value.reason is Reason.NO_GRANT


async def test_a_peer_that_answers_a_call_many_times_ends_nobody(mesh: RunningMesh) -> None:
    agent = Agent("counter")

    @agent.tool("read")
    async def read(prefix: str, context: Context) -> dict[str, str]:
        return {prefix: "answered"}

    async with (
        joined(mesh, client_identity(mesh)) as desk,
        joined(mesh, enclave_identity(mesh, "counter", "counter"), agent) as peer,
    ):
        once = peer.calls._outgoing.say

        def answer_often(link: Link, answer: bytes, **how: Any) -> None:
            for _ in range(20):
                once(link, answer, **how)

        peer.calls._outgoing.say = answer_often  # type: ignore[assignment]
        admitted = peer.membership.held()
        desk.calls.listings._listings["counter"] = Listing(
            ((admitted.admission, admitted.admission_bytes),), 2**62, frozenset()
        )
        for number in range(5):
            called = await desk.context().call("read", str(number), dict[str, str])
            assert called == {str(number): "answered"}


async def test_a_client_gets_no_keys_but_those_of_what_it_may_submit(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)) as node:
        keyring = node.membership.keyring
        assert {group for group, _ in keyring._openers} == {"mesh"}
        assert {group for group, _ in keyring._sealers} == {"worker", "relay"}
    async with joined(mesh, client_identity(mesh, "guest")) as node:
        believe(node, "submit", "echo", "worker")
        with pytest.raises(RefusedError, match="epoch-unknown"):
            await node.context().submit("echo", "text")


async def test_a_client_whose_key_the_policy_does_not_pin_is_refused(mesh: RunningMesh) -> None:
    with pytest.raises(BaseExceptionGroup) as refusal:
        async with joined(mesh, client_identity(mesh, key=SigningKey())):
            pytest.fail("admitted")
    assert reason_of(refusal) is Reason.CLIENT_NOT_IN_POLICY


async def test_a_client_is_refused_a_role_that_its_key_may_not_hold(mesh: RunningMesh) -> None:
    with pytest.raises(BaseExceptionGroup) as refusal:
        async with joined(mesh, client_identity(mesh, key=mesh.client_key("guest"))):
            pytest.fail("admitted")
    assert reason_of(refusal) is Reason.ROLE_NOT_PERMITTED


async def test_an_enclave_is_refused_a_role_that_its_workload_may_not_hold(mesh: RunningMesh) -> None:
    with pytest.raises(BaseExceptionGroup) as refusal:
        async with joined(mesh, enclave_identity(mesh, "worker-1", "counter")):
            pytest.fail("admitted")
    assert reason_of(refusal) is Reason.ROLE_NOT_PERMITTED


def believe(node: Node, action: str, what: str, role: str) -> None:
    """Make a client believe that it may do something."""
    node.membership.trust = forge(node.membership.held(), action, what, role)
