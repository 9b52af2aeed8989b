"""One admitted process: joins, stays admitted, and runs whatever its agent serves.

The composition of the pure parts with transport, clock and attester. Every process that takes part,
agent or client, is one `Node`.
"""

import logging
import os
import random
from base64 import standard_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.abc import TaskGroup

from agent_runtime.agent import Agent, Context
from agent_runtime.calls import Calls
from agent_runtime.clock import LocalClock, MeshClock, boottime
from agent_runtime.context import NodeContext
from agent_runtime.coordination import Coordination, Party, UnreachableError
from agent_runtime.gate import Gate
from agent_runtime.handlers import Begin, Ended, beginner
from agent_runtime.handlers import run as run_handler
from agent_runtime.joining import AdmissionRefusedError
from agent_runtime.journal import Journal
from agent_runtime.membership import Membership
from agent_runtime.peering import Link, Peering
from agent_runtime.refusals import Refusals
from agent_runtime.seen import SeenTasks
from agent_runtime.submitter import Submitter
from agent_runtime.submitting import Origin, Submissions
from agent_runtime.witness import Witness
from agent_runtime.working import Working
from attestation import Attester
from attestation.bundles.carried import Carried
from schemas.errors import PeerError, Reason
from schemas.granted import Granted
from schemas.messages import BREAK_GLASS, CLIENT, ENCLAVE
from schemas.peer import Call
from schemas.subjects import Kind, subject
from schemas.toml_place import printable
from sealing.documents import open_anchor
from sealing.keys import PartyKeys, SigningKey
from transport import Delivery, Subscription, Transport, TransportError

log = logging.getLogger("sealbus.agent")

FORK = "equivocation proved"  # `sealbus lab status` looks for it
SWEEP = 0.5  # seconds
RETRY_FIRST, RETRY_MOST = 0.2, 1.0  # hellos are small, and nobody works who waits to say one
REFRESH_FIRST = 0.1  # seconds
REFRESH_PAUSE = 0.2  # beacons come each second: asking oftener brings nothing
DEAD_AFTER = 3.0  # seconds not live, after which the line is given up and joining starts again

