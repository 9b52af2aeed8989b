"""The shell around joining: one process's line to the coordinator.

Joins, renews, asks and listens. What it learns goes into the `Membership`; what goes wrong is counted,
and the caller tries again.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from msgspec.structs import replace

from agent_runtime import joining
from agent_runtime.clock import LocalClock, MeshClock
from agent_runtime.membership import Membership
from agent_runtime.refusals import Refusals
from agent_runtime.trust import joined
from agent_runtime.witness import Witness
from attestation import Memory, appraise
from attestation.attesters.attester import Attester
from attestation.bundles.carried import Carried
from schemas import codec
from schemas.documents import Profile
from schemas.errors import PeerError, Reason
from schemas.evidence import Endorsements, Evidence
from schemas.limits import SECOND, TIME_INTERVAL
from schemas.messages import (
    OPERATOR,
    Body,
    Credential,
    EvidenceAnswer,
    Get,
    Holdings,
    LogProof,
    Millis,
    Refused,
    RevokedPage,
    State,
    Time,
)
from schemas.subjects import Kind, subject
from sealing.context import Mesh
from sealing.council import Council
from sealing.errors import SealingError
from sealing.keys import PartyKeys
from sealing.session import PendingSession, Session
from transport import Delivery, Subscription, Transport

STEP_DEADLINE = 5.0  # seconds for one flight, with what is sent again
# Seconds for an accept: if init or accept was lost it costs the first, if the coordinator is busy the second.
ACCEPT_DEADLINES = (1.3, 3.7)
ASK_AGAIN, ASK_AGAIN_MOST = 1.0, 8.0  # until a request is sent again, doubled each time: by the same id
UNHEARD_DEADLINE = 1.0  # for an answer, after the broker said that nobody listens: it may have lied
HELLO_AGAIN = 0.25  # seconds, doubled each time: a coordinator that is starting does not listen yet
HELLO_AGAIN_MOST = 1.0  # one that is back, or can be reached again, is found within this
ADMISSION_DEADLINE = 30.0  # the challenge's life: a throttled chip takes seconds
BACKLOG = 64  # frames that wait while one is judged; more on a bootstrap subject is a flood


class UnreachableError(PeerError):
    """No coordinator answered in time; `refused` says why the last offer was not taken, if there was one."""

    def __init__(self, detail: str, refused: Reason | None = None) -> None:
        super().__init__(Reason.UNAVAILABLE, detail)
        self.refused = refused


@dataclass(slots=True)
class Party:
    """Who this process is and what it was given to begin with."""

    mesh: Mesh
    keys: PartyKeys
    kind: str
    roles: tuple[str, ...]
    attester: Attester | None
    random: Callable[[int], bytes]
    local: LocalClock
    profile: Profile | None = None  # a console that is about to order the first term holds its own
    carried: Carried | None = None


@dataclass(slots=True, eq=False)
class _Line:
    session: Session
    coordinator: joining.Coordinator
    state: State  # as the coordinator stood when the session began
    subscription: Subscription
    waiting: dict[bytes, MemoryObjectSendStream[Body]] = field(default_factory=dict)
    scopes: set[anyio.CancelScope] = field(default_factory=set)


class Coordination:
    """The line to the coordinator: at most one session at a time, replaced on renewal."""

    def __init__(
        self,
        party: Party,
        transport: Transport,
        membership: Membership,
        refusals: Refusals,
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        self.party = party
        self.membership = membership
        self._transport = transport
        self._refusals = refusals
        self._on_change = on_change
        self._memory = Memory()
        self._line: _Line | None = None
        self._proving: _Line | None = None  # the one that is to take its place
        self._time_asked: Millis = 0
        self._offer_refused: Reason | None = None

    @property
    def witness(self) -> Witness:
        return self.membership.witness

    @property
    def clock(self) -> MeshClock:
        return self.membership.clock

    @property
    def coordinator(self) -> joining.Coordinator | None:
        """The coordinator of the present session."""
        return self._line.coordinator if self._line else None

    @property
    def state(self) -> State | None:
        """Where the coordinator stood when the present session began."""
        return self._line.state if self._line else None

    async def join(self) -> None:
        """Be admitted by a coordinator whose Evidence was accepted, or raise what was refused."""
        coordinator = await self._verified_offer()
        await self._admit(coordinator, replaces=None)

    async def renew(self) -> None:
        """Be admitted again: same keys, fresh challenge and Evidence."""
        if self._line is None:
            raise UnreachableError("no session to renew")
        await self._admit(self._line.coordinator, replaces=self._line.session)

    async def request(self, purpose: str, fields: object, *, within: float = STEP_DEADLINE) -> Body:
        """Ask the coordinator in the present session; raise its refusal, or when no answer comes."""
        line = self._line
        if line is None:
            raise UnreachableError("no session with a coordinator")
        return await self._ask(line, purpose, fields, within)

    async def refresh(self) -> None:
        """Get all that is held: after a beacon that names something that is not here."""
        line = self._line
        if line is None:
            raise UnreachableError("no session with a coordinator")
        body = await self._ask(line, "get", Get("holdings", ""), STEP_DEADLINE)
        self.membership.hold(await self._whole(line, codec.convert(body.fields, Holdings)))
        await self._on_change()

    async def _whole(self, line: _Line, holdings: Holdings) -> Holdings:
        """Return holdings with the revoked set whole. If it changes meanwhile, its hash will not match."""
        pages = [holdings.revoked]
        for number in range(1, holdings.revoked_pages):
            body = await self._ask(line, "get", Get("revoked", str(number)), STEP_DEADLINE)
            pages.append(codec.convert(body.fields, RevokedPage).revoked)
        return replace(holdings, revoked=joined(pages), revoked_pages=1)

    async def ask_time(self) -> None:
        """Set the clock by the coordinator's answer, if it is time to."""
        if self.party.local() - self._time_asked < TIME_INTERVAL:
            return
        line = self._line
        if line is None:
            raise UnreachableError("no session with a coordinator")
        sent = self.party.local()
        try:
            body = await self._ask(line, "time", None, ASK_AGAIN)
        except UnreachableError:
            # Not the same one again: what is told would be counted from a moment that is long past.
            sent = self.party.local()
            body = await self._ask(line, "time", None, STEP_DEADLINE, again=STEP_DEADLINE)
        told = codec.convert(body.fields, Time)
        self.clock.set(told.time, sent=sent, grace=self.membership.grace)
        self._time_asked = sent

    def unheard(self, hint: str) -> None:
        """Take the broker's word that the coordinator listens no more: what waits for it waits less long."""
        for line in (self._line, self._proving):
            if line is not None and line.session.own_id.hex() == hint:
                for scope in line.scopes:
                    scope.deadline = min(scope.deadline, anyio.current_time() + UNHEARD_DEADLINE)

    async def close(self) -> None:
        """End the session."""
        line, self._line = self._line, None
        if line is not None:
            line.session.erase()
            await line.subscription.close()

    async def _verified_offer(self) -> joining.Coordinator:
        party = self.party
        pending = joining.hello(party.mesh, party.random(32))
        send, receive = anyio.create_memory_object_stream[bytes](BACKLOG)
        with send, receive:
            subscription = await self._transport.subscribe(
                pending.offer_subject, partial(self._enqueue, send, "offer")
            )
            try:
                await self._transport.publish(pending.subject, pending.wire)
                with anyio.move_on_after(STEP_DEADLINE):
                    return await self._first_good_offer(pending, receive)
                refused = self._offer_refused
                last = f"; the last one: {refused.value}" if refused else ""
                raise UnreachableError(f"no acceptable offer from a coordinator{last}", refused)
            finally:
                await subscription.close()

    async def _first_good_offer(
        self, pending: joining.PendingHello, offers: MemoryObjectReceiveStream[bytes]
    ) -> joining.Coordinator:
        # Anybody may send offers: a bad one is counted and the next one is looked at.
        while True:
            wire = await self._offered(pending, offers)
            try:
                coordinator, appraisal = joining.judge_offer(
                    self.party.mesh,
                    pending,
                    wire,
                    self.witness,
                    self.clock,
                    host_time=time.time_ns() // 1_000_000,
                    profile=self.party.profile,
                )
                await anyio.to_thread.run_sync(
                    _appraise, appraisal, self._memory, self.party.carried, self.witness.council
                )
                return coordinator
            except PeerError as refusal:
                self._offer_refused = refusal.reason
                self._refusals.note("offer", refusal.reason.value)

    async def _offered(
        self, pending: joining.PendingHello, offers: MemoryObjectReceiveStream[bytes]
    ) -> bytes:
        pause = HELLO_AGAIN
        while True:
            with anyio.move_on_after(pause):
                return await offers.receive()
            await self._transport.publish(pending.subject, pending.wire)
            pause = min(pause * 2, HELLO_AGAIN_MOST)

    async def _admit(self, coordinator: joining.Coordinator, replaces: Session | None) -> None:
        party = self.party
        credential = Credential(
            party.kind, party.keys.signing.public, party.keys.kem.public, party.roles, None
        )

        def begin() -> PendingSession:
            return joining.begin(
                party.mesh, party.keys, coordinator, credential, party.random, replaces=replaces
            )

        first, second = ACCEPT_DEADLINES
        try:
            session, state = await self._handshake(coordinator, begin(), first)
        except UnreachableError:
            # Another init: the coordinator answers each once.
            session, state = await self._handshake(coordinator, begin(), second)
        subscription = await self._transport.subscribe(session.receive_subject, self._frame)
        line = _Line(session, coordinator, state, subscription)
        # Until it is admitted the old line serves: what was asked on this one would be refused, and end it.
        self._proving = line
        try:
            await self._prove(line, state)
        except BaseException:
            session.erase()
            await subscription.close()
            raise
        finally:
            self._proving = None
        previous, self._line = self._line, line
        if previous is not None:
            previous.session.erase()
            await previous.subscription.close()
        await self._on_change()

    async def _handshake(
        self, coordinator: joining.Coordinator, pending: PendingSession, within: float
    ) -> tuple[Session, State]:
        send, receive = anyio.create_memory_object_stream[bytes](BACKLOG)
        subscription: Subscription | None = None
        states: list[State] = []
        try:
            subscription = await self._transport.subscribe(
                pending.accept_subject, partial(self._enqueue, send, "accept")
            )
            sent = self.party.local()
            await self._transport.publish(subject(self.party.mesh.id, Kind.BOOT), pending.wire)
            with anyio.move_on_after(within):
                while True:
                    wire = await receive.receive()
                    with self._refusals.at("accept"):
                        session = pending.accept(
                            wire,
                            lambda accept: states.append(
                                joining.judge_accept(coordinator, accept, self.witness)
                            ),
                        )
                        state = states[-1]
                        # A renewal goes by an old offer: what is held tells of a policy since.
                        grace = self.membership.grace_of(coordinator.profile.grace)
                        self.clock.set(state.time, sent=sent, grace=grace)
                        self._time_asked = sent
                        joining.enter(self.witness, coordinator, state)
                        return session, state
            raise UnreachableError("the coordinator did not accept the session")
        finally:
            pending.erase()
            send.close()
            receive.close()
            if subscription is not None:
                await subscription.close()

    async def _prove(self, line: _Line, state: State) -> None:
        party, session = self.party, line.session
        await self._transport.publish(session.send_subject, session.seal(joining.confirm()))
        evidence: Evidence | None = None
        endorsements: Endorsements = {}
        if party.attester is not None:
            bound = joining.agent_binding(party.mesh, party.keys, session, state)
            evidence, endorsements = await party.attester.evidence(bound, state.challenge)
        shown = self.witness.council.chain if party.kind == OPERATOR else ()
        answer = EvidenceAnswer(evidence, endorsements, shown)
        body = await self._ask(line, "evidence", answer, ADMISSION_DEADLINE)
        admitted = joining.open_admitted(body)
        # Before anything is held: what another history admitted must not replace what this one did.
        await self._prove_log(line)
        self.membership.enter(line.coordinator.term, line.coordinator.profile.grace)
        if line.coordinator.term:
            holdings = await self._whole(line, admitted.holdings)
            self.membership.admitted(replace(admitted, holdings=holdings))

    async def _prove_log(self, line: _Line) -> None:
        """Have the coordinator prove that every head of its log that we saw is of one log, or raise."""
        for older, newer in self.witness.unproved():
            body = await self._ask(line, "get", Get("log-proof", f"{older[0]}-{newer[0]}"), STEP_DEADLINE)
            joining.judge_log(self.witness, older, newer, codec.convert(body.fields, LogProof))
        self.witness.enter_proved()

    async def _ask(
        self, line: _Line, purpose: str, fields: object, within: float, *, again: float = ASK_AGAIN
    ) -> Body:
        request = self.party.random(16)
        send, receive = anyio.create_memory_object_stream[Body](1)
        line.waiting[request] = send
        scope = anyio.CancelScope(deadline=anyio.current_time() + within)
        line.scopes.add(scope)
        try:
            asked = codec.encode(Body(purpose, request, fields))
            with scope:
                body = await self._answer(line, asked, receive, again)
                if body.purpose == "refused":
                    raise joining.refusal(codec.convert(body.fields, Refused))
                return body
            raise UnreachableError(f"no answer to {purpose}")
        finally:
            line.scopes.discard(scope)
            line.waiting.pop(request, None)
            send.close()
            receive.close()

    async def _answer(
        self, line: _Line, asked: bytes, answers: MemoryObjectReceiveStream[Body], pause: float
    ) -> Body:
        session = line.session
        while True:
            if line not in (self._line, self._proving):
                raise UnreachableError("the session with the coordinator was replaced meanwhile")
            await self._transport.publish(session.send_subject, session.seal(asked), session.own_id.hex())
            with anyio.move_on_after(pause):
                return await answers.receive()
            pause = min(pause * 2, ASK_AGAIN_MOST)

    async def _frame(self, delivery: Delivery) -> None:
        lines = [line for line in (self._line, self._proving) if line is not None]
        with self._refusals.at("coordinator"):
            line = next((each for each in lines if each.session.receive_subject == delivery.subject), None)
            if line is None:
                raise SealingError(Reason.SESSION_UNKNOWN)
            body = codec.decode(line.session.open(delivery.payload), Body)
            waiting = line.waiting.get(body.request)
            if waiting is not None:
                # What was asked twice may be answered twice: the first answer counts.
                with suppress(anyio.WouldBlock):
                    waiting.send_nowait(body)
            elif body.purpose == "push":
                holdings = codec.convert(body.fields, Holdings)
                # Of several pages, all are got as soon as a beacon names what is not here: this handler
                # would have to wait for itself.
                if holdings.revoked_pages == 1:
                    self.membership.hold(holdings)
                    await self._on_change()

    async def _enqueue(self, queue: MemoryObjectSendStream[bytes], place: str, delivery: Delivery) -> None:
        try:
            queue.send_nowait(delivery.payload)
        except anyio.WouldBlock:
            self._refusals.note(place, "flood")
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._refusals.note(place, "late")

    def due_for_renewal(self) -> bool:
        """Tell whether about half of the admission's life is over."""
        trust = self.membership.trust
        if trust is None:
            return False
        admission = trust.admission
        life = (admission.expires - admission.issued) * SECOND
        # Each instance at a moment of its own, or all that started together would come together.
        share = 40 + 20 * self.party.keys.instance[0] // 255
        return self.clock.highest() >= admission.issued * SECOND + life * share // 100


def _appraise(
    appraisal: joining.Appraisal, memory: Memory, carried: Carried | None, council: Council
) -> None:
    evidence, endorsements = appraisal.evidence, appraisal.endorsements
    appraise(
        evidence,
        endorsements if carried is None else carried.complete(evidence, endorsements, council),
        appraisal.reference_values,
        key_binding=appraisal.key_binding,
        challenge=appraisal.challenge,
        now=appraisal.now,
        memory=memory,
    )
