"""The coordinator as one machine: bytes and the time in, actions out.

Pure: randomness and the audit's sink are handed in, `now` is the shell's clock. A `PeerError` that leaves
a method is a stranger's message refused without an answer; parties of a session are answered. It never
opens what parties seal to roles or to each other: no code here knows those frames.
"""

from collections import Counter
from collections.abc import Callable

from coordinator import admission, offers
from coordinator.actions import Action, AppraisalRequest, Publish, Subscribe, Unsubscribe
from coordinator.authority import Authority, event_digest
from coordinator.effects import NO_EFFECT, Effect
from coordinator.errors import RefusedError
from coordinator.ledger import Party
from coordinator.links import LINGER, Link, Links, Phase
from schemas import codec
from schemas.errors import MalformedError, PeerError, Reason
from schemas.evidence import AttestationResult, Endorsements, Evidence
from schemas.messages import (
    OPERATOR,
    Admitted,
    Body,
    Directory,
    Event,
    EvidenceAnswer,
    Get,
    LogPage,
    MeshStatus,
    Millis,
    Refused,
    Revocation,
    RevocationPage,
    RevokedPage,
    Time,
)
from schemas.subjects import Kind, subject
from sealing.context import Mesh
from sealing.council import Council
from sealing.keys import PartyKeys
from sealing.session import session_id_of

APPRAISALS_PENDING = 512  # up to 224 KiB of a stranger's each, and some seconds' work
DIRECTORY_MAX = 256  # 1.7 KiB each, to fit a message; a caller needs some of a role, not all
PAGE_DIGITS = 5
DECIDED = ("evidence", "event")  # requests whose refusal is an entry of the audit log
TOLD_OPERATORS = ("log", "status", "policy", "break-glass", "revocations")  # what they alone may get
EVENTS = ("order", "roll", "policy", "revocation", "renewal", "break-glass", "operators")


class _EventRefusedError(PeerError):
    """An operator's event was refused: the audit log says which."""

    def __init__(self, event: Event, refusal: PeerError) -> None:
        super().__init__(refusal.reason, refusal.detail)
        self.event = event


