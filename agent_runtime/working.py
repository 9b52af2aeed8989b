"""The shell around tasks that arrive: gate, run, result, and the word to the scheduler.

The result is acknowledged by its stream before the scheduler hears `done`: in between, a crash means
that another instance does the task again, never that it is lost.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
from anyio.abc import TaskGroup

from agent_runtime import handlers
from agent_runtime.agent import Agent, Context
from agent_runtime.copies import Copies, Expiry
from agent_runtime.ending import group_ended, settle
from agent_runtime.errors import HandBackError, RefusedError
from agent_runtime.gate import Gate, OpenedTask
from agent_runtime.handlers import Ended
from agent_runtime.membership import Membership
from agent_runtime.refusals import Refusals
from agent_runtime.seen import SeenTasks, TaskKey
from schemas import codec
from schemas.errors import PeerError, Reason
from schemas.limits import SECOND
from schemas.messages import ResultBody, TaskBody
from schemas.peer import joined
from schemas.scheduling import BACK, DONE, TAKEN, WORKING, Assign, Load, Status, TaskMessage, task_id_of
from schemas.subjects import Kind, subject
from sealing.errors import NotAuthenticError, SealingError
from sealing.results import ResultHeader, seal_result
from transport import Delivery, Transport

HEARTBEAT = 1.0  # seconds between loads: three missed ones make the scheduler look elsewhere
COALESCE = 0.002  # statuses of a burst of small tasks travel in one load
DRAIN_DEADLINE = 2.0  # launchers kill a little later
LEVELS = 7
STATUSES_AT_ONCE = 2_048

ContextFor = Callable[[bytes, str, bytes], Context]


class Working:
    """The tasks of one agent process."""

    def __init__(
        self,
        agent: Agent,
        membership: Membership,
        gate: Gate,
        seen: SeenTasks,
        transport: Transport,
        refusals: Refusals,
        context_for: ContextFor,
        random: Callable[[int], bytes],
    ) -> None:
        self._agent = agent
        self._membership = membership
        self._gate = gate
        self._seen = seen
        self._transport = transport
        self._refusals = refusals
        self._context_for = context_for
        self._random = random
        self._tasks: TaskGroup | None = None
        self._running: dict[TaskKey, Copies] = {}
        self._slots = anyio.CapacityLimiter(agent.concurrency)
        self._statuses: list[Status] = []
        self._news = anyio.Event()
        self._drained = anyio.Event()
        self.draining = False

    def start(self, tasks: TaskGroup) -> None:
        """Run tasks and tell the scheduler in `tasks`."""
        self._tasks = tasks
        tasks.start_soon(self._tell_scheduler)

    async def assigned(self, delivery: Delivery) -> None:
        """Take, or hand back, what the scheduler assigned."""
        with self._refusals.at("assign"):
            assign = codec.decode(delivery.payload, Assign)
            frame = codec.decode(assign.task, TaskMessage).frame
            self._take(frame, assign.dead)

    async def drain(self) -> None:
        """Take nothing new, finish what runs within a bound, and say so."""
        self.draining = True
        self._news.set()
        with anyio.move_on_after(DRAIN_DEADLINE):
            await self._drained.wait()

    def sweep(self) -> None:
        """Forget what expired and does not run any more: forgotten before it ended, it would run twice."""
        highest = self._membership.clock.highest()
        for key in self._running:
            self._seen.extend(key, highest)
        self._seen.forget(highest)

    def _take(self, frame: bytes, dead: bool) -> None:
        task_id = task_id_of(frame)
        full = len(self._running) >= self._agent.concurrency * 2
        # A copy of what is here already needs no room.
        if self._tasks is None or self.draining or (full and not self._holds(task_id)):
            self._say(task_id, BACK)
            return
        try:
            opened = self._gate.task(frame)
        except HandBackError as error:
            self._refusals.note("task", error.reason.value)
            self._say(task_id, BACK)
            return
        except PeerError as error:
            self._refusals.note("task", error.reason.value)
            # The copy may have been damaged on its way here: the stream still has the one that was sent.
            damaged = isinstance(error, NotAuthenticError) or error.reason is Reason.UNSUPPORTED_SUITE
            self._say(task_id, BACK if damaged and not dead else DONE)
            return
        if opened.repeat:
            self._refusals.note("task", Reason.REPLAYED.value)  # not run again, but answered
        copies = self._running.get(opened.key)
        if copies is not None:
            copies.add(opened)
            return
        if full and not opened.repeat:
            # Another sender's task of the same id: given again, it is judged again.
            self._seen.remove(opened.key)
        if full or (opened.entry.overdue and not dead):
            # What was ended when it expired never runs here again; elsewhere it may, for a copy that lives.
            self._say(task_id, BACK)
            return
        self._running[opened.key] = Copies(opened, opened)
        self._say(opened.body.task_id, TAKEN)
        self._tasks.start_soon(partial(self._work, opened, dead))

    async def _work(self, opened: OpenedTask, dead: bool) -> None:
        body = opened.body
        try:
            if opened.entry.body is None:
                async with self._slots:
                    ended = await self._result(opened, dead)
                if ended is None:
                    # What the gate said of it is lost: given again, it is judged again, and whole.
                    self._seen.remove(opened.key)
                    return
                opened.entry.body = codec.encode(ended)
            # Handed back if it cannot be sent: another instance, or this one later, answers.
            state = BACK
            with self._refusals.at("result"):
                if self._gate.may_answer():
                    state = await self._answer(opened, opened.entry.body, dead)
            self._say(body.task_id, state)
        except asyncio.CancelledError:
            if group_ended():
                raise
            # By who kept the task of a handler that has ended.
            self._say(body.task_id, BACK)
        finally:
            del self._running[opened.key]

    def _holds(self, task_id: bytes) -> bool:
        return any(held == task_id for _, held in self._running)

    async def _answer(self, opened: OpenedTask, result: bytes, dead: bool) -> str:
        copies = self._running[opened.key]
        answered: set[tuple[bytes, bytes]] = set()
        while (copy := copies.unanswered(answered)) is not None:
            if opened.entry.overdue and copies.expires > self._gate.now() and not dead:
                # It came when the handler had been told to end: perhaps another instance has time for it.
                return BACK
            if self._gate.may_answer_to(copy):
                await self._send(copy.body, copy.token, result)
        return DONE

    async def _result(self, opened: OpenedTask, dead: bool) -> ResultBody | None:
        body, worker = opened.body, self._membership.keys.instance
        refusal, granted = opened.refusal, opened.granted
        try:
            self._resume(opened)
        except HandBackError as error:
            self._not_begun(opened, error, BACK)
            return None
        except SealingError as error:
            self._not_begun(opened, error, DONE)
            return None
        except RefusedError as error:
            refusal = refusal or error
        if refusal is not None or granted is None:
            refusal = refusal or RefusedError(Reason.NO_GRANT)  # a repeat: it begins nothing
            self._refusals.note("task", refusal.reason.value)
            return ResultBody(worker, refusal.reason.value, refusal.detail, b"")
        if dead:
            return ResultBody(worker, Reason.UNDELIVERABLE.value, "no instance finished it", b"")
        context = self._context_for(body.task_id, opened.sender_role, opened.sender.instance)
        endpoint = self._agent.tasks.get(body.task_class)
        now = self._gate.now()
        ended = await self._until_expired(
            opened, handlers.run(endpoint, granted, body.payload, context, self._refusals, now=now)
        )
        if ended is not None:
            return ResultBody(worker, ended.reason, ended.detail, joined(ended.value))
        self._refusals.note("task", Reason.DEADLINE_PASSED.value)
        return ResultBody(worker, Reason.DEADLINE_PASSED.value, "its handler still ran", b"")

    def _resume(self, opened: OpenedTask) -> None:
        copies = self._running[opened.key]
        try:
            self._gate.resume(opened, copies.latest)
        except SealingError:
            if copies.longest is copies.latest:
                raise
            # What came last may be an older one, that came once more.
            self._gate.resume(opened, copies.longest)

    async def _until_expired(self, opened: OpenedTask, handler: Awaitable[Ended]) -> Ended | None:
        """Return how a handler ended in its own time, or with a value in spite of having been told to end."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a task's handler runs in a task")
        expiry, ended = Expiry(task, lambda: self._remaining(opened.key)), None
        with expiry:
            try:
                ended = await handler
            except asyncio.CancelledError:
                if group_ended():
                    raise
        if task.cancelling():
            await settle(task)
        if expiry.cancelled and (ended is None or ended.reason):
            opened.entry.overdue = True
            return None
        return ended

    def _remaining(self, key: TaskKey) -> float:
        return (self._running[key].expires - self._gate.now()) / SECOND

    def _not_begun(self, opened: OpenedTask, error: PeerError, state: str) -> None:
        self._refusals.note("task", error.reason.value)
        self._say(opened.body.task_id, state)

    async def _send(self, body: TaskBody, token: bytes, result: bytes) -> None:
        header = ResultHeader(token, body.reply_epoch, body.task_id, self._random(16))
        mesh = self._membership.mesh
        frame = seal_result(mesh, body.reply_key, header, result)
        await self._transport.append(
            subject(mesh.id, Kind.RESULT, body.reply_to), frame, message_id=header.salt.hex()
        )

    def _say(self, task_id: bytes, state: str) -> None:
        self._statuses.append(Status(task_id, state))
        self._news.set()

    async def _tell_scheduler(self) -> None:
        while True:
            with anyio.move_on_after(HEARTBEAT):
                await self._news.wait()
                await anyio.sleep(COALESCE)
            self._news = anyio.Event()
            with self._refusals.at("load"):
                await self._send_load()
            if self._statuses:
                self._news.set()
            elif self.draining and not self._running:
                self._drained.set()

    async def _send_load(self) -> None:
        member = self._membership
        if not member.live():
            return
        statuses, self._statuses = (
            self._statuses[:STATUSES_AT_ONCE],
            self._statuses[STATUSES_AT_ONCE:],
        )
        told = {status.task_id for status in statuses}
        running = {task_id for _, task_id in self._running}
        working = [Status(task_id, WORKING) for task_id in running - told]
        classes = [token for name in self._agent.tasks for token in member.names(Kind.TASK, name.encode())]
        busy, capacity = len(self._running), self._agent.concurrency
        instance = member.keys.instance
        closing = self.draining or instance in member.held().quarantined
        load = Load(
            member.names(Kind.ASSIGN, instance)[0],
            tuple(classes),
            0 if closing else max(capacity * 2 - busy, 0),
            min(busy * LEVELS // (capacity * 2), LEVELS),
            (*statuses, *working),
            closing,
        )
        token = member.names(Kind.LOAD, instance)[0]
        await self._transport.publish(subject(member.mesh.id, Kind.LOAD, token), codec.encode(load))