# A no that asking again soon will not change: the process ends and its launcher decides.
FINAL = frozenset(
    {
        Reason.MEASUREMENT_NOT_IN_POLICY,
        Reason.DEBUG_ENABLED,
        Reason.ROOT_NOT_IN_POLICY,
        Reason.PLATFORM_NOT_IN_POLICY,
        Reason.CHIP_NOT_IN_POLICY,
        Reason.ROLE_NOT_PERMITTED,
        Reason.CLIENT_NOT_IN_POLICY,
        Reason.INSTANCE_REVOKED,
        Reason.EQUIVOCATION,
    }
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process is given to take part with. `key` None: an enclave, which makes its own."""

    anchor: bytes
    roles: tuple[str, ...]
    attester: Attester | None = None
    key: SigningKey | None = None
    carried: Carried | None = None  # completes a coordinator's Evidence that came without collateral
    journal: Journal | None = None  # a client that keeps one takes up what its former processes submitted


class Node:
    """A process in the mesh."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        agent: Agent | None = None,
        *,
        door: Transport | None = None,
        random: Callable[[int], bytes] = os.urandom,
        local: LocalClock = boottime,
    ) -> None:
        council, mesh = open_anchor(identity.anchor)
        kind = ENCLAVE if identity.key is None else CLIENT
        keys = PartyKeys(identity.key, client=identity.key is not None)
        self.refusals = Refusals()
        self.membership = Membership(
            mesh, keys, MeshClock(local), Witness(council), kind=kind, roles=identity.roles, random=random
        )
        self._transport = transport
        # Where strangers knock: of its own, so that a flood of inits is not before what friends say.
        self._door = door or transport
        self._agent = agent
        self._seen = SeenTasks()
        self._gate = Gate(self.membership, self._seen)
        party = Party(mesh, keys, kind, identity.roles, identity.attester, random, local)
        party.carried = identity.carried
        self.coordination = Coordination(party, transport, self.membership, self.refusals, self._changed)
        self.calls = Calls(
            self.coordination,
            self.membership,
            self._gate,
            Peering(self.membership, random),
            transport,
            self.refusals,
            self._serve_call,
            self._take_message,
            self._context_of,
        )
        journal = identity.journal
        reply_to, secret = (
            (journal.head.reply_to, journal.head.secret) if journal else (random(16), random(32))
        )
        submissions = Submissions(
            self.membership, self._gate, reply_to=reply_to, stored_secret=secret, random=random
        )
        self.submitter = Submitter(
            submissions, self.membership, transport, self.refusals, reply_to, self.wait_live, journal
        )
        self.working = (
            Working(
                agent,
                self.membership,
                self._gate,
                self._seen,
                transport,
                self.refusals,
                self._task_context,
                random,
            )
            if agent is not None
            else None
        )
        self._live = anyio.Event()
        self._stale = anyio.Event()
        self._fork_told = False
        self._subjects: dict[str, Subscription] = {}
        self._warned: set[str] = set()

    def context(self, task_id: bytes | None = None, role: str = "", instance: bytes = b"") -> Context:
        """Return what a handler, or a client, may do."""
        return NodeContext(self.membership, self._gate, self.calls, self.submitter, task_id, role, instance)

    def _task_context(self, task_id: bytes, role: str, instance: bytes) -> Context:
        origin = Origin(task_id)
        return NodeContext(
            self.membership, self._gate, self.calls, self.submitter, task_id, role, instance, origin
        )

    async def wait_live(self) -> None:
        """Return once this process may take and send."""
        while not self.membership.live():
            self._note_live()
            await self._live.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Node"]:
        """Take part for as long as the context is open; a final refusal ends it with its error."""
        async with anyio.create_task_group() as tasks:
            await self.start(tasks)
            try:
                yield self
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self._close()

    async def start(self, tasks: TaskGroup) -> None:
        """Begin to take part in `tasks`."""
        mesh = self.membership.mesh
        await self._transport.subscribe(subject(mesh.id, Kind.BEACON), self._beacon)
        await self._transport.on_unheard(self._unheard)
        self.calls.start(tasks)
        tasks.start_soon(self._stay_admitted)
        tasks.start_soon(self._refresh_when_stale)
        tasks.start_soon(self._sweep)
        tasks.start_soon(self._collect)
        if self.working is not None:
            self.working.start(tasks)

    def _unheard(self, hint: str) -> None:
        self.calls.unheard(hint)
        self.coordination.unheard(hint)

    async def _stay_admitted(self) -> None:
        pause, term = RETRY_FIRST, 0
        while True:
            if self.membership.witness.equivocated:
                # Another process would not know of it: this one stays, and does nothing more.
                await anyio.sleep_forever()
            try:
                await self.coordination.join()
            except (PeerError, TransportError) as error:
                self._raise_if_final(error)
                log.info("not admitted: %s", error)
                await anyio.sleep(pause)
                pause = min(pause * 2, RETRY_MOST)
                continue
            if self.membership.term != term:
                await self.calls.drop_all()
            pause, term = RETRY_FIRST, self.membership.term
            log.info("admitted as %s", self.membership.keys.instance.hex()[:16])
            await self._while_admitted()
            await self.coordination.close()
            if not self.membership.live():
                # Who is live has lost a message, not the mesh: what is under way with peers goes on.
                await self.calls.drop_all()

    async def _while_admitted(self) -> None:
        dead_since: float | None = None
        while True:
            await anyio.sleep(SWEEP)
            if self.membership.live():
                dead_since = None
            else:
                dead_since = dead_since or anyio.current_time()
                self._stale.set()
                if anyio.current_time() - dead_since >= DEAD_AFTER:
                    log.warning("%s: no recent beacon; joining again", Reason.NOT_LIVE.value)
                    return
            try:
                if self.coordination.due_for_renewal():
                    await self.coordination.renew()
                await self.coordination.ask_time()
            except (PeerError, TransportError) as error:
                self._raise_if_final(error)
                log.info("not renewed: %s", error)
                if isinstance(error, UnreachableError):
                    return

    @staticmethod
    def _raise_if_final(error: Exception) -> None:
        # Only a no that the coordinator sealed into our session is believed.
        if isinstance(error, AdmissionRefusedError) and error.reason in FINAL:
            raise error

    async def _refresh_when_stale(self) -> None:
        while True:
            await self._stale.wait()
            self._stale = anyio.Event()
            # What the beacon named is mostly on its way, pushed; and not all have to ask in one moment.
            await anyio.sleep(random.uniform(REFRESH_FIRST / 2, REFRESH_FIRST))  # noqa: S311 - spreads load
            if self.membership.live() and not self.membership.behind:
                continue
            with self.refusals.at("get"):
                await self.coordination.refresh()
            await anyio.sleep(REFRESH_PAUSE)

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(SWEEP)
            self.refusals.tell()
            self._tell_fork()
            if self.membership.trust is None:
                continue
            await self.submitter.sweep()
            await self.calls.sweep()
            if self.working is not None:
                self.working.sweep()

    def _tell_fork(self) -> None:
        witness = self.membership.witness
        if self._fork_told or not witness.equivocated:
            return
        self._fork_told = True
        if witness.proof is not None:
            one, other = (standard_b64encode(signed).decode() for signed in witness.proof)
            log.error("%s: two beacons that exclude each other, as signed: %s %s", FORK, one, other)
        for size, root in witness.fork or ():
            log.error(
                "%s: heads that are not of one log, among them size %d, root %s", FORK, size, root.hex()
            )

    async def _collect(self) -> None:
        await self.wait_live()
        pause = RETRY_FIRST
        while True:
            with self.refusals.at("results"):
                await self.submitter.collect()
            await anyio.sleep(pause)

    async def _beacon(self, delivery: Delivery) -> None:
        with self.refusals.at("beacon"):
            if self.membership.trust is None:
                return
            if not self.membership.beacon(delivery.payload, delivery.subject):
                self._stale.set()
            self._note_live()

    async def _changed(self) -> None:
        # Names turn with the mesh epoch, so the subjects that this instance listens on do too.
        member = self.membership
        mesh, instance = member.mesh, member.keys.instance
        wanted: dict[str, Callable[[], Awaitable[Subscription]]] = {}
        if self._agent is not None and (self._agent.tools or self._agent.messages):
            for name in (subject(mesh.id, Kind.INBOX, token) for token in member.names(Kind.INBOX, instance)):
                wanted[name] = partial(self._door.listen, name, partial(self.calls.links.inbox, name))
        if self.working is not None:
            for name in (
                subject(mesh.id, Kind.ASSIGN, token) for token in member.names(Kind.ASSIGN, instance)
            ):
                wanted[name] = partial(self._transport.subscribe, name, self.working.assigned)
        for name in [name for name in self._subjects if name not in wanted]:
            await self._subjects.pop(name).close()
        for name, begin in wanted.items():
            if name not in self._subjects:
                self._subjects[name] = await begin()
        self._note_live()
        self._warn()

    def _warn(self) -> None:
        """Say once, loudly, what operators did that is out of the ordinary."""
        trust, instance = self.membership.trust, self.membership.keys.instance
        if trust is None:
            return
        notices = {f"{BREAK_GLASS}: {printable(text)}" for text in trust.notices}
        if instance in trust.quarantined:
            notices.add(f"{Reason.QUARANTINED.value}: the operators let this instance finish what it has")
        for text in sorted(notices - self._warned):
            log.warning("%s", text)
        for text in sorted(self._warned - notices):
            log.warning("over: %s", text)
        self._warned = notices

    def _note_live(self) -> None:
        if self.membership.live():
            self._live.set()
        elif self._live.is_set():
            self._live = anyio.Event()

    def _serve_call(self, link: Link, call: Call, granted: Granted) -> Awaitable[Ended]:
        endpoint = self._agent.tools.get(call.tool) if self._agent else None
        role, instance = link.peer_role, link.peer.subject
        context = NodeContext(
            self.membership, self._gate, self.calls, self.submitter, call.idempotency, role, instance
        )
        now = self.membership.clock.latest
        return run_handler(endpoint, granted, call.arguments, context, self.refusals, now=now)

    def _context_of(self, link: Link) -> Context:
        return self.context(None, link.peer_role, link.peer.subject)

    def _take_message(self, kind: str, granted: Granted, context: Context) -> Begin:
        endpoint = self._agent.messages.get(kind) if self._agent else None
        return beginner(endpoint, granted, context, self.refusals)

    async def _close(self) -> None:
        self.submitter.close()
        with self.refusals.at("close"):
            # Our own handlers hear that they are cancelled only when the sessions are gone.
            self.calls.leave()
            # What was said last in a turn that never ended is on its way, as whoever said it was told.
            self.calls.flush()
            await self.calls.drop_all()
            await self.coordination.close()
        self.refusals.tell()
        self.membership.erase()
