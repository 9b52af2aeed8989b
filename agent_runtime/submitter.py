"""The shell around submitted tasks: append, wait, hand the end to whoever waits for it.

With a journal a client's tasks outlive its process: what is about to be sent is written down first, and a
result before the broker hears that it was read.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from msgspec.structs import replace

from agent_runtime.agent import decode_value
from agent_runtime.errors import TaskFailedError
from agent_runtime.journal import LONGEST_LABEL, Entry, Journal, JournalError, Sent
from agent_runtime.membership import Membership
from agent_runtime.refusals import Refusals
from agent_runtime.submitting import Origin, Outcome, Outgoing, Submissions
from schemas.errors import PeerError, Reason, UsageError
from schemas.messages import Millis
from schemas.subjects import RESULT_STREAM, Kind, stream_name, subject
from transport import Consumer, ConsumerSpec, Start, Transport

T = TypeVar("T")


class SubmittedTask:
    """A task that the broker acknowledged, or that a former process submitted."""

    def __init__(self, task_id: bytes, task_class: str, label: str, journal: Journal | None) -> None:
        self.id, self.task_class, self.label = task_id, task_class, label
        self._journal = journal
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

    def forget(self) -> None:
        """Strike it from the journal: what came of it is in safe hands, and nobody has to ask again."""
        if self._journal is not None:
            self._journal.forget(self.id)

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
        wait_live: Callable[[], Awaitable[None]],
        journal: Journal | None = None,
    ) -> None:
        self._submissions = submissions
        self._membership = membership
        self._transport = transport
        self._refusals = refusals
        self._reply_to = reply_to
        self._wait_live = wait_live
        self._journal = journal
        self._waiting: dict[bytes, SubmittedTask] = {}
        self._resumed = tuple(
            self._take_up(task_id, entry) for task_id, entry in (journal.entries() if journal else {}).items()
        )

    def resumed(self) -> tuple[SubmittedTask, ...]:
        """Return what former processes submitted and nobody forgot, in the order of submission."""
        return self._resumed

    async def submit(
        self,
        task_class: str,
        payload: bytes,
        *,
        lifetime: Millis | None,
        priority: int,
        affinity: str | None,
        label: str,
        origin: Origin | None,
    ) -> SubmittedTask:
        """Submit; return once the broker has acknowledged the task."""
        if len(label) > LONGEST_LABEL:
            raise UsageError(f"a task's label may have {LONGEST_LABEL} characters")
        pending, outgoing = self._submissions.submit(
            task_class, payload, lifetime=lifetime, priority=priority, affinity=affinity, origin=origin
        )
        task_id = pending.task_id
        task = self._waiting[task_id] = SubmittedTask(task_id, task_class, label, self._journal)
        try:
            if self._journal is not None:
                times = pending.issued, pending.expires
                self._journal.sent(Sent(task_id, task_class, label, *times, outgoing.token))
            await self._append(outgoing)
        except BaseException:
            self._submissions.cancel(task_id)
            self._waiting.pop(task_id, None)
            raise
        return task

    async def collect(self) -> None:
        """Read results for as long as the process lives."""
        mesh = self._membership.mesh
        spec = ConsumerSpec(
            stream=stream_name(mesh.id, RESULT_STREAM),
            subject=subject(mesh.id, Kind.RESULT, self._reply_to),
            durable=f"reply-{self._reply_to.hex()}",
            sole=True,  # a journal is one process's at a time, and without one the name is this process's own
            start=Start.ALL,
        )
        consumer: Consumer = await self._transport.consume(spec)
        try:
            async for delivery in consumer:
                # Only who is live knows whose worker is revoked, and what a former process of a client
                # submitted cannot be asked for again: the broker keeps it until then.
                await self._wait_live()
                with self._refusals.at("result"):
                    outcome = self._submissions.result(delivery.payload)
                    if self._journal is not None:
                        self._journal.ended(outcome.task_id, delivery.payload)
                    self._end(outcome)
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
            self._note_again(outgoing)
            with self._refusals.at("resend"):
                await self._append(outgoing)

    def close(self) -> None:
        """Let go of everybody who waits."""
        for task in self._waiting.values():
            task.end(None)
        self._waiting.clear()

    def _take_up(self, task_id: bytes, entry: Entry) -> SubmittedTask:
        last = entry.sent[-1]
        task = SubmittedTask(task_id, last.task_class, last.label, self._journal)
        if entry.ended is not None:
            try:
                task.end(self._submissions.kept(task_id, entry.ended.frame))
            except PeerError as error:
                raise JournalError(f"the journal's result of task {task_id.hex()} is damaged") from error
            return task
        tokens = [sent.token for sent in entry.sent]
        times = {"issued": last.issued, "expires": last.expires}
        self._submissions.take_up(task_id, last.task_class, tokens=tokens, **times)
        self._waiting[task_id] = task
        return task

    def _note_again(self, outgoing: Outgoing) -> None:
        # A result under the new epoch must be opened by whoever takes this up.
        entry = self._journal.entry(outgoing.task_id) if self._journal is not None else None
        if self._journal is not None and entry is not None and entry.sent[-1].token != outgoing.token:
            self._journal.sent(replace(entry.sent[-1], token=outgoing.token))

    async def _append(self, outgoing: Outgoing) -> None:
        await self._transport.append(outgoing.subject, outgoing.payload, message_id=outgoing.message_id)

    def _end(self, outcome: Outcome) -> None:
        task = self._waiting.pop(outcome.task_id, None)
        if task is not None:
            task.end(outcome)