class Core:
    """Offers, sessions, requests and events of one coordinator."""

    def __init__(
        self,
        council: Council,
        mesh: Mesh,
        keys: PartyKeys,
        *,
        random: Callable[[int], bytes],
        emit: Callable[[str], None],
    ) -> None:
        self.mesh, self.keys = mesh, keys
        self.refusals: Counter[Reason] = Counter()
        self._is_urgent = False  # something was decided, and no beacon tells of it yet
        self._random = random
        self._authority = Authority(council, mesh, keys, random=random, emit=emit)
        self._hellos = offers.Hellos(mesh)
        self._offers = offers.OfferMemory()
        self._handshakes = admission.Handshakes(mesh, keys, random)
        self._links = Links()
        self._appraising = 0
        self._ahead: Millis = 0  # by how much the operators' signed time is later than the host's clock

    @property
    def authority(self) -> Authority:
        """What is in force."""
        return self._authority

    def time(self, now: Millis) -> Millis:
        """Return mesh time at the shell's `now`: never behind the operators' order."""
        return now + self._ahead

    def note(self, refusal: PeerError) -> None:
        """Count a refusal by its reason."""
        self.refusals[refusal.reason] += 1

    # Bootstrap: from strangers.

    def handle_hello(self, wire: bytes) -> None:
        """Take a hello into the present tick."""
        self._hellos.add(wire)

    def take_hellos(self) -> tuple[offers.Batch, bytes] | None:
        """End the tick: return its hellos, and what a quote for them has to bind."""
        batch = self._hellos.take()
        return (batch, offers.quote_binding(self.mesh, self.keys, batch)) if batch else None

    def handle_quote(
        self, batch: offers.Batch, evidence: Evidence, endorsements: Endorsements, *, now: Millis
    ) -> list[Action]:
        """Offer our Evidence to everyone who said hello in the batch's tick."""
        made = offers.offers(self.mesh, self.keys, batch, evidence, endorsements, self._authority.standing)
        self._offers.remember(made, self.time(now))
        return [Publish(to, wire) for to, wire in made]

    def handle_boot(self, wire: bytes, *, now: Millis) -> list[Publish | Subscribe]:
        """Answer an init."""
        time = self.time(now)
        link, accept = self._handshakes.accept(
            wire,
            self._links,
            self._offers,
            transcript=self._transcript,
            state=lambda challenge: self._authority.state(challenge, time),
            now=time,
        )
        to = subject(self.mesh.id, Kind.ACCEPT, link.init_hash[:16])
        return [Subscribe(link.session.receive_subject), Publish(to, accept)]

    # Sessions.

    def handle_frame(self, frame: bytes, *, now: Millis) -> list[Action]:
        """Open a session's frame and do what it asks."""
        time = self.time(now)
        link = self._links.find(session_id_of(frame), time)
        body = codec.decode(link.session.open(frame), Body)
        pushed_out = self._links.confirm(link)
        actions: list[Action] = [Unsubscribe(pushed_out.session.receive_subject)] if pushed_out else []
        try:
            return actions + self._dispatch(link, body, time)
        except PeerError as refusal:
            self.note(refusal)
            return actions + self._refuse(link, body, refusal, time)

    def handle_appraisal(
        self, request: AppraisalRequest, outcome: AttestationResult | PeerError, *, now: Millis
    ) -> list[Action]:
        """Take the outcome of an appraisal that was asked for."""
        time = self.time(now)
        self._appraising -= 1
        link = self._links.get(request.session_id)
        if link is None:
            return []
        asked = Body("evidence", request.request, None)
        standing = self._authority.standing
        if standing.policy is not None and request.policy_hash != standing.policy_hash:
            self._appraising += 1
            return [admission.again(request, standing.policy, standing.policy_hash, now=time)]
        try:
            if isinstance(outcome, PeerError):
                raise outcome
            return self._admit(link, request.request, outcome, time)
        except PeerError as refusal:
            self.note(refusal)
            return self._refuse(link, asked, refusal, time)

    # The clock.

    def beacon(self, *, now: Millis) -> list[Action]:
        """Turn epochs that are due and send the next beacon."""
        time = self.time(now)
        effect, frame = self._authority.beat(time)
        return self._carry_out(effect, time) + ([Publish(*frame)] if frame else [])

    def urgent(self, *, now: Millis) -> list[Action]:
        """Return the beacon that tells of an event at once, once after each; else nothing.

        One message for everybody: who was put out is out before anything reaches each party by itself.
        """
        if not self._is_urgent:
            return []
        self._is_urgent = False
        frame = self._authority.last_word(self.time(now))
        return [Publish(*frame)] if frame else []

    def sweep(self, *, now: Millis) -> list[Action]:
        """End what is past its time."""
        time = self.time(now)
        self._offers.sweep(time)
        self._handshakes.sweep(time)
        actions = [self._drop(link) for link in self._links.overdue(time)]
        return actions + self._carry_out(self._authority.sweep(time), time)

    # Inside.

    def _dispatch(self, link: Link, body: Body, time: Millis) -> list[Action]:
        if body.purpose == "confirm":
            return []
        if body.purpose == "evidence":
            return self._evidence(link, body, time)
        if link.phase is not Phase.ADMITTED:
            raise RefusedError(Reason.INSTANCE_UNKNOWN, "not admitted in this session")
        match body.purpose:
            case "get":
                return self._get(link, body, time)
            case "time":
                return self._answer(link, body.request, "time", Time(time))
            case "event":
                return self._event(link, body, time)
        raise RefusedError(Reason.NO_HANDLER, "no such request")

    def _evidence(self, link: Link, body: Body, time: Millis) -> list[Action]:
        if link.challenge is None and link.asked == body.request:
            # Asked again, for nothing came back: it is told what came of it, and nothing is judged anew.
            return self._told_again(link, body.request, time)
        link.asked = body.request
        answer = codec.convert(body.fields, EvidenceAnswer)
        learned: list[Action] = []
        if link.credential.kind == OPERATOR and link.challenge is not None:
            learned = self._carry_out(self._authority.learn_operators(answer.operators, time), time)
        standing = self._authority.standing
        request = admission.begin_evidence(self.mesh, standing, link, body.request, answer, now=time)
        if request is None:
            return learned + self._admit(link, body.request, None, time)
        if self._appraising >= APPRAISALS_PENDING:
            raise RefusedError(Reason.UNAVAILABLE, "too many appraisals at once")
        self._appraising += 1
        return [request]

    def _admit(
        self, link: Link, request: bytes, result: AttestationResult | None, time: Millis
    ) -> list[Action]:
        authority = self._authority
        party = admission.judge(
            self.mesh, self.keys, authority.standing, authority.ledger, link, result, now=time
        )
        last = authority.ledger.admitted(party.instance)
        before = self._links.get(last.session_id) if last else None
        if before is not None:
            before.ends = time + LINGER
        actions = self._carry_out(authority.enter(party, time), time)
        self._links.admit(link)
        admitted = Admitted(party.admission, authority.holdings(party, time))
        return actions + self._answer(link, request, "admitted", admitted)

    def _told_again(self, link: Link, request: bytes, time: Millis) -> list[Action]:
        if link.phase is not Phase.ADMITTED:
            return []  # it is being appraised
        party = self._party(link)
        return self._answer(
            link, request, "admitted", Admitted(party.admission, self._authority.holdings(party, time))
        )

    def _get(self, link: Link, body: Body, time: Millis) -> list[Action]:
        get = codec.convert(body.fields, Get)
        party = self._party(link)
        if get.what == "holdings":
            return self._answer(link, body.request, "got", self._authority.holdings(party, time))
        if get.what == "revoked":
            page = RevokedPage(self._revoked_page(get.arg))
            return self._answer(link, body.request, "got", page)
        if get.what == "log-proof":
            return self._answer(link, body.request, "got", self._authority.audit.proof(get.arg))
        if get.what in TOLD_OPERATORS:
            # It names every party, and what anybody may do: for those who decide that.
            if party.kind != OPERATOR:
                raise RefusedError(Reason.ROLE_NOT_PERMITTED, "only operators are told")
            return self._answer(link, body.request, "got", self._told(get, time))
        if get.what != "directory":
            raise RefusedError(Reason.NO_HANDLER, "no such thing to get")
        if not self._authority.may_look_up(party.roles, get.arg):
            raise RefusedError(
                Reason.NO_GRANT, "no tool of that role may be called, nor a message sent to it"
            )
        holders = self._authority.ledger.holders(get.arg, time)[:DIRECTORY_MAX]
        directory = Directory(tuple(holder.admission for holder in holders))
        return self._answer(link, body.request, "got", directory)

    def _told(self, get: Get, time: Millis) -> LogPage | MeshStatus | RevocationPage | Event:
        standing = self._authority.standing
        if get.what == "log":
            return self._authority.log_page(get.arg, time)
        if get.what == "status":
            return self._authority.status(_number(get.arg), time)
        if get.what == "revocations":
            return self._authority.revocations.page(_number(get.arg))
        if get.what == "policy":
            if standing.policy is None:
                raise RefusedError(Reason.NO_HANDLER, "no policy is in force")
            return Event("policy", standing.policy_documents, None, ())
        broken = self._authority.glass.events(standing.policy)
        if (wanted := _number(get.arg)) >= len(broken):
            raise RefusedError(Reason.NO_HANDLER, "no such break-glass: it may have ended")
        return broken[wanted]

    def _revoked_page(self, number: str) -> tuple[Revocation, ...]:
        pages = self._authority.revoked_pages()
        wanted = _number(number)
        if wanted >= len(pages):
            raise RefusedError(Reason.NO_HANDLER, "no such page: the revoked set has changed")
        return pages[wanted]

    def _event(self, link: Link, body: Body, time: Millis) -> list[Action]:
        if link.credential.kind != OPERATOR:
            raise RefusedError(Reason.ROLE_NOT_PERMITTED, "only operators bring events")
        event = codec.convert(body.fields, Event)
        try:
            index, effect = self._take_event(event, time)
        except PeerError as refusal:
            raise _EventRefusedError(event, refusal) from refusal
        receipt = self._authority.receipt(event, index)
        self._is_urgent = effect != NO_EFFECT
        # The receipt first: pushes to many must not delay the word that the event is in force.
        return self._answer(link, body.request, "receipt", receipt) + self._carry_out(effect, time)

    def _take_event(self, event: Event, time: Millis) -> tuple[int, Effect]:
        match event.kind:
            case "order":
                return self._authority.open_term(
                    event, now=time, ahead=lambda signed: self._advance(signed, time)
                )
            case "roll":
                return self._authority.take_roll(event)
            case "policy":
                return self._authority.adopt(event, time)
            case "revocation":
                return self._authority.revoke(event, time)
            case "renewal":
                return self._authority.renew(event, time)
            case "break-glass":
                return self._authority.break_glass(event, time)
            case "operators":
                return self._authority.succeed(event, time)
        raise RefusedError(Reason.NO_HANDLER, "no such event")

    def _advance(self, signed: Millis, time: Millis) -> Millis:
        self._ahead += max(0, signed - time)
        return max(signed, time)

    def _party(self, link: Link) -> Party:
        party = self._authority.ledger.admitted(link.instance)
        if party is None or party.prove_by is not None:
            raise RefusedError(Reason.INSTANCE_UNKNOWN)
        if party.term != self._authority.standing.term:
            raise RefusedError(Reason.TERM_NOT_ACCEPTED, "admitted before the term: say hello again")
        return party

    def _transcript(self, instance: bytes) -> bytes | None:
        party = self._authority.ledger.admitted(instance)
        link = self._links.get(party.session_id) if party else None
        return link.session.transcript if link else None

    def _carry_out(self, effect: Effect, time: Millis) -> list[Action]:
        actions: list[Action] = [self._drop(link) for link in self._links.of(effect.dropped)]
        if not effect.everyone and not effect.roles:
            return actions
        term = self._authority.standing.term
        for link in list(self._links.current()):
            party = self._authority.ledger.admitted(link.instance)
            if party is not None and party.term == term and effect.touches(party):
                actions += self._answer(link, self._random(16), "push", self._authority.holdings(party, time))
        return actions

    def _refuse(self, link: Link, body: Body, refusal: PeerError, time: Millis) -> list[Action]:
        reason = refusal.reason.value
        if isinstance(refusal, _EventRefusedError):
            asked = refusal.event.kind if refusal.event.kind in EVENTS else "event"
            digest = event_digest(refusal.event).hex()
            self._authority.refusals.note(asked, reason, link.instance, now=time, event=digest)
        elif body.purpose in DECIDED:
            self._authority.refusals.note(body.purpose, reason, link.instance, now=time)
        actions = self._answer(link, body.request, "refused", Refused((reason,), refusal.detail))
        if link.phase is not Phase.ADMITTED:
            # One challenge a session: whoever was refused begins again at hello.
            actions.append(self._drop(link))
        return actions

    def _answer(self, link: Link, request: bytes, purpose: str, fields: object) -> list[Action]:
        if link.session.exhausted:
            # Its party says hello again; after 2^32 frames nothing else is safe.
            return [self._drop(link)]
        frame = link.session.seal(codec.encode(Body(purpose, request, fields)))
        return [Publish(link.session.send_subject, frame)]

    def _drop(self, link: Link) -> Unsubscribe:
        self._links.drop(link)
        return Unsubscribe(link.session.receive_subject)


def _number(page: str) -> int:
    if not (page.isascii() and page.isdecimal() and len(page) <= PAGE_DIGITS):
        raise MalformedError("not a page's number")
    return int(page)
