"""Hard turns on a real broker: of the role that submitted, and over the heads of those who were not there."""

import os
import signal
from base64 import standard_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from agent_runtime import Agent, Context, Node, RefusedError
from agent_runtime.agent import Task, encode_value
from agent_runtime.submitting import Pending
from lab.mesh import RunningMesh
from schemas import codec
from schemas.errors import Reason
from schemas.limits import SECOND
from schemas.messages import ResultBody
from schemas.subjects import Kind, subject
from sealing.results import ResultHeader, role_reply_key, seal_result
from tests.mesh.world import client_identity, enclave_identity, eventually, joined

pytestmark = pytest.mark.anyio

DONE_WITHIN = 120.0


class Patient:
    """A worker that answers only when it is told to."""

    def __init__(self) -> None:
        self.agent = Agent("worker", concurrency=64)
        self.taken: set[str] = set()
        self.answer = anyio.Event()

        @self.agent.task("echo")
        async def echo(text: str, context: Context) -> str:
            self.taken.add(text)
            await self.answer.wait()
            return text


@asynccontextmanager
async def relay(mesh: RunningMesh) -> AsyncIterator[Node]:
    """Take part as an instance of the relays' role."""
    async with joined(mesh, enclave_identity(mesh, "relay", "relay"), Agent("relay")) as node:
        yield node


def pending(node: Node, task: Task) -> Pending:
    (found,) = [each for each in node.submitter._submissions.pending() if each.task_id == task.id]
    return found


async def forge(evicted: Node, task: Task, token: bytes, epoch: int, reply_to: bytes, worker: bytes) -> bytes:
    """Send a result under the reply key that the evicted derives, as if `worker` had; return the key."""
    mesh = evicted.membership.mesh
    secret = evicted.membership.keyring._openers["relay", epoch].reply_secret()
    key = role_reply_key(mesh, secret, token, epoch, task.id)
    header = ResultHeader(token, epoch, task.id, os.urandom(16))
    body = codec.encode(ResultBody(worker, "", "", encode_value("forged")))
    await evicted._transport.append(
        subject(mesh.id, Kind.RESULT, reply_to),
        seal_result(mesh, key, header, body),
        message_id=header.salt.hex(),
    )
    return key


async def test_what_a_role_submitted_is_sealed_again_when_one_of_its_members_is_evicted(
    mesh: RunningMesh,
) -> None:
    patient = Patient()
    async with (
        relay(mesh) as living,
        relay(mesh) as evicted,
        joined(mesh, enclave_identity(mesh, "worker-1", "worker"), patient.agent) as worker,
    ):
        tasks: list[Task] = []
        with anyio.fail_after(90):
            while not patient.taken:
                tasks.append(await living.context().submit("echo", f"task {len(tasks)}"))
                await anyio.sleep(0.05)
        held = next(task for number, task in enumerate(tasks) if f"task {number}" in patient.taken)
        waiting = pending(living, held)
        known = dict(waiting.replies)

        await mesh.operators.revoke("instance", evicted.membership.keys.instance.hex(), "test")
        await eventually(lambda: len(waiting.replies) > len(known))
        (fresh,) = waiting.replies.keys() - known.keys()
        assert ("relay", fresh[1]) not in evicted.membership.keyring._openers

        # The evicted has the keys of the epoch in which the task was submitted, and makes use of them.
        for (token, epoch), key in known.items():
            reply_to, answerer = living.submitter._reply_to, worker.membership.keys.instance
            assert await forge(evicted, held, token, epoch, reply_to, answerer) == key
        await eventually(lambda: living.refusals.counts["result", Reason.EPOCH_CLOSED.value] >= len(known))
        patient.answer.set()
        with anyio.fail_after(DONE_WITHIN):
            assert [await task.result(str) for task in tasks] == [f"task {n}" for n in range(len(tasks))]


async def test_an_agent_that_was_stopped_over_a_hard_turn_goes_on_by_itself(mesh: RunningMesh) -> None:
    (process,) = [agent for agent in mesh.admitted() if agent.name == "worker-2"]
    pid = mesh.rack.pids()["worker-1"]
    async with joined(mesh, client_identity(mesh)) as desk:
        stopped = desk.membership.clock.now()
        os.kill(pid, signal.SIGSTOP)
        try:
            before = {key for key in desk.membership.held().epochs if key[0] == "worker"}
            await mesh.operators.revoke("instance", process.instance, "test")
            await eventually(
                lambda: before.isdisjoint(desk.membership.held().epochs) and desk.membership.live()
            )
            # Nobody of its role is here to take them: they wait for whoever holds the new epoch's keys.
            tasks = [await desk.context().submit("echo", f"after {number}") for number in range(8)]
            # Stopped for longer than the grace period, it must not take them by what it knew before.
            await eventually(lambda: desk.membership.clock.now() > stopped + desk.membership.grace + SECOND)
        finally:
            os.kill(pid, signal.SIGCONT)
        with anyio.fail_after(DONE_WITHIN):
            assert [await task.result(str) for task in tasks] == [f"after {number}" for number in range(8)]
    # The same process, the same instance: it was admitted once and asked for what it had missed.
    assert mesh.rack.pids()["worker-1"] == pid


async def test_who_holds_proof_that_the_coordinator_said_two_things_stops_and_says_so_once(
    mesh: RunningMesh, caplog: pytest.LogCaptureFixture
) -> None:
    async with relay(mesh) as node:
        assert node.membership.last_beacon is not None
        node.membership.witness.proof = node.membership.last_beacon, b"another"
        await eventually(lambda: "equivocation proved" in caplog.text)
        with pytest.raises(RefusedError, match="not-live"):
            await node.context().submit("echo", "text")
        # It gives up its session, and joins no more: it would be told that all is well.
        await eventually(lambda: node.coordination.coordinator is None)
        beacons = node.refusals.counts["beacon", Reason.EQUIVOCATION.value]
        await eventually(lambda: node.refusals.counts["beacon", Reason.EQUIVOCATION.value] > beacons + 2)
        assert node.coordination.coordinator is None
        assert not node.membership.live()
    told = [record for record in caplog.records if "equivocation proved" in record.getMessage()]
    assert len(told) == 1
    assert standard_b64encode(b"another").decode() in told[0].getMessage()
