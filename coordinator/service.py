"""The coordinator's shell: transport, clock, randomness, device; every rule is in `coordinator.core`.

What a stranger does wrong is caught in one place, counted, and told by reason once a second. Anything else
that is raised is a bug and ends the service.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from attestation import Attester, Memory, appraise
from attestation.bundles.carried import Carried
from coordinator.actions import Action, AppraisalRequest, Publish, Subscribe, Unsubscribe
from coordinator.core import Core
from coordinator.errors import RefusedError
from schemas.errors import PeerError, Reason
from schemas.evidence import AttestationResult
from schemas.limits import BEACON_INTERVAL, MAX_HANDSHAKE, SECOND
from schemas.messages import BREAK_GLASS, Millis
from schemas.subjects import Kind, subject
from schemas.toml_place import printable
from sealing.context import Mesh
from sealing.council import Council
from sealing.keys import PartyKeys
from transport import (
    Delivery,
    NotPermittedError,
    State,
    Subscription,
    TooLargeError,
    Transport,
    UnavailableError,
)

log = logging.getLogger("sealbus.coordinator")
audit_log = logging.getLogger("sealbus.audit")

TICK = 0.02  # seconds in which hellos are gathered for one quote, and inits for one turn
BOOTS_PER_TICK = 24  # an init and its accept cost half a millisecond: half of one core at the most
BOOTS_WAITING = 4_096  # three seconds of them: whoever waits for five has given up
BOOT_BYTES_WAITING = 32 * 1024 * 1024
SWEEP_INTERVAL = 1.0
APPRAISERS = 4  # RSA and ECDSA leave the interpreter's lock: so many can use other cores


class Service:
    """One coordinator on one transport."""

    def __init__(
        self,
        council: Council,
        mesh: Mesh,
        keys: PartyKeys,
        transport: Transport,
        attester: Attester,
        clock: Callable[[], Millis],
        carried: Carried | None = None,
    ) -> None:
        self.core = Core(council, mesh, keys, random=os.urandom, emit=audit_log.info)
        self._mesh = mesh
        self._transport = transport
        self._attester = attester
        self._clock = clock
        self._boots: deque[bytes] = deque()
        self._boot_bytes = 0
        self._hello_came, self._boot_came, self._action_came = anyio.Event(), anyio.Event(), anyio.Event()
        self._actions: deque[Action] = deque()
        self._subscriptions: dict[str, Subscription | None] = {}  # None: the broker does not know yet
        self._memory = Memory()
        self._carried = carried
        self._appraisers = anyio.CapacityLimiter(APPRAISERS)
        self._told: Counter[Reason] = Counter()
        self._warned: set[str] = set()  # what is given outside the policy, as the log says it

    async def run(self) -> None:
        """Serve until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._perform, tasks)
            tasks.start_soon(self._answer_hellos)
            tasks.start_soon(self._answer_boots, tasks)
            tasks.start_soon(self._every, BEACON_INTERVAL / SECOND, self._beat)
            tasks.start_soon(self._every, SWEEP_INTERVAL, self._sweep)
            await self._transport.subscribe(subject(self._mesh.id, Kind.HELLO), self._on_hello)
            await self._transport.subscribe(subject(self._mesh.id, Kind.BOOT), self._on_boot)
            log.info("coordinator %s of mesh %s", self.core.keys.instance.hex(), self._mesh.id.hex())

    @contextmanager
    def _peers_fault(self) -> Iterator[None]:
        try:
            yield
        except PeerError as refusal:
            self.core.note(refusal)

    # From the transport.

    async def _on_hello(self, delivery: Delivery) -> None:
        with self._peers_fault():
            self.core.handle_hello(delivery.payload)
            self._hello_came.set()

    async def _on_boot(self, delivery: Delivery) -> None:
        with self._peers_fault():
            size = len(delivery.payload)
            if size > MAX_HANDSHAKE:
                raise RefusedError(Reason.TOO_LARGE, "init")
            if len(self._boots) >= BOOTS_WAITING or self._boot_bytes + size > BOOT_BYTES_WAITING:
                raise RefusedError(Reason.UNAVAILABLE, "too many inits wait")
            self._boots.append(delivery.payload)
            self._boot_bytes += size
            self._boot_came.set()

    async def _on_frame(self, delivery: Delivery) -> None:
        with self._peers_fault():
            actions = self.core.handle_frame(delivery.payload, now=self._clock())
            self._do(self._without_late_beacons(self.core.urgent(now=self._clock())) + actions)

    # Loops.

    async def _answer_hellos(self) -> None:
        while True:
            await self._hello_came.wait()
            await anyio.sleep(TICK)
            self._hello_came = anyio.Event()
            taken = self.core.take_hellos()
            if taken is None:
                continue
            batch, binding = taken
            # While the chip works, the next tick's hellos gather.
            with self._peers_fault():
                evidence, endorsements = await self._attester.evidence(binding, batch.root)
                self._do(self.core.handle_quote(batch, evidence, endorsements, now=self._clock()))

    async def _answer_boots(self, tasks: TaskGroup) -> None:
        while True:
            await self._boot_came.wait()
            for _ in range(min(BOOTS_PER_TICK, len(self._boots))):
                wire = self._boots.popleft()
                self._boot_bytes -= len(wire)
                with self._peers_fault():
                    actions = self.core.handle_boot(wire, now=self._clock())
                    # Nothing else of this session can be due before its accept is out, and a broker far
                    # away must not hold up everybody else's messages while it subscribes.
                    tasks.start_soon(self._act_all, actions)
            if not self._boots:
                self._boot_came = anyio.Event()
            await anyio.sleep(TICK)

    async def _appraise(self, request: AppraisalRequest) -> None:
        council = self.core.authority.standing.council
        outcome = await to_thread.run_sync(
            _appraised, request, self._memory, self._carried, council, limiter=self._appraisers
        )
        self._do(self.core.handle_appraisal(request, outcome, now=self._clock()))

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        due = anyio.current_time()
        while True:
            work()
            # The next due time, not one more pause: beacons must not drift apart under load.
            due = max(due + seconds, anyio.current_time())
            await anyio.sleep_until(due)

    def _beat(self) -> None:
        self._do(self._without_late_beacons(self.core.beacon(now=self._clock())))

    def _without_late_beacons(self, actions: list[Action]) -> list[Action]:
        if self._transport.state is State.CONNECTED:
            return actions
        # What is kept for the broker's return must not be beacons that nobody can use any more.
        beacons = subject(self._mesh.id, Kind.BEACON)
        return [each for each in actions if not (isinstance(each, Publish) and each.subject == beacons)]

    def _sweep(self) -> None:
        self._do(self.core.sweep(now=self._clock()))
        self._warn()
        refused = self.core.refusals - self._told
        if refused:
            # A summary: whoever floods must not fill the log as well.
            self._told = self.core.refusals.copy()
            text = ", ".join(f"{reason.value} {count}" for reason, count in sorted(refused.items()))
            log.info("refused in the last second: %s", text)

    def _warn(self) -> None:
        notices = set(self.core.authority.glass.notices(self.core.authority.standing.policy))
        for text in sorted(notices - self._warned):
            log.warning("%s: %s", BREAK_GLASS, printable(text))
        for text in sorted(self._warned - notices):
            log.warning("over: %s: %s", BREAK_GLASS, printable(text))
        self._warned = notices

    # To the transport.

    def _do(self, actions: Sequence[Action]) -> None:
        # One queue and one performer: what was sealed first is sent first.
        self._actions.extend(actions)
        self._action_came.set()

    async def _perform(self, tasks: TaskGroup) -> None:
        while True:
            await self._action_came.wait()
            while self._actions:
                action = self._actions.popleft()
                if isinstance(action, AppraisalRequest):
                    tasks.start_soon(self._appraise, action)
                else:
                    await self._act(action)
            self._action_came = anyio.Event()

    async def _act_all(self, actions: Sequence[Publish | Subscribe]) -> None:
        for action in actions:
            await self._act(action)

    async def _act(self, action: Publish | Subscribe | Unsubscribe) -> None:
        match action:
            case Publish(to, payload):
                await self._publish(to, payload)
            case Subscribe(to):
                await self._subscribe(to)
            case Unsubscribe(to):
                subscription = self._subscriptions.pop(to, None)
                if subscription is not None:
                    await subscription.close()

    async def _subscribe(self, to: str) -> None:
        self._subscriptions[to] = None
        try:
            subscription = await self._transport.subscribe(to, self._on_frame)
        except NotPermittedError as error:
            # A broker that lies ends one session, not us: whoever wanted it says hello again.
            log.warning("a session cannot be heard: %s", error)
            self._subscriptions.pop(to, None)
            return
        if to in self._subscriptions:
            self._subscriptions[to] = subscription
        else:
            # The session ended while the broker was being told of it.
            await subscription.close()

    async def _publish(self, to: str, payload: bytes) -> None:
        while True:
            try:
                return await self._transport.publish(to, payload)
            except UnavailableError:
                # The transport keeps some for the broker's return; what it has no room for waits here. Of
                # what the broker took and lost, beacons show what a push would have told.
                await self._transport.wait_connected()
            except TooLargeError:
                most = self._transport.max_payload
                log.error("not sent: %d bytes on a broker that takes %d", len(payload), most)
                return None


def _appraised(
    request: AppraisalRequest, memory: Memory, carried: Carried | None, council: Council
) -> AttestationResult | PeerError:
    evidence, endorsements = request.evidence, request.endorsements
    try:
        return appraise(
            evidence,
            endorsements if carried is None else carried.complete(evidence, endorsements, council),
            request.reference_values,
            key_binding=request.key_binding,
            challenge=request.challenge,
            now=datetime.fromtimestamp(request.now / SECOND, UTC),
            memory=memory,
        )
    except PeerError as refusal:
        return refusal
