"""The one gate: nothing runs a handler but what passed here (invariant 4).

Order, for tasks: live, epoch, handle, tag, sender not revoked, id, expiry, not seen, not quarantined; then
grant and constraints. For calls: not seen, live, session's peer not revoked, deadline, not quarantined; then
grant and constraints. For messages the same without id and deadline, which they have not. All of it by one
`Trust`, read once: a policy that comes meanwhile judges what comes after it. What fails before a task is
known to be authentic is an error; what fails after it is the task's result. Constraints on arguments are
about the decoded object: `agent_runtime.handlers` asks the grant that passed here for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from agent_runtime.errors import HandBackError, RefusedError
from agent_runtime.membership import Membership, Moment
from agent_runtime.rates import Rates
from agent_runtime.seen import Entry, SeenTasks, TaskKey, content_digest
from agent_runtime.trust import Trust
from schemas import codec
from schemas.errors import PeerError, Reason
from schemas.granted import Granted, Refusal
from schemas.messages import CLIENT, Millis, TaskBody
from schemas.peer import Call, Send
from schemas.rules import SUBMIT
from sealing.errors import NotAuthenticError, SealingError
from sealing.groups import Sender, frame_token


@dataclass(frozen=True, slots=True)
class OpenedTask:
    """An authentic task. `refusal` says why it may not run; `entry` is its place in the seen-set.

    `granted` is what permits it; without one its handler does not run.
    """

    body: TaskBody
    sender: Sender
    token: bytes
    key: TaskKey
    entry: Entry
    sender_role: str  # by the policy that judged it, whatever comes into force before it has run
    refusal: PeerError | None
    granted: Granted | None
    repeat: bool = False


class Way(msgspec.Struct, frozen=True):
    """Where something of our own may go, and in which own role: the receiver judges it by that one."""

    own_role: str
    role: str
    granted: Granted
    trust: Trust  # by which it was permitted
    now: Millis  # when it was
    others: tuple["Way", ...] = ()  # in the other own roles that permit what it holds

    def of_size(self, size: int) -> "Way":
        """Return the way for an encoded payload of so many bytes, in the first own role that permits it."""
        if size <= self.granted.most and not self.granted.is_timed:
            return self
        refusal = self.granted.refusal(size, self.now)
        if refusal is None:
            return self
        for other in self.others:
            if other.granted.refusal(size, other.now) is None:
                return other
        raise _refused(refusal)


class Gate:
    """Decides what runs. `own_roles` are the roles that this process was admitted with."""

    def __init__(self, membership: Membership, seen: SeenTasks) -> None:
        self._membership = membership
        self._seen = seen
        self._rates = Rates()

    def task(self, frame: bytes) -> OpenedTask:
        """Open a task that was assigned; raise `HandBackError` or a refusal that leaves no trace."""
        member = self._membership
        # 1. Able to take anything at all.
        trust = self._trust_or_hand_back()
        if self._seen.full():
            raise HandBackError(Reason.SEEN_SET_FULL)
        # 2. An open epoch of an own role. A closed one was dropped with its keys.
        opener = member.keyring.opener(frame_token(frame))
        now = member.clock.highest()
        if member.keyring.was_closed(frame_token(frame)) or (opener is not None and now > opener.closes):
            raise SealingError(Reason.EPOCH_CLOSED)
        # In the mesh group anybody claims any role: a task under its key would be entered as that role's.
        if opener is None or opener.group not in trust.admission.roles:
            raise HandBackError(Reason.EPOCH_UNKNOWN)
        # 3. Authentic, from a sender who is not revoked, for the id in its header, unexpired.
        sender, task_id, plain = opener.open_task(frame)
        if sender.instance in trust.revoked:
            raise SealingError(Reason.INSTANCE_REVOKED)
        body = codec.decode(plain, TaskBody)
        if body.task_id != task_id:
            raise NotAuthenticError("task id")
        if now >= body.expires or body.expires > opener.closes:
            raise SealingError(Reason.DEADLINE_PASSED)
        # 4. New. A client's tasks are its own; an enclave's belong to its role.
        sender_role = trust.role_names.get(sender.role_id, "")
        owner = sender.instance if trust.role_kinds.get(sender_role) == CLIENT else b"role:" + sender.role_id
        key = (owner, task_id)
        content = content_digest(body.task_class, body.payload)
        known = self._seen.get(key)
        if known is not None and known.content != content:
            # Task ids are in the clear: an evicted member may have been first with one of its own making.
            raise HandBackError(Reason.REPLAYED)
        if known is not None:
            self._seen.extend(key, body.expires + member.grace)
            # It begins nothing: what is kept is sent whatever is granted now, what runs was judged once.
            return OpenedTask(body, sender, opener.token, key, known, sender_role, None, None, repeat=True)
        if member.keys.instance in trust.quarantined:
            raise HandBackError(Reason.QUARANTINED)
        entry = self._seen.insert(key, body.expires + member.grace, content)
        # 5. Permitted. From here a refusal is the task's result.
        size = len(body.payload)
        try:
            granted = self.permit(
                trust, sender_role, "submit", body.task_class, opener.group, sender.instance, size, now
            )
        except RefusedError as refusal:
            return OpenedTask(body, sender, opener.token, key, entry, sender_role, refusal, None)
        return OpenedTask(body, sender, opener.token, key, entry, sender_role, None, granted)

    def resume(self, first: OpenedTask, latest: OpenedTask) -> None:
        """Ask again before a task begins that waited for a slot since it passed; raise as `task` does.

        By the policy that judged it `first`; but everything that time or a revocation takes away, it has
        lost while it waited, unless its `latest` copy, sealed anew, has it. An instance that was quarantined
        meanwhile finishes what it took.
        """
        trust = self._trust_or_hand_back()
        now = self.now()
        if latest.sender.instance in trust.revoked:
            raise SealingError(Reason.INSTANCE_REVOKED)
        if self._membership.keyring.was_closed(latest.token):
            raise SealingError(Reason.EPOCH_CLOSED)
        if now >= latest.body.expires:
            raise SealingError(Reason.DEADLINE_PASSED)
        granted = first.granted
        refusal = granted.refusal(len(first.body.payload), now) if granted and granted.is_timed else None
        if refusal is not None:
            raise _refused(refusal)

    def may_answer(self) -> bool:
        """Tell whether answers may leave: live, asked again after the handler ran."""
        return self._membership.live()

    def may_answer_to(self, latest: OpenedTask) -> bool:
        """Tell whether the sender of a task may still have its answer.

        Who was evicted knows a closed epoch's reply keys: what is sealed anew gets the kept result.
        """
        member = self._membership
        return latest.sender.instance not in member.held().revoked and not member.keyring.was_closed(
            latest.token
        )

    def call(
        self, peer: bytes, peer_role: str, own_role: str, call: Call, moment: Moment | None = None
    ) -> Granted:
        """Return what permits a tool call that came in an established session, or raise.

        `moment` is for who asked for it and ran nothing else since.
        """
        trust, now = moment or self._membership.require_live_now()
        if peer in trust.revoked:
            raise SealingError(Reason.INSTANCE_REVOKED)
        if now >= call.deadline:
            raise RefusedError(Reason.DEADLINE_PASSED)
        if self._membership.keys.instance in trust.quarantined:
            raise RefusedError(Reason.QUARANTINED, "this instance takes nothing new")
        return self.permit(trust, peer_role, "call", call.tool, own_role, peer, len(call.arguments), now)

    def now(self) -> Millis:
        """Return the time by which grants are judged."""
        return self._membership.clock.highest()

    def messages(self, peer: bytes) -> tuple[Trust, Millis]:
        """Return the trust and the time to judge a peer's one-way messages by for a moment, or raise."""
        trust, now = self._membership.require_live_now()
        if peer in trust.revoked:
            raise SealingError(Reason.INSTANCE_REVOKED)
        if self._membership.keys.instance in trust.quarantined:
            raise RefusedError(Reason.QUARANTINED, "this instance takes nothing new")
        return trust, now

    def message(
        self, trust: Trust, peer: bytes, peer_role: str, own_role: str, message: Send, now: Millis
    ) -> Granted:
        """Return what permits one of them, or raise."""
        return self.permit(trust, peer_role, "send", message.kind, own_role, peer, len(message.payload), now)

    def may_send(self, action: str, what: str, size: int) -> Trust:
        """Permit an own submission before it leaves, or raise."""
        trust, now = self._membership.require_live_now()
        ways = trust.own.get((action, what)) or _own(trust, action, what)
        refusal = ways[0][1].refusal(size, now)  # a submission has one way
        if refusal is not None:
            raise _refused(refusal)
        return trust

    def may_say(self, action: str, what: str, value: Any) -> Way:
        """Permit an own call, message or submission by what it would hold, before it is encoded, or raise.

        The receiver decides: this spares the way to it, and says so where the mistake was made. The way that
        is returned holds for others of the same turn; how large they may be, it is asked for each.
        """
        trust, now = self._membership.require_live_now()
        ways = trust.own.get((action, what)) or _own(trust, action, what)
        refusals: list[Refusal] = []
        permitted: list[Way] = []
        for own_role, granted in ways:
            if granted.checks_arguments and (refusal := granted.of_arguments(value, now)):
                refusals.append(refusal)
            else:
                permitted.append(Way(own_role, granted.audience, granted, trust, now))
        if not permitted:
            raise _refused(refusals[0])
        return replace(permitted[0], others=tuple(permitted[1:])) if len(permitted) > 1 else permitted[0]

    def still(self, way: Way, action: str, what: str, size: int) -> Way:
        """Permit again what goes out again, or raise. What it holds is not here: it was judged by `way`."""
        trust, now = self._membership.require_live_now()
        for own_role, granted in trust.own.get((action, what)) or _own(trust, action, what):
            judged = not granted.checks_arguments or granted.constraints == way.granted.constraints
            if judged and (own_role, granted.audience) == (way.own_role, way.role):
                return Way(own_role, granted.audience, granted, trust, now).of_size(size)
        raise RefusedError(Reason.NO_GRANT, f"to {action} {what}")

    def _trust_or_hand_back(self) -> Trust:
        try:
            return self._membership.require_live()
        except RefusedError as error:
            raise HandBackError(Reason.NOT_LIVE) from error

    def permit(
        self,
        trust: Trust,
        role: str,
        action: str,
        what: str,
        own_role: str,
        peer: bytes,
        size: int,
        now: Millis,
    ) -> Granted:
        """Return the grant by which `peer`, in a role, may do something at an own role now, or raise.

        On the way of every message: one look-up and comparisons. It counts towards the peer's rate.
        """
        granted = trust.grants.get((role, action, what))
        if granted is None or granted.audience != own_role or own_role not in trust.admission.roles:
            raise RefusedError(Reason.NO_GRANT)
        if (size > granted.most or granted.is_timed) and (refusal := granted.refusal(size, now)):
            raise _refused(refusal)
        most = granted.constraints.per_minute
        if most is not None and not self._rates.take(most, (peer, action, what), now):
            raise RefusedError(Reason.CONSTRAINT_VIOLATED, "rate")
        return granted


def _own(trust: Trust, action: str, what: str) -> Sequence[tuple[str, Granted]]:
    """Return the own roles that may do something, with their grants, and have the trust remember them."""
    roles = trust.admission.roles
    ways = []
    for role in roles:
        granted = trust.grants.get((role, action, what))
        if granted is None:
            continue
        # A session is opened in any own role; the handle that seals tasks names one, and is judged by it.
        if action != SUBMIT or len(roles) == 1 or role == _submitter(trust, granted.audience):
            ways.append((role, granted))
    if not ways:
        raise RefusedError(Reason.NO_GRANT, f"to {action} {what}")
    return trust.own.setdefault((action, what), ways)


def _submitter(trust: Trust, group: str) -> str:
    """Return the own role that handles for `group` name: the first that may submit to a foreign one."""
    roles = trust.admission.roles
    if group in roles:
        return roles[0]
    seals = {
        subject
        for (subject, action, _), each in trust.grants.items()
        if action == SUBMIT and each.audience == group
    }
    return next((role for role in roles if role in seals), roles[0])


def _refused(refusal: Refusal) -> RefusedError:
    return RefusedError(refusal.reason, refusal.detail)
