"""What peers ask of this process: their calls and messages through the gate, to a handler, and back.

A call's handler ends when its caller cancels or its deadline passes, and then nobody is answered. Messages
are never answered: one that is refused, or for which there is no room, is counted and gone. A repeat of a
call costs its sender next to nothing and has an answer of any size: of such answers only so many leave.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from anyio.abc import TaskGroup

from agent_runtime.agent import Context
from agent_runtime.gate import Gate
from agent_runtime.handlers import Begin, Ended
from agent_runtime.membership import Membership, Moment
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import Link
from agent_runtime.pool import Job, Pool
from agent_runtime.refusals import Refusals
from agent_runtime.requests import RequestMemory
from schemas.errors import PeerError, Reason
from schemas.granted import Granted
from schemas.limits import KEPT_PER_TURN, SECOND
from schemas.peer import APART, Call, Encoded, Reply, Send, encode_message, encode_with

AT_ONCE = 256  # handlers that run together
WAITING = 1_024  # more calls than these are answered `unavailable`, more messages are dropped
# Messages of a frame that may be judged by one look at the clock: as many handlers, each so quick that the
# last look saw no time pass, outlive what permitted them. Of handlers that take time each is looked at.
LOOK_MOST = 8

ServeCall = Callable[[Link, Call, Granted], Awaitable[Ended]]
# The messages of one frame have one context: what a handler may do for whoever sent them.
ContextOf = Callable[[Link], Context]
TakeMessage = Callable[[str, Granted, Context], Begin]


class Serving:
    """The handlers of one process that peers have set going."""

    def __init__(
        self,
        membership: Membership,
        gate: Gate,
        requests: RequestMemory,
        outgoing: Outgoing,
        refusals: Refusals,
        serve: ServeCall,
        take: TakeMessage,
        context: ContextOf,
    ) -> None:
        self._clock = membership.clock
        self._gate = gate
        self._requests = requests
        self._outgoing = outgoing
        self._refusals = refusals
        self._serve = serve
        self._take = take
        self._context = context
        self._pool = Pool(AT_ONCE, WAITING)
        # By peer and request: no peer can cancel what is another's. What is here stays until it has ended:
        # a handler may take its time after it was told to end, and its id must not run beside it.
        self._running: dict[tuple[bytes, bytes], tuple[Job, asyncio.TimerHandle]] = {}
        requests.running = self._running
        # What was said again in a turn, and its bytes.
        self._again: set[tuple[Link, bytes]] = set()
        self._again_bytes, self._again_of = 0, -1
        self._tasks: TaskGroup | None = None
        self._breathing = False
        self._moment: Moment | None = None  # of the call that is offered: for the handler that begins at once

    def start(self, tasks: TaskGroup) -> None:
        """Run handlers in `tasks`."""
        self._tasks = tasks
        self._pool.start(tasks)

    def called(self, link: Link, call: Call, moment: Moment | None = None) -> None:
        """Run the handler of a call, or answer a repeat with what was answered first.

        `moment` is for who asked for it and ran nothing else since.
        """
        peer, request = link.peer.subject, call.request
        try:
            # Until its deadline, and not only for as long as the peer is admitted now: it may be renewed.
            kept = self._requests.begin(peer, request, until=call.deadline, now=link.received)
        except PeerError as refusal:
            if (peer, request) in self._running:
                # Answered when it has ended: who calls for long asks now and then.
                self._refusals.note("call", "under-way")
                return
            self._refusals.caught("call", refusal)
            self._say_again(link, request, encode_message(_refusal(call, refusal.reason, refusal.detail)))
            return
        if kept is not None:
            self._say_again(link, request, kept)
            return
        self._moment = moment
        job = self._pool.offer(partial(self._run, link, call))
        self._moment = None
        if job is None:
            busy = encode_message(_refusal(call, Reason.UNAVAILABLE, "too many calls are waiting"))
            self._requests.finish(peer, request, busy)
            self._outgoing.say(link, busy)
        elif not job.done:
            remaining = max(call.deadline - self._clock.now(), 0) / SECOND
            key = (peer, request)
            timer = asyncio.get_running_loop().call_later(remaining, self._overdue, key)
            self._running[key] = job, timer

    def cancelled(self, link: Link, request: bytes) -> None:
        """End the handler of a call whose answer nobody waits for."""
        self._end((link.peer.subject, request))

    def sent(self, link: Link, messages: Sequence[Send]) -> None:
        """Run the handlers of messages that nobody answers."""
        if self._pool.offer(partial(self._heed, link, messages)) is None:
            for _ in messages:
                self._refusals.note("message", Reason.UNAVAILABLE.value)

    def _overdue(self, key: tuple[bytes, bytes]) -> None:
        self._refusals.note("call", Reason.DEADLINE_PASSED.value)
        self._end(key)

    def _end(self, key: tuple[bytes, bytes]) -> None:
        running = self._running.get(key)
        if running is not None:
            job, timer = running
            timer.cancel()
            job.cancel()
            if not job.begun:
                del self._running[key]

    def _say_again(self, link: Link, request: bytes, answer: Encoded) -> None:
        """Answer a repeat, or do not: it will be asked again."""
        outgoing = self._outgoing
        if outgoing.congested and not self._breathing and self._tasks is not None:
            # Somebody has to wait for the broker, or nobody would see that it reads: often it does.
            self._breathing = True
            self._tasks.start_soon(self._say_later, link, answer)
            return
        if self._again_of != outgoing.ended:
            self._again.clear()
            self._again_bytes, self._again_of = 0, outgoing.ended
        if (
            outgoing.waiting
            or self._breathing
            or (link, request) in self._again
            or self._again_bytes + len(answer) > KEPT_PER_TURN
        ):
            self._refusals.note("repeat", "flood")
            return
        self._again.add((link, request))
        self._again_bytes += len(answer)
        outgoing.say(link, answer)

    async def _say_later(self, link: Link, answer: Encoded) -> None:
        await self._outgoing.room()
        self._breathing = False
        self._outgoing.say(link, answer)

    async def _run(self, link: Link, call: Call) -> None:
        peer, moment = link.peer.subject, self._moment
        try:
            try:
                granted = self._gate.call(peer, link.peer_role, link.own_role, call, moment)
            except PeerError as refusal:
                self._refusals.caught("call", refusal)
                answer: Encoded = encode_message(_refusal(call, refusal.reason, refusal.detail))
            else:
                ended = await self._serve(link, call, granted)
                value = ended.value
                if isinstance(value, bytes) and len(value) < APART:
                    answer = encode_message(Reply(call.request, ended.reason, ended.detail, value))
                else:
                    answer = encode_with(Reply(call.request, ended.reason, ended.detail, b""), value)
            self._requests.finish(peer, call.request, answer)
            if self._outgoing.congested:
                await self._outgoing.room()
            # A handler that would not end when it was told to, or held up everybody, answers nobody. Whether
            # an answer may leave at all, the session is asked when it seals it.
            self._clock.now()
            if self._clock.latest < call.deadline:
                self._outgoing.say(link, answer)
            else:
                self._refusals.note("reply", Reason.DEADLINE_PASSED.value)
        finally:
            running = self._running.pop((peer, call.request), None)
            if running is not None:
                running[1].cancel()

    async def _heed(self, link: Link, messages: Sequence[Send]) -> None:
        peer, peer_role, own_role = link.peer.subject, link.peer_role, link.own_role
        with self._refusals.at("message"):
            (trust, now), context = self._gate.messages(peer), self._context(link)
            kind, granted, look, apart = "", None, 2, 1
            for index, message in enumerate(messages, 1):
                if index == look:
                    held, taken = trust, now
                    trust, now = self._gate.messages(peer)
                    apart = 1 if now != taken else min(2 * apart, LOOK_MOST)
                    look += apart
                    if now != taken or trust is not held:
                        granted = None
                # Where a grant neither counts nor looks at the clock, one answer is that for all of its kind.
                if granted is None or message.kind != kind or len(message.payload) > granted.most:
                    try:
                        granted = self._gate.message(trust, peer, peer_role, own_role, message, now)
                    except PeerError as refusal:
                        self._refusals.note("message", refusal.reason.value)
                        granted = None
                        continue
                    kind = message.kind if granted.constraints.per_minute is None else ""
                    begin = self._take(message.kind, granted, context)
                rest = begin(message.payload, now)
                if rest is None:
                    continue
                # One that waits keeps nobody else waiting: what came with it goes to another worker.
                if index < len(messages):
                    self.sent(link, messages[index:])
                await rest
                return


def _refusal(call: Call, reason: Reason, detail: str) -> Reply:
    return Reply(call.request, reason.value, detail, b"")
