"""A connection to NATS that comes back: subscriptions, requests and what was published meanwhile included.

States: connected, or looking for a broker without end. Only `close` and a bug end it.
"""

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import anyio
import msgspec

from schemas.errors import UsageError
from schemas.limits import MAX_MESSAGE
from transport.access import DEFAULT_INBOX
from transport.errors import ClosedError, FullError, NotPermittedError, TooLargeError, UnavailableError
from transport.interface import DEFAULT_DEADLINE, HEADER_ROOM, OUTAGE_BUFFER, OnState, Pace, State, Taker
from transport.lifetime import Workers
from transport.nats_protocol import (
    Answer,
    parse_refusal,
    publish_frame,
    subscribe_frame,
    unsubscribe_frame,
)
from transport.nats_requests import Requests
from transport.nats_wire import Route, Wire, check_seed, check_url
from transport.subjects import check_name

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
# A silent broker is found out within KEEPALIVE + PING_TIMEOUT.
KEEPALIVE = 10.0
PING_TIMEOUT = 5.0
PING_MOST = 60.0  # while the broker takes what is before the PING, over a slow line
# Closing waits while the broker takes what was sent: so long in all, and with so long a pause.
CLOSE_MOST, CLOSE_PAUSE = 30.0, 5.0
REFUSED_MOST = (
    4_096  # subjects of a kind that are remembered and logged: a broker can refuse what nobody asked
)
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 5.0


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """An NKey account of the broker: admission to the broker, never an identity in the mesh."""

    seed: str
    inbox: str = DEFAULT_INBOX

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_name(self.inbox)

    def __repr__(self) -> str:
        return f"Credentials(inbox={self.inbox!r})"


class Dependent(Protocol):
    """Who must know when the connection is new or gone for good."""

    def reconnected(self) -> None: ...

    def end(self, error: ClosedError) -> None: ...


