"""Sessions with peers: handshakes under the mesh key, and the table of what is established.

Pure: frames in, frames out. An init from a stranger dies at one AEAD, because it travels in a mesh
group frame; what passes is bounded per instance and in all.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent_runtime.membership import Membership, Moment
from agent_runtime.requests import RequestMemory
from agent_runtime.trust import MESH_GROUP, Trust
from schemas import codec
from schemas.documents import Admission
from schemas.errors import Reason
from schemas.limits import (
    HALF_OPEN_PER_INSTANCE,
    HALF_OPEN_TOTAL,
    HANDSHAKE_LIFETIME,
    SECOND,
    SESSION_IDLE_RECEIVE,
    SESSION_IDLE_SEND,
    SESSIONS_PER_PEER,
)
from schemas.messages import Accept, Body, Init, Millis
from schemas.peer import ARRAY_HEADS, PeerMessage, decode_messages, encode_message
from schemas.subjects import Kind, subject
from sealing.context import sha256
from sealing.errors import NotAuthenticError, ReplayedError, SealingError
from sealing.frames import SESSION_ID
from sealing.groups import frame_token
from sealing.session import Peer, PendingSession, Session, accept_init, open_init

INIT = "init"
NO_REQUEST = bytes(16)


class ForkError(SealingError):
    """An init showed a beacon that differs from ours: send its `answer` to `subject`, and nothing after."""

    def __init__(self, subject: str, answer: bytes) -> None:
        super().__init__(Reason.EQUIVOCATION, "a peer's beacon differs from ours")
        self.subject, self.answer = subject, answer


@dataclass(slots=True, eq=False)
class Link:
    """An established session with what was judged about its peer."""

    session: Session
    peer: Admission
    peer_role: str
    own_role: str
    opened: Millis
    expires: Millis
    sent: Millis
    received: Millis
    heard: bool = False  # the peer has said something on it
    retired: bool = False  # a request got no answer: what is on its way may still come
    reopens: Millis = 0  # from when on an init is taken that comes within it
    hint: str = ""  # by which the broker says that nobody listened: our own id of it, which frames show too

    def usable(self, now: Millis) -> bool:
        """Tell whether new requests may go on this session."""
        return (
            not self.retired
            and now < self.expires
            # The peer forgets one that our confirmation has not reached: we leave it before.
            and (self.heard or now - self.opened < HANDSHAKE_LIFETIME // 2)
            and now - self.sent < SESSION_IDLE_SEND
            and now < (self.opened + self.expires) // 2
            and not self.session.exhausted
        )


@dataclass(slots=True)
class _Opening:
    pending: PendingSession
    peer: Admission
    peer_role: str
    own_role: str
    until: Millis


class Peering:
    """All sessions of one process with its peers."""

    def __init__(self, membership: Membership, random: Callable[[int], bytes]) -> None:
        self._membership = membership
        self._random = random
        self._links: dict[bytes, Link] = {}
        self._by_peer: dict[bytes, list[Link]] = {}
        self._opening: dict[str, _Opening] = {}
        self._seen: dict[bytes, Millis] = {}
        self.requests = RequestMemory()

    def inbox_subjects(self) -> tuple[str, ...]:
        """Return the subjects on which inits for this instance arrive."""
        mesh = self._membership.mesh
        return tuple(
            subject(mesh.id, Kind.INBOX, token)
            for token in self._membership.names(Kind.INBOX, self._membership.keys.instance)
        )

    def open(
        self, admission_bytes: bytes, peer_role: str, own_role: str | None = None
    ) -> tuple[PendingSession, str, bytes]:
        """Return a pending session with a peer, and the subject and frame of its init.

        It is opened in an own role, the first one if none is named: what is asked on it is judged by that.
        """
        member = self._membership
        trust = member.require_live()
        peer = member.peer(admission_bytes)
        if peer_role not in peer.roles:
            raise SealingError(Reason.ROLE_NOT_PERMITTED)
        own_role = own_role or trust.admission.roles[0]
        if own_role not in trust.admission.roles:
            raise SealingError(Reason.ROLE_NOT_PERMITTED)
        pending = PendingSession(
            member.mesh,
            member.keys,
            responder=Peer(peer.subject, peer.signing_key),
            responder_kem=peer.kem_key,
            credential=trust.admission_bytes,
            context=sha256(admission_bytes),
            secret=self._random(32),
            session_id=self._random(8),
            role=member.mesh.role_id(own_role),
            responder_role=member.mesh.role_id(peer_role),
            beacon=member.last_beacon,
        )
        now = member.clock.now()
        self._opening[pending.accept_subject] = _Opening(
            pending, peer, peer_role, own_role, now + HANDSHAKE_LIFETIME
        )
        inbox = subject(member.mesh.id, Kind.INBOX, member.names(Kind.INBOX, peer.subject)[0])
        body = codec.encode(Body(INIT, NO_REQUEST, pending.wire))
        return pending, inbox, member.keyring.sealer(MESH_GROUP, now).seal_group(body, inbox)

    def accepted(self, accept_subject: str, wire: bytes) -> Link:
        """Finish a session of our own opening."""
        opening = self._opening.get(accept_subject)
        if opening is None:
            raise SealingError(Reason.SESSION_UNKNOWN)
        member = self._membership

        def judge(accept: Accept) -> None:
            member.require_live()
            renewed = member.peer(accept.credential)
            if renewed.subject != opening.peer.subject or opening.peer_role not in renewed.roles:
                raise NotAuthenticError("accept by another instance or role")
            member.compare_beacon(accept.state)

        session = opening.pending.accept(wire, judge)
        del self._opening[accept_subject]
        return self._establish(session, opening.peer, opening.peer_role, opening.own_role)

    def abandon(self, accept_subject: str) -> None:
        """Give up a session of our own opening."""
        opening = self._opening.pop(accept_subject, None)
        if opening is not None:
            opening.pending.erase()

    def may_be_init(self, frame: bytes | memoryview) -> bool:
        """Tell by a look at its header whether a frame may be an init: it costs next to nothing."""
        opener = self._membership.keyring.opener(frame_token(frame))
        return opener is not None and opener.group == MESH_GROUP

    def inbox(self, frame: bytes, inbox: str, within: Link | None = None) -> tuple[str, bytes, Link]:
        """Answer an init: return the accept's subject, the accept, and the half-open session.

        It may have come `within` a session: then it is of that one's peer, or refused.
        """
        member = self._membership
        trust = member.require_live()
        # 1. From somebody who is admitted: under the mesh key.
        opener = member.keyring.opener(frame_token(frame))
        if opener is None or opener.group != MESH_GROUP:
            raise SealingError(Reason.EPOCH_UNKNOWN)
        _, plain = opener.open_group(frame, inbox)
        body = codec.decode(plain, Body)
        if body.purpose != INIT:
            raise NotAuthenticError("not an init")
        wire = codec.convert(body.fields, bytes)
        # 2. Not seen, and room for one more half-open session.
        init_hash = sha256(wire)
        if init_hash in self._seen:
            raise ReplayedError("init")
        if sum(not link.session.confirmed for link in self._links.values()) >= HALF_OPEN_TOTAL:
            raise SealingError(Reason.TOO_MANY_HALF_OPEN)
        if within is not None:
            self._check_half_open(within.peer.subject)
        proven: list[Admission] = []

        def judge(init: Init) -> Peer:
            admission = member.peer(init.credential)
            if within is not None and admission.subject != within.peer.subject:
                raise NotAuthenticError("an init of another instance than the session's")
            if init.role not in {member.mesh.role_id(role) for role in admission.roles}:
                raise SealingError(Reason.ROLE_NOT_PERMITTED, "the initiator's role")
            if init.responder_role not in {member.mesh.role_id(role) for role in trust.admission.roles}:
                raise SealingError(Reason.ROLE_NOT_PERMITTED, "the responder's role")
            proven.append(admission)
            return Peer(admission.subject, admission.signing_key)

        # 3. Its seal, its credential and its signature.
        opened = open_init(member.mesh, member.keys, wire, judge)
        peer = proven[0]
        self._check_half_open(peer.subject)
        shown, fork = member.last_beacon, None
        try:
            member.compare_beacon(opened.init.beacon)
        except SealingError as error:
            if member.witness.proof is None:
                raise
            # The last word of one who stops: with the beacon that differs, the initiator has the proof too.
            shown, fork = member.witness.proof[0], error
        self._seen[init_hash] = peer.expires * SECOND
        answer, session = accept_init(
            member.mesh,
            member.keys,
            opened,
            credential=trust.admission_bytes,
            state=shown,
            secret=self._random(32),
            session_id=self._random(8),
        )
        if fork is not None:
            session.erase()
            raise ForkError(subject(member.mesh.id, Kind.ACCEPT, init_hash[:16]), answer) from fork
        names = {member.mesh.role_id(role): role for role in (*peer.roles, *trust.admission.roles)}
        link = self._establish(
            session, peer, names[opened.init.role or b""], names[opened.init.responder_role or b""]
        )
        return subject(member.mesh.id, Kind.ACCEPT, init_hash[:16]), answer, link

    def receive(self, frame: bytes | memoryview) -> tuple[Link, tuple[PeerMessage, ...], Moment]:
        """Open a session frame, which is not looked at later, and tell when it was judged."""
        link = self._links.get(bytes(frame[SESSION_ID]))
        if link is None:
            raise SealingError(Reason.SESSION_UNKNOWN)
        moment = trust, now = self._membership.require_live_now()
        if link.peer.subject in trust.revoked or now >= link.expires:
            raise _closed(link, trust)
        messages = decode_messages(link.session.open_view(frame))
        link.received, link.heard = now, True
        return link, messages, moment

    def seal(self, link: Link, *messages: PeerMessage) -> tuple[str, bytes]:
        """Return the subject and the frame of messages for a session's peer."""
        encoded = [encode_message(message) for message in messages]
        subject, header, sealed = self.seal_encoded(link, len(encoded), encoded)
        return subject, header + sealed

    def seal_encoded(
        self, link: Link, count: int, parts: Sequence[bytes], moment: Moment | None = None
    ) -> tuple[str, bytes, bytes]:
        """Return the subject and the frame, in two parts, of `count` encoded messages that `parts` make up.

        `moment` is for who asked for it and ran nothing else since.
        """
        trust, now = moment or self._membership.require_live_now()
        if link.peer.subject in trust.revoked or now >= link.expires:
            raise _closed(link, trust)
        header, sealed = link.session.seal_parts((ARRAY_HEADS[count], *parts))
        link.sent = now
        return link.session.send_subject, header, sealed

    def usable(self, instance: bytes, peer_role: str, own_role: str | None = None) -> Link | None:
        """Return the session with an instance that was completed last, if new requests may go on it.

        Of those in an own role, if it is named: the peer judges what comes by the role of its session.
        """
        now = self._membership.clock.highest()
        best: Link | None = None
        for link in self._of(instance):
            newer = best is None or link.opened > best.opened
            fits = link.peer_role == peer_role and own_role in (None, link.own_role)
            if newer and fits and link.session.confirmed and link.usable(now):
                best = link
        return best

    def speaking(self, instance: bytes) -> Link | None:
        """Return the session with an instance on which something may still be said, if there is one."""
        now = self._membership.clock.highest()
        links = [link for link in self._of(instance) if link.session.confirmed and now < link.expires]
        return max(links, key=lambda link: link.opened, default=None)

    def hinted(self, hint: str) -> Link | None:
        """Return the session that a broker's hint names; it may be any text."""
        try:
            return self._links.get(bytes.fromhex(hint))
        except ValueError:
            return None

    def sweep(self) -> list[Link]:
        """Drop what is expired, revoked, idle or was never confirmed; return what was dropped."""
        now = self._membership.clock.highest()
        revoked = self._membership.held().revoked
        crowded = set(self._crowded())
        dropped = [
            link
            for link in self._links.values()
            if now >= link.expires
            or link.peer.subject in revoked
            or now - max(link.received, link.sent) >= SESSION_IDLE_RECEIVE
            or (not link.session.confirmed and now - link.opened >= HANDSHAKE_LIFETIME)
            or link.session.own_id in crowded
        ]
        for link in dropped:
            self.drop(link)
        for accept_subject in [key for key, opening in self._opening.items() if now >= opening.until]:
            self.abandon(accept_subject)
        self._seen = {digest: until for digest, until in self._seen.items() if now < until}
        self.requests.forget(now, revoked)
        return dropped

    def drop(self, link: Link) -> None:
        """End one session."""
        if self._links.pop(link.session.own_id, None) is not None:
            left = [each for each in self._by_peer.pop(link.peer.subject) if each is not link]
            if left:
                self._by_peer[link.peer.subject] = left
        link.session.erase()

    def drop_all(self) -> list[Link]:
        """End every session; return what was ended."""
        dropped = list(self._links.values())
        for link in dropped:
            self.drop(link)
        for accept_subject in list(self._opening):
            self.abandon(accept_subject)
        return dropped

    def _establish(self, session: Session, peer: Admission, peer_role: str, own_role: str) -> Link:
        now = self._membership.clock.highest()
        own = self._membership.held().admission
        link = Link(
            session,
            peer,
            peer_role,
            own_role,
            opened=now,
            expires=min(peer.expires, own.expires) * SECOND,
            sent=now,
            received=now,
            hint=session.own_id.hex(),
        )
        self._links[session.own_id] = link
        self._by_peer.setdefault(peer.subject, []).append(link)
        return link

    def _check_half_open(self, instance: bytes) -> None:
        # The sweep comes late, and what it will drop must not keep a peer out who was not heard.
        since = self._membership.clock.highest() - HANDSHAKE_LIFETIME
        half_open = [
            link for link in self._of(instance) if not link.session.confirmed and link.opened > since
        ]
        if len(half_open) >= HALF_OPEN_PER_INSTANCE:
            raise SealingError(Reason.TOO_MANY_HALF_OPEN)

    def _crowded(self) -> Iterator[bytes]:
        counts: Counter[bytes] = Counter()
        for own_id, link in reversed(self._links.items()):
            counts[link.peer.subject] += 1
            if counts[link.peer.subject] > SESSIONS_PER_PEER:
                yield own_id

    def _of(self, instance: bytes) -> Sequence[Link]:
        return self._by_peer.get(instance, ())


def _closed(link: Link, trust: Trust) -> SealingError:
    if link.peer.subject in trust.revoked:
        return SealingError(Reason.INSTANCE_REVOKED)
    return SealingError(Reason.EXPIRED, "session")
