"""The submitter's side of tasks: what is under way, under which keys its result may come.

Pure. A task ends here as done, failed or expired, whatever the broker and the scheduler do: its own
deadline sees to that. One whose epoch closed, or whose result stays away, is sealed again under the same
task id, so that whoever ran it answers with the kept result.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agent_runtime.errors import RefusedError, TaskFailedError
from agent_runtime.gate import Gate
from agent_runtime.membership import Membership
from schemas import codec
from schemas.errors import Reason, UsageError
from schemas.limits import MAX_MESSAGE, SECOND
from schemas.messages import CLIENT, Millis, ResultBody, TaskBody
from schemas.scheduling import TaskHints, TaskMessage
from schemas.subjects import Kind, subject
from sealing.erasure import erase_on_fork
from sealing.errors import NotAuthenticError, SealingError
from sealing.results import CLIENT_EPOCH, client_reply_key, open_result, parse_header, role_reply_key

AFFINITY = "affinity"
RESEND_AFTER = 20 * SECOND  # a result that was lost is asked for again; doubled each time
FRAME_ROOM = 4 * 1024  # header, body fields, tag, hints: what a task message adds to its payload
# Padmé adds up to 12 % below a mebibyte, and the broker's limit counts it.
MAX_PAYLOAD = (MAX_MESSAGE - FRAME_ROOM) * 15 // 17


@dataclass(frozen=True, slots=True)
class Reply:
    """The key that a result has to be sealed under, and the own role's epoch that it derives from."""

    key: bytes = field(repr=False)
    epoch: int


@dataclass(slots=True)
class Pending:
    """One submitted task."""

    task_id: bytes
    task_class: str
    payload: bytes
    issued: Millis
    expires: Millis
    priority: int
    affinity: str | None
    # By the token that it was sealed under and the own role's epoch: a result of either sealing ends it.
    replies: dict[tuple[bytes, int], bytes] = field(default_factory=dict, repr=False)
    sends: int = 0
    resend_at: Millis = 0

    def __repr__(self) -> str:
        return f"Pending({self.task_id.hex()}, {self.task_class}, {len(self.payload)} bytes)"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A task message to append to the stream."""

    subject: str
    payload: bytes
    message_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended. `reason` None is done."""

    task_id: bytes
    value: bytes
    failure: TaskFailedError | None
    worker: bytes


