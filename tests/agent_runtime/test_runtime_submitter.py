"""What a client's next process collects: what the former one took, and what comes while it is not live."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from agent_runtime import TaskFailedError
from agent_runtime.journal import Sent, open_journal
from agent_runtime.refusals import Refusals
from agent_runtime.submitter import Submitter
from agent_runtime.submitting import Submissions
from scheduler.service import streams
from schemas.errors import Reason
from schemas.limits import GRACE
from schemas.subjects import RESULT_STREAM, Kind, stream_name, subject
from tests.agent_runtime.test_runtime_submitting import answer
from tests.agent_runtime.world import REPLY_TO, STORED, Member, beat, client, enclave, mesh_up
from tests.coordinator.world import World, seeded
from transport import ConsumerSpec, MemoryBroker, Transport

pytestmark = pytest.mark.anyio

ACK_WAIT = ConsumerSpec(stream="", subject="").ack_wait


class Liveness:
    """Stands in for the node's `wait_live`."""

    def __init__(self) -> None:
        self.asked, self.live = anyio.Event(), anyio.Event()

    async def wait(self) -> None:
        self.asked.set()
        await self.live.wait()


@dataclass
class Resumed:
    """The next process of a client that has submitted one task, and the task's result in the stream."""

    world: World
    desk: Member
    planner: Member
    transport: Transport
    submitter: Submitter
    liveness: Liveness

    async def ends(self) -> None:
        """Return when the task has ended by its result."""
        (task,) = self.submitter.resumed()
        with pytest.raises(TaskFailedError) as failure:
            await task.result(bytes)
        assert failure.value.reason is Reason.HANDLER_FAILED


def drawn(size: int) -> bytes:
    return {len(STORED): STORED, len(REPLY_TO): REPLY_TO}[size]


@pytest.fixture
async def resumed(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Resumed]:
    world, _ = mesh_up()
    desk, planner = client(world), enclave(world, "planner")
    mesh = world.mesh.id
    pending, outgoing = desk.submissions.submit("plan", b"payload")
    frame = answer(planner, outgoing, reason=Reason.HANDLER_FAILED.value)
    path, key = tmp_path / "journal", desk.membership.keys.signing.public
    async with MemoryBroker().connect(name="desk") as transport:
        for spec in streams(mesh):
            await transport.ensure_stream(spec)
        await transport.append(subject(mesh, Kind.RESULT, REPLY_TO), frame, message_id="1")
        with open_journal(path, mesh, key, now=world.now, random=drawn) as journal:
            times = pending.issued, pending.expires
            journal.sent(Sent(pending.task_id, "plan", "label", *times, outgoing.token))
            submissions = Submissions(
                desk.membership, desk.gate, reply_to=REPLY_TO, stored_secret=STORED, random=seeded(99)
            )
            liveness = Liveness()
            submitter = Submitter(
                submissions, desk.membership, transport, Refusals(), REPLY_TO, liveness.wait, journal
            )
            yield Resumed(world, desk, planner, transport, submitter, liveness)


async def test_result_that_a_killed_process_took_comes_to_the_next_before_the_broker_gives_it_up(
    resumed: Resumed,
) -> None:
    mesh = resumed.world.mesh.id
    former = await resumed.transport.consume(
        ConsumerSpec(
            stream=stream_name(mesh, RESULT_STREAM),
            subject=subject(mesh, Kind.RESULT, REPLY_TO),
            durable=f"reply-{REPLY_TO.hex()}",
        )
    )
    await anext(former)
    resumed.liveness.live.set()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(resumed.submitter.collect)
        with anyio.fail_after(ACK_WAIT / 2):
            await resumed.ends()
        tasks.cancel_scope.cancel()


async def test_result_that_comes_while_not_live_is_not_lost_to_who_cannot_ask_again(
    resumed: Resumed,
) -> None:
    resumed.world.now += GRACE + 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(resumed.submitter.collect)
        with anyio.fail_after(ACK_WAIT / 2):
            await resumed.liveness.asked.wait()
            beat(resumed.world, resumed.desk, resumed.planner, after=0)
            resumed.liveness.live.set()
            await resumed.ends()
        tasks.cancel_scope.cancel()
