"""The shell around submitted tasks: append, wait, hand the end to whoever waits for it."""

from typing import TypeVar

import anyio

from agent_runtime.agent import decode_value
from agent_runtime.errors import TaskFailedError
from agent_runtime.membership import Membership
from agent_runtime.refusals import Refusals
from agent_runtime.submitting import Outcome, Outgoing, Submissions
from schemas.errors import Reason
from schemas.messages import Millis
from schemas.subjects import RESULT_STREAM, Kind, stream_name, subject
from transport import Consumer, ConsumerSpec, Start, Transport

T = TypeVar("T")


class SubmittedTask:
    """A task that the broker acknowledged."""

    def __init__(self, task_id: bytes) -> None:
        self.id = task_id
        self._ended = anyio.Event()
        self._outcome: Outcome | None = None

    async def result(self, kind: type[T]) -> T:
        """Wait for the end: return its value, or raise `TaskFailedError`."""
        await self._ended.wait()
        if self._outcome is None:
            raise TaskFailedError(Reason.UNAVAILABLE, "the submitter was closed")
        if self._outcome.failure is not None:
            raise self._outcome.failure
        return decode_value(self._outcome.value, kind)

    def end(self, outcome: Outcome | None) -> None:
        """Hand over how it ended."""
        self._outcome = outcome
        self._ended.set()


class Submitter:
    """Submits tasks and collects their results."""

    def __init__(
        self,
        submissions: Submissions,
        membership: Membership,
        transport: Transport,
        refusals: Refusals,
        reply_to: bytes,
    ) -> None:
        self._submissions = submissions
        self._membership = membership
        self._transport = transport
        self._refusals = refusals
        self._reply_to = reply_to
        self._waiting: dict[bytes, SubmittedTask] = {}

    async def submit(
        self,
        task_class: str,
        payload: bytes,
        *,
        lifetime: Millis | None,
        priority: int,
        affinity: str | None,
    ) -> SubmittedTask:
        """Submit; return once the broker has acknowledged the task."""
        pending, outgoing = self._submissions.submit(
            task_class, payload, lifetime=lifetime, priority=priority, affinity=affinity
        )
        task = self._waiting[pending.task_id] = SubmittedTask(pending.task_id)
        try:
            await self._append(outgoing)
        except BaseException:
            self._submissions.cancel(pending.task_id)
            self._waiting.pop(pending.task_id, None)
            raise
        return task

    async def collect(self) -> None:
        """Read results for as long as the process lives."""
        mesh = self._membership.mesh
        spec = ConsumerSpec(
            stream=stream_name(mesh.id, RESULT_STREAM),
            subject=subject(mesh.id, Kind.RESULT, self._reply_to),
            durable=f"reply-{self._reply_to.hex()}",
            start=Start.ALL,
        )
        consumer: Consumer = await self._transport.consume(spec)
        try:
            async for delivery in consumer:
                with self._refusals.at("result"):
                    self._end(self._submissions.result(delivery.payload))
                # Refused or not, it has been read: a damaged one is asked for again by its task's id.
                await delivery.ack()
        finally:
            await consumer.close()

    async def sweep(self) -> None:
        """End what expired; send again what has to be."""
        ended, again = self._submissions.sweep()
        for outcome in ended:
            self._end(outcome)
        for outgoing in again:
            with self._refusals.at("resend"):
                await self._append(outgoing)

    def close(self) -> None:
        """Let go of everybody who waits."""
        for task in self._waiting.values():
            task.end(None)
        self._waiting.clear()

    async def _append(self, outgoing: Outgoing) -> None:
        await self._transport.append(outgoing.subject, outgoing.payload, message_id=outgoing.message_id)

    def _end(self, outcome: Outcome) -> None:
        task = self._waiting.pop(outcome.task_id, None)
        if task is not None:
            task.end(outcome)