class NatsSession:
    """What every operation of the NATS transport is made of."""

    def __init__(
        self,
        urls: list[str],
        name: str,
        credentials: Credentials | None,
        on_state: OnState | None,
        tasks: Workers,
        pace: Pace | None = None,
    ) -> None:
        if not urls:
            raise UsageError("connect needs the URL of a broker, for example nats://127.0.0.1:4222")
        for url in urls:
            check_url(url)
        self.state = State.DISCONNECTED
        self.max_payload = 0
        self.dependents: set[Dependent] = set()
        self.readers: list[Callable[[], None]] = []
        # What the broker has refused, lower-cased as the parser gives it.
        self.refused_publishes: set[str] = set()
        self.refused_filters: set[str] = set()
        self.inbox = f"{credentials.inbox if credentials else DEFAULT_INBOX}.{self.new_token()}"
        self._urls = deque(urls)
        self._name = name
        self._seed = credentials.seed if credentials else None
        self._on_state = on_state
        self._pace = pace
        self._tasks = tasks
        self.wire: Wire | None = None
        self._connected = asyncio.Event()
        self._routes: dict[int, Route] = {}
        self._takers: dict[int, Taker] = {}
        self._interests: dict[int, tuple[str, str | None]] = {}
        self._next_sid = 0
        self._outage: deque[bytes] = deque()
        self._outage_bytes = 0
        self._requests = Requests(self.inbox)
        self.add_route(self._requests.filter, None, self._requests.route)

    async def start(self, patience: float) -> None:
        """Connect for the first time."""
        with anyio.move_on_after(patience) as scope:
            await self._connect(first=True)
        if scope.cancelled_caught:
            raise UnavailableError(f"no broker answered within {patience:g} s")
        self._tasks.spawn(self._supervise)

    async def wait_connected(self) -> None:
        """Return once the broker is there."""
        self.check_open()
        await self._connected.wait()
        self.check_open()

    async def close(self) -> None:
        """Send what is buffered while the broker takes it, end everything. More calls do nothing."""
        if self.state is State.CLOSED:
            return
        closed = ClosedError("the transport was closed")
        for dependent in self.dependents:
            dependent.end(closed)
        self._set_state(State.CLOSED)
        self._connected.set()
        self._requests.fail_all()
        # A handler may be the one who closes: its own scope must not keep the rest from happening.
        with anyio.CancelScope(shield=True):
            self._tasks.end()
            await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        wire = self.wire
        if wire is None:
            if self._outage:
                count, size = len(self._outage), self._outage_bytes
                log.warning("%s: lost: %d messages, %d bytes, kept for a broker", self._name, count, size)
            return
        loop, was_lost = asyncio.get_running_loop(), wire.is_lost
        end = loop.time() + CLOSE_MOST
        try:
            # The first answer comes after whatever was on its way here, the second after our answers to that.
            await wire.ping(CLOSE_PAUSE, CLOSE_MOST)
            await wire.ping(CLOSE_PAUSE, end - loop.time())
        except UnavailableError:
            if was_lost and not wire.left:
                log.info("%s: the broker was gone before the connection was closed", self._name)
            else:
                log.warning(
                    "%s: lost, maybe: %d bytes that the broker has not taken, and what it had not read",
                    self._name,
                    wire.left,
                )
        self.wire = None
        await wire.abandon()

    def check_open(self) -> None:
        """Raise `ClosedError` after `close`."""
        if self.state is State.CLOSED:
            raise ClosedError("the transport was closed")

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` until it ends or the session does; what it raises ends the session's owner."""
        self._tasks.spawn(work)

    def new_token(self) -> str:
        """Make a subject token that nobody else uses."""
        return secrets.token_hex(11)

    def add_route(self, subject: str, queue: str | None, route: Route) -> int:
        """Subscribe; returns at once with an id."""
        sid = self._add_interest(subject, queue)
        self._routes[sid] = route
        return sid

    def add_taker(self, subject: str, taker: Taker) -> int:
        """Subscribe for who needs only the payload, and that within the read; returns at once with an id."""
        sid = self._add_interest(subject, None)
        self._takers[sid] = taker
        return sid

    def _add_interest(self, subject: str, queue: str | None) -> int:
        self._next_sid += 1
        sid = self._next_sid
        self._interests[sid] = (subject, queue)
        if self.wire is not None:
            self.wire.send(subscribe_frame(subject, queue, sid))
        return sid

    def remove_route(self, sid: int) -> None:
        """Unsubscribe; what is on its way reaches nobody."""
        self._routes.pop(sid, None)
        self._takers.pop(sid, None)
        self.retire_route(sid)

    def retire_route(self, sid: int, late: Route | None = None) -> None:
        """Unsubscribe; what is on its way goes to `late`, until `forget_late`."""
        self._interests.pop(sid, None)
        if late is not None:
            self._routes[sid] = late
        wire = self._live()
        if wire is not None:
            wire.send(unsubscribe_frame(sid))

    async def forget_late(self, sid: int) -> None:
        """Wait until nothing can be on its way to a retired route, and forget it."""
        wire = self._live()
        if wire is not None:
            try:
                await wire.ping(PING_TIMEOUT, PING_MOST)
            except UnavailableError:
                self._drop(wire)
        self._routes.pop(sid, None)

    def post_now(self, subject: str, payload: bytes) -> None:
        """Do as `hand_over` for what is small and seldom enough to need no backpressure."""
        self.check_open()
        self.hand_over(publish_frame(subject, payload))

    def hand_over(self, frame: bytes) -> bool:
        """Send now, or keep for the broker's return, or raise `FullError`; True asks to `breathe`."""
        wire = self._live()
        if wire is None:
            self._keep(frame)
            return False
        return wire.send(frame)

    def keep(self, frame: bytes) -> None:
        """Keep a command for the broker's return, where there is no wire that works; raise if nothing can."""
        self.check_open()
        self._live()
        self._keep(frame)

    async def breathe(self) -> None:
        """Wait while the broker does not read."""
        wire = self._live()
        if wire is not None:
            await wire.breathe()

    def tell(self, subject: str, payload: bytes, reply: str = "") -> bool:
        """Send if the broker is there; say whether it was."""
        return self._send(publish_frame(subject, payload, reply))

    async def ask(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, deadline: float
    ) -> Answer:
        """Send a request that may safely arrive twice, and wait for the answer."""
        self.check_open()
        return await self._requests.ask(subject, payload, headers, self._send, deadline)

    async def api(self, command: str, body: dict[str, Any]) -> Answer:
        """Ask JetStream's API."""
        return await self.ask(f"$JS.API.{command}", msgspec.json.encode(body), None, DEFAULT_DEADLINE)

    async def settle(self) -> None:
        """Wait until a broker has read all that was sent and kept, subscriptions included."""
        while True:
            await self.wait_connected()
            wire = self._live()
            if wire is None:
                continue
            try:
                await wire.ping(PING_TIMEOUT, PING_MOST)
            except UnavailableError:
                self._drop(wire)
            else:
                self.check_open()
                return

    async def _supervise(self) -> None:
        wire, loop = self.wire, asyncio.get_running_loop()
        backoff = FIRST_BACKOFF
        while wire is not None:
            begun = loop.time()
            await self._until_lost(wire)
            self._drop(wire)
            await wire.abandon()
            if loop.time() - begun >= KEEPALIVE:
                backoff = FIRST_BACKOFF
            else:
                # A broker that takes connections and does not keep them is asked ever less often, too.
                await _pause(backoff)
                backoff = min(2 * backoff, LAST_BACKOFF)
            wire = await self._connect(first=False)

    def _drop(self, wire: Wire) -> None:
        if self.wire is wire and self.state is not State.CLOSED:
            self.wire = None
            self._connected.clear()
            self._set_state(State.DISCONNECTED)

    def _live(self) -> Wire | None:
        # A wire is lost a moment before the supervisor hears of it; what is sent meanwhile must be kept.
        if self.wire is not None and self.wire.is_lost:
            self._drop(self.wire)
        return self.wire

    async def _until_lost(self, wire: Wire) -> None:
        while not wire.is_lost:
            with anyio.move_on_after(KEEPALIVE):
                await wire.lost.wait()
                return
            try:
                await wire.ping(PING_TIMEOUT, PING_MOST)
            except UnavailableError:
                log.info("%s: the broker is silent", self._name)

    async def _connect(self, *, first: bool) -> Wire:
        backoff = FIRST_BACKOFF
        while True:
            wire = Wire(self._routes, self._takers, self._on_refused, self.readers, self._pace)
            try:
                await wire.open(self._urls[0], name=self._name, seed=self._seed, patience=CONNECT_TIMEOUT)
                await self._adopt(wire)
                return wire
            except (NotPermittedError, TooLargeError) as error:
                if first:
                    raise
                log.warning("%s: %s", self._name, error)
            except UnavailableError:
                log.debug("%s: no broker yet", self._name)
            finally:
                if self.wire is not wire:
                    with anyio.CancelScope(shield=True):
                        await wire.abandon()
            self._urls.rotate(-1)
            await _pause(backoff)
            backoff = min(2 * backoff, LAST_BACKOFF)

    async def _adopt(self, wire: Wire) -> None:
        if wire.max_payload < MAX_MESSAGE:
            # Said now, because a broker ends the connection of who sends more, long after the mistake.
            raise TooLargeError(
                f"the broker takes messages of {wire.max_payload} bytes and the mesh has larger ones: set "
                f"max_payload to {MAX_MESSAGE} or more in its configuration"
            )
        for sid, (subject, queue) in self._interests.items():
            wire.send(subscribe_frame(subject, queue, sid))
        known = set(self._interests)
        await wire.ping(PING_TIMEOUT)
        # No await from here on: nothing can be published in between and overtake what was kept.
        for sid in self._interests.keys() - known:
            wire.send(subscribe_frame(*self._interests[sid], sid))
        for sid in known - self._interests.keys():
            wire.send(unsubscribe_frame(sid))
        self.max_payload = wire.max_payload - HEADER_ROOM
        self.wire = wire
        while self._outage:
            wire.send(self._outage.popleft())
        self._outage_bytes = 0
        self._requests.resend(wire.send)
        for dependent in self.dependents:
            dependent.reconnected()
        self._set_state(State.CONNECTED)
        self._connected.set()

    def _set_state(self, state: State) -> None:
        self.state = state
        log.info("%s: %s", self._name, state)
        if self._on_state is not None:
            self._on_state(state)

    def _on_refused(self, text: str) -> None:
        kind, subject = parse_refusal(text) or ("publish", "")
        known = self.refused_filters if kind == "subscription" else self.refused_publishes
        if kind != "subscription" and (self._requests.refused(subject) or subject.startswith("$")):
            log.warning("%s: the broker does not permit a %s", self._name, kind)
        elif subject not in known and len(known) < REFUSED_MOST:
            known.add(subject)
            log.warning("%s: the broker does not permit a %s", self._name, kind)

    def _send(self, frame: bytes) -> bool:
        wire = self._live()
        if wire is None:
            return False
        wire.send(frame)
        return True

    def _keep(self, frame: bytes) -> None:
        if self._outage_bytes + len(frame) > OUTAGE_BUFFER:
            raise FullError("the broker is not there and the outage buffer is full")
        self._outage_bytes += len(frame)
        self._outage.append(frame)


async def _pause(most: float) -> None:
    # Full jitter, so that a mesh does not come back as one.
    await asyncio.sleep(random.uniform(0, most))  # noqa: S311 - spreads load, hides nothing
