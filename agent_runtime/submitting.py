"""The submitter's side of tasks: what is under way, under which keys its result may come.

Pure. A task ends here as done, failed or expired, whatever the broker and the scheduler do: its own
deadline sees to that. One whose epoch closed, or whose result stays away, is sealed again under the same
task id, so that whoever ran it answers with the kept result. What a former process of a client submitted
is taken up by its id: without the payload it can be waited for, and not be sealed again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from agent_runtime.errors import RefusedError, TaskFailedError
from agent_runtime.gate import Gate
from agent_runtime.membership import Membership
from agent_runtime.seen import content_digest
from schemas import codec
from schemas.errors import Reason, UsageError
from schemas.limits import GRACE, MAX_MESSAGE, SECOND
from schemas.messages import CLIENT, Millis, ResultBody, TaskBody
from schemas.scheduling import TaskHints, TaskMessage
from schemas.subjects import Kind, subject
from sealing.erasure import erase_on_fork
from sealing.errors import NotAuthenticError, SealingError
from sealing.results import (
    CLIENT_EPOCH,
    client_reply_key,
    derived_task_id,
    open_result,
    parse_header,
    role_reply_key,
)

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
    payload: bytes | None  # None: a former process had it
    issued: Millis
    expires: Millis
    priority: int
    affinity: str | None
    # By the token that it was sealed under and the own role's epoch: a result of either sealing ends it.
    replies: dict[tuple[bytes, int], bytes] = field(default_factory=dict, repr=False)
    sends: int = 0
    resend_at: Millis = 0
    taken_up: Millis | None = None  # when this process first looked after what a former one submitted

    def __repr__(self) -> str:
        size = "of a former process" if self.payload is None else f"{len(self.payload)} bytes"
        return f"Pending({self.task_id.hex()}, {self.task_class}, {size})"

    def is_over(self, now: Millis) -> bool:
        """Tell whether no result is waited for any more."""
        if self.payload is not None:
            return now >= self.expires
        if self.taken_up is None:
            self.taken_up = now
        # What came while nobody was there is read first, although its time may have passed meanwhile.
        return now >= max(self.expires, self.taken_up + GRACE)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A task message to append to the stream."""

    subject: str
    payload: bytes
    message_id: str
    task_id: bytes
    token: bytes  # of the epoch that it is sealed under


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended. `reason` None is done."""

    task_id: bytes
    value: bytes
    failure: TaskFailedError | None
    worker: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """One handler's run on a task, and how often it submitted the same for it."""

    task_id: bytes
    submitted: Counter[bytes] = field(default_factory=Counter)  # by content


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
        origin: Origin | None = None,
    ) -> tuple[Pending, Outgoing]:
        """Seal a new task, or raise what forbids it.

        For a task that is being worked on, its `origin`, the id is derived: another instance that works on
        it again submits the same task, and gets the result that is kept, or under way.
        """
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
            self._task_id(origin, content_digest(task_class, payload), now),
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

    def take_up(
        self, task_id: bytes, task_class: str, *, issued: Millis, expires: Millis, tokens: Iterable[bytes]
    ) -> None:
        """Wait for what a former process of this client submitted, sealed under the epochs of `tokens`."""
        self._pending[task_id] = Pending(
            task_id,
            task_class,
            None,
            issued,
            expires,
            priority=0,
            affinity=None,
            replies={(token, CLIENT_EPOCH): self._client_key(token, task_id) for token in tokens},
        )

    def kept(self, task_id: bytes, frame: bytes) -> Outcome:
        """Open a result that a former process of this client took, and wrote down as it came."""
        header = parse_header(self._membership.mesh, frame)
        if header.task_id != task_id:
            raise NotAuthenticError("the result of another task")
        return self._outcome(header.task_id, self._client_key(header.token, task_id), frame)

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
        outcome = self._outcome(header.task_id, key, frame)
        if outcome.worker in self._membership.held().revoked:
            raise SealingError(Reason.INSTANCE_REVOKED)
        if not self._membership.live():
            # Genuine, but who is revoked is not known now: to be shown again once that is.
            raise RefusedError(Reason.NOT_LIVE)
        del self._pending[header.task_id]
        return outcome

    def sweep(self) -> tuple[list[Outcome], list[Outgoing]]:
        """Return the tasks that expired, and those to be sent again."""
        now = self._membership.clock.highest()
        classes = self._membership.held().classes if self._membership.live() else None
        ended: list[Outcome] = []
        again: list[Outgoing] = []
        for pending in list(self._pending.values()):
            if pending.is_over(now):
                ended.append(self._fail(pending, Reason.DEADLINE_PASSED, "no result before the task expired"))
            elif classes is None:
                continue  # not live: nothing leaves
            elif pending.task_class not in classes:
                ended.append(self._fail(pending, Reason.NO_GRANT, "a new policy permits it no more"))
            elif pending.payload is None:
                if not self._opens(pending):
                    detail = "its role's epoch closed, and a former process had its payload: submit it again"
                    ended.append(self._fail(pending, Reason.EPOCH_CLOSED, detail))
            elif now >= pending.resend_at or not self._opens(pending):
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

    def _task_id(self, origin: Origin | None, content: bytes, now: Millis) -> bytes:
        member = self._membership
        if origin is None or member.kind == CLIENT:
            return self._random(16)
        secret = member.keyring.current(member.roles[0], now).reply_secret()
        number = origin.submitted[content]
        origin.submitted[content] += 1
        task_id = derived_task_id(member.mesh, secret, origin.task_id, content, number)
        return self._random(16) if task_id in self._pending else task_id

    def _fail(self, pending: Pending, reason: Reason, detail: str) -> Outcome:
        del self._pending[pending.task_id]
        return Outcome(pending.task_id, b"", TaskFailedError(reason, detail), b"")

    def _outcome(self, task_id: bytes, key: bytes, frame: bytes) -> Outcome:
        body = codec.decode(open_result(self._membership.mesh, key, frame), ResultBody)
        failure = None
        if body.reason:
            reason = Reason(body.reason) if body.reason in set(Reason) else Reason.HANDLER_FAILED
            failure = TaskFailedError(reason, body.detail)
        return Outcome(task_id, body.value, failure, body.worker)

    def _opens(self, pending: Pending) -> bool:
        """Tell whether a result under one of its reply keys would still be taken."""
        return any(self._is_open(pending, token, epoch) for token, epoch in pending.replies)

    def _is_open(self, pending: Pending, token: bytes, own_epoch: int) -> bool:
        member = self._membership
        trust = member.held()
        # An evicted member of the own role knows the reply keys of its epochs: they close with it.
        if member.kind != CLIENT and (member.roles[0], own_epoch) not in trust.epochs:
            return False
        group = trust.classes[pending.task_class].role if pending.task_class in trust.classes else None
        return any(epoch.token == token for epoch in trust.epochs.values() if epoch.group == group)

    def _seal(self, pending: Pending) -> Outgoing:
        if pending.payload is None:
            raise RefusedError(Reason.EPOCH_CLOSED, "a former process had the payload")
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
            # Never one that the broker knows: another instance may have sent a task of this id.
            self._random(16).hex(),
            pending.task_id,
            sealer.token,
        )

    def _reply(self, token: bytes, task_id: bytes, now: Millis) -> Reply:
        member = self._membership
        if member.kind == CLIENT:
            return Reply(self._client_key(token, task_id), CLIENT_EPOCH)
        own = member.keyring.current(member.roles[0], now)
        return Reply(role_reply_key(member.mesh, own.reply_secret(), token, own.epoch, task_id), own.epoch)

    def _client_key(self, token: bytes, task_id: bytes) -> bytes:
        return client_reply_key(self._membership.mesh, self._stored_secret, token, task_id)