class Submissions:
    """Everything one process has submitted and not yet seen the end of."""

    def __init__(
        self,
        membership: Membership,
        gate: Gate,
        *,
        reply_to: bytes,
        stored_secret: bytes,
        random: Callable[[int], bytes],
    ) -> None:
        self._membership = membership
        self._gate = gate
        self._reply_to = reply_to
        self._stored_secret = stored_secret
        self._random = random
        self._pending: dict[bytes, Pending] = {}
        erase_on_fork(self)

    def __len__(self) -> int:
        return len(self._pending)

    def submit(
        self,
        task_class: str,
        payload: bytes,
        *,
        lifetime: Millis | None = None,
        priority: int = 5,
        affinity: str | None = None,
    ) -> tuple[Pending, Outgoing]:
        """Seal a new task, or raise what forbids it."""
        if not 0 <= priority <= 9:
            raise UsageError(f"a task's priority is 0 to 9, and 9 the most urgent, not {priority}")
        trust = self._gate.may_send("submit", task_class, len(payload))
        if len(payload) > MAX_PAYLOAD:
            raise RefusedError(Reason.TOO_LARGE, f"a task's payload may have {MAX_PAYLOAD} bytes")
        info = trust.classes.get(task_class)
        if info is None:
            raise RefusedError(Reason.NO_GRANT, f"no task class {task_class}")
        now = self._membership.clock.now()
        pending = Pending(
            self._random(16),
            task_class,
            payload,
            now,
            now + min(info.lifetime if lifetime is None else lifetime, info.lifetime),
            priority,
            affinity,
        )
        outgoing = self._seal(pending)
        self._pending[pending.task_id] = pending
        return pending, outgoing

    def result(self, frame: bytes) -> Outcome:
        """Open a result; the first valid one ends its task."""
        header = parse_header(self._membership.mesh, frame)
        pending = self._pending.get(header.task_id)
        if pending is None:
            raise SealingError(Reason.REPLAYED, "no such task is pending")
        key = pending.replies.get((header.token, header.epoch))
        if key is None:
            raise NotAuthenticError("result under another epoch")
        if not self._is_open(pending, header.token, header.epoch):
            raise SealingError(Reason.EPOCH_CLOSED)
        body = codec.decode(open_result(self._membership.mesh, key, frame), ResultBody)
        if body.worker in self._membership.held().revoked:
            raise SealingError(Reason.INSTANCE_REVOKED)
        if not self._membership.live():
            # Genuine, but who is revoked is not known now: it is asked for again once that is.
            pending.resend_at = 0
            raise RefusedError(Reason.NOT_LIVE)
        del self._pending[header.task_id]
        failure = None
        if body.reason:
            reason = Reason(body.reason) if body.reason in set(Reason) else Reason.HANDLER_FAILED
            failure = TaskFailedError(reason, body.detail)
        return Outcome(header.task_id, body.value, failure, body.worker)

    def sweep(self) -> tuple[list[Outcome], list[Outgoing]]:
        """Return the tasks that expired, and those to be sent again."""
        now = self._membership.clock.highest()
        classes = self._membership.held().classes if self._membership.live() else None
        ended: list[Outcome] = []
        again: list[Outgoing] = []
        for pending in list(self._pending.values()):
            if now >= pending.expires:
                ended.append(self._fail(pending, Reason.DEADLINE_PASSED, "no result before the task expired"))
            elif classes is None:
                continue  # not live: nothing leaves
            elif pending.task_class not in classes:
                ended.append(self._fail(pending, Reason.NO_GRANT, "a new policy permits it no more"))
            elif self._must_resend(pending, now):
                try:
                    again.append(self._seal(pending))
                except RefusedError:
                    continue  # no epoch to seal under yet: the next sweep tries again
        return ended, again

    def cancel(self, task_id: bytes) -> None:
        """Forget a task that nobody waits for any more."""
        self._pending.pop(task_id, None)

    def pending(self) -> Iterator[Pending]:
        """Iterate over what has not ended."""
        return iter(self._pending.values())

    def erase(self) -> None:
        """Drop every reply key and what they are derived from."""
        self._stored_secret = b""
        self._pending.clear()

    def secrets(self) -> tuple[bytes, ...]:
        """Return what reply keys are derived from, for `sealing.erasure.held_secrets`."""
        return (self._stored_secret,)

    def _fail(self, pending: Pending, reason: Reason, detail: str) -> Outcome:
        del self._pending[pending.task_id]
        return Outcome(pending.task_id, b"", TaskFailedError(reason, detail), b"")

    def _must_resend(self, pending: Pending, now: Millis) -> bool:
        return now >= pending.resend_at or not any(
            self._is_open(pending, token, epoch) for token, epoch in pending.replies
        )

    def _is_open(self, pending: Pending, token: bytes, own_epoch: int) -> bool:
        member = self._membership
        trust = member.held()
        # An evicted member of the own role knows the reply keys of its epochs: they close with it.
        if member.kind != CLIENT and (member.roles[0], own_epoch) not in trust.epochs:
            return False
        group = trust.classes[pending.task_class].role if pending.task_class in trust.classes else None
        return any(epoch.token == token for epoch in trust.epochs.values() if epoch.group == group)

    def _seal(self, pending: Pending) -> Outgoing:
        member = self._membership
        trust = member.held()
        now = member.clock.now()
        sealer = member.keyring.sealer(trust.classes[pending.task_class].role, now)
        reply = self._reply(sealer.token, pending.task_id, now)
        # It never rises again: whoever ran a copy remembers it only until that copy's expiry.
        pending.expires = min(pending.expires, sealer.closes)
        body = TaskBody(
            pending.task_class,
            pending.task_id,
            pending.issued,
            pending.expires,
            reply.key,
            reply.epoch,
            self._reply_to,
            pending.payload,
        )
        frame = sealer.seal_task(codec.encode(body), pending.task_id)
        pending.replies[sealer.token, reply.epoch] = reply.key
        pending.resend_at = now + (RESEND_AFTER << min(pending.sends, 8))
        pending.sends += 1
        class_token = member.names(Kind.TASK, pending.task_class.encode())[0]
        affinity = None
        if pending.affinity is not None:
            # Keyed like every name: whoever guesses the text must not be able to confirm it.
            affinity = member.names(AFFINITY, pending.affinity.encode("utf-8", "surrogatepass"))[0]
        hints = TaskHints(class_token, pending.priority, body.expires, len(frame).bit_length(), affinity)
        return Outgoing(
            subject(member.mesh.id, Kind.TASK, class_token),
            codec.encode(TaskMessage(hints, frame)),
            f"{pending.task_id.hex()}-{pending.sends}",
        )

    def _reply(self, token: bytes, task_id: bytes, now: Millis) -> Reply:
        member = self._membership
        if member.kind == CLIENT:
            return Reply(client_reply_key(member.mesh, self._stored_secret, token, task_id), CLIENT_EPOCH)
        own = member.keyring.current(member.roles[0], now)
        return Reply(role_reply_key(member.mesh, own.reply_secret(), token, own.epoch, task_id), own.epoch)
