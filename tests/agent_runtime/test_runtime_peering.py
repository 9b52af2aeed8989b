"""Sessions between peers: what an init has to be, how many are borne, and when a session ends."""

from dataclasses import dataclass

import pytest

from agent_runtime.peering import Link
from schemas import codec
from schemas.documents import Beacon
from schemas.errors import PeerError, Reason
from schemas.limits import (
    GRACE,
    HALF_OPEN_PER_INSTANCE,
    HANDSHAKE_LIFETIME,
    SECOND,
    SESSION_IDLE_RECEIVE,
    SESSION_IDLE_SEND,
    SESSIONS_PER_PEER,
)
from schemas.messages import Body
from schemas.peer import Call, Confirm, Reply
from sealing.documents import open_message
from sealing.session import PendingSession
from tests.agent_runtime.world import Member, beat, enclave, mesh_up, signed_beacon
from tests.coordinator.world import World

CALL = Call(b"q" * 16, "tool", b"what it asks", 2**60, None)
REPLY = Reply(b"q" * 16, "", "", b"answer")


@dataclass
class Pair:
    """A redactor that opens sessions with a vault."""

    world: World
    redactor: Member
    vault: Member

    @property
    def admission(self) -> bytes:
        return self.vault.party.admitted.admission

    def open(self) -> tuple[PendingSession, str, bytes]:
        return self.redactor.peering.open(self.admission, "vault")

    def half_open(self) -> tuple[PendingSession, str, bytes, Link]:
        """Open a session as far as the accept."""
        pending, inbox, frame = self.open()
        to, answer, link = self.vault.peering.inbox(frame, inbox)
        assert to == pending.accept_subject
        return pending, to, answer, link

    def session(self) -> tuple[Link, Link]:
        """Return both ends of a session that is open."""
        _, to, answer, theirs = self.half_open()
        ours = self.redactor.peering.accepted(to, answer)
        _, confirm = self.redactor.peering.seal(ours, Confirm())
        assert self.vault.peering.receive(confirm)[:2] == (theirs, (Confirm(),))
        return ours, theirs

    def talk(self) -> tuple[Link, Link]:
        """Return both ends of a session on which each has heard the other."""
        ours, theirs = self.session()
        _, said = self.vault.peering.seal(theirs, REPLY)
        assert self.redactor.peering.receive(said)[:2] == (ours, (REPLY,))
        return ours, theirs

    def beat(self, after: int) -> None:
        """Let time pass without anybody missing a beacon."""
        while after > 0:
            beat(self.world, self.redactor, self.vault, after=min(after, GRACE // 2))
            after -= GRACE // 2


@pytest.fixture
def pair() -> Pair:
    world, _ = mesh_up()
    return Pair(world, enclave(world, "redactor"), enclave(world, "vault"))


def reason(act: object, *arguments: object) -> Reason:
    """Return why a call was refused."""
    assert callable(act)
    with pytest.raises(PeerError) as refusal:
        act(*arguments)
    return refusal.value.reason


def links(member: Member) -> list[Link]:
    return list(member.peering._links.values())


# A session from its first word to its last.


def test_session_carries_bodies_both_ways_and_knows_both_roles(pair: Pair) -> None:
    ours, theirs = pair.session()
    assert (ours.own_role, ours.peer_role) == (theirs.peer_role, theirs.own_role) == ("redactor", "vault")
    assert (ours.peer.subject, theirs.peer.subject) == (pair.vault.instance, pair.redactor.instance)
    to, frame = pair.redactor.peering.seal(ours, CALL)
    assert to == theirs.session.receive_subject
    assert pair.vault.peering.receive(frame)[:2] == (theirs, (CALL,))
    to, frame = pair.vault.peering.seal(theirs, REPLY)
    assert to == ours.session.receive_subject
    assert pair.redactor.peering.receive(frame)[:2] == (ours, (REPLY,))
    assert pair.redactor.peering.usable(pair.vault.instance, "vault") is ours


def test_nothing_is_sent_or_used_before_the_initiator_has_proved_itself(pair: Pair) -> None:
    *_, theirs = pair.half_open()
    assert reason(pair.vault.peering.seal, theirs, CALL) is Reason.NOT_AUTHENTIC
    assert pair.vault.peering.usable(pair.redactor.instance, "redactor") is None


def test_session_that_was_completed_last_is_used(pair: Pair) -> None:
    first, _ = pair.session()
    pair.beat(SECOND)
    second, _ = pair.session()
    assert pair.redactor.peering.usable(pair.vault.instance, "vault") is second
    pair.redactor.peering.drop(second)
    assert pair.redactor.peering.usable(pair.vault.instance, "vault") is first
    assert pair.redactor.peering.usable(pair.vault.instance, "redactor") is None


# What an init has to be.


def test_init_of_a_stranger_dies_at_one_key(pair: Pair) -> None:
    pending, inbox, frame = pair.open()
    for junk in (b"", b"junk", pending.wire, bytes(len(frame))):
        assert reason(pair.vault.peering.inbox, junk, inbox) is Reason.EPOCH_UNKNOWN
        assert not pair.vault.peering.may_be_init(junk)
    assert pair.vault.peering.may_be_init(frame)
    bent = frame[:-1] + bytes([frame[-1] ^ 1])
    assert reason(pair.vault.peering.inbox, bent, inbox) is Reason.NOT_AUTHENTIC
    assert links(pair.vault) == []


def test_init_comes_on_the_subject_that_it_was_sealed_for(pair: Pair) -> None:
    _, inbox, frame = pair.open()
    (own,) = pair.vault.peering.inbox_subjects()
    assert own == inbox
    assert reason(pair.vault.peering.inbox, frame, f"{inbox}0") is Reason.NOT_AUTHENTIC


def test_init_under_a_roles_key_is_none(pair: Pair) -> None:
    pending, inbox, _ = pair.open()
    fellow = enclave(pair.world, "vault", chip="d0" * 64)
    body = codec.encode(Body("init", bytes(16), pending.wire))
    frame = fellow.membership.keyring.sealer("vault", pair.world.now).seal_group(body, inbox)
    assert reason(pair.vault.peering.inbox, frame, inbox) is Reason.EPOCH_UNKNOWN


def test_what_is_no_init_is_refused(pair: Pair) -> None:
    pending, inbox, _ = pair.open()
    sealer = pair.redactor.membership.keyring.sealer("mesh", pair.world.now)
    other = sealer.seal_group(codec.encode(Body("beacon", bytes(16), pending.wire)), inbox)
    assert reason(pair.vault.peering.inbox, other, inbox) is Reason.NOT_AUTHENTIC
    text = sealer.seal_group(codec.encode(Body("init", bytes(16), "text")), inbox)
    assert reason(pair.vault.peering.inbox, text, inbox) is Reason.MALFORMED


def test_init_is_answered_once(pair: Pair) -> None:
    pending, inbox, frame = pair.open()
    pair.vault.peering.inbox(frame, inbox)
    assert reason(pair.vault.peering.inbox, frame, inbox) is Reason.REPLAYED
    # Sealed anew by another member of the mesh, the frame is new and the init is not.
    body = codec.encode(Body("init", bytes(16), pending.wire))
    other = enclave(pair.world, "planner").membership.keyring.sealer("mesh", pair.world.now)
    assert reason(pair.vault.peering.inbox, other.seal_group(body, inbox), inbox) is Reason.REPLAYED
    # That is remembered for as long as its credential would pass, not only for a handshake's time.
    pair.beat(2 * HANDSHAKE_LIFETIME)
    pair.vault.peering.sweep()
    assert reason(pair.vault.peering.inbox, other.seal_group(body, inbox), inbox) is Reason.REPLAYED
    assert len(links(pair.vault)) == 0


def test_init_to_another_instance_is_refused(pair: Pair) -> None:
    other = enclave(pair.world, "vault", chip="d0" * 64)
    _, inbox, frame = pair.open()
    assert reason(other.peering.inbox, frame, inbox) is Reason.NOT_AUTHENTIC


def test_init_of_a_revoked_instance_is_refused(pair: Pair) -> None:
    _, inbox, frame = pair.open()
    pair.vault.revoke(pair.redactor.instance)
    assert reason(pair.vault.peering.inbox, frame, inbox) is Reason.INSTANCE_REVOKED
    assert links(pair.vault) == []


def test_init_with_a_role_that_its_admission_does_not_name_is_refused(pair: Pair) -> None:
    member = pair.redactor.membership
    trust = member.held()
    for peer_role, own in (("vault", "planner"), ("planner", "redactor")):
        pending = PendingSession(
            member.mesh,
            member.keys,
            responder=pair.open()[0]._responder,
            responder_kem=pair.vault.membership.keys.kem.public,
            credential=trust.admission_bytes,
            context=bytes(32),
            secret=bytes(32),
            session_id=bytes(8),
            role=member.mesh.role_id(own),
            responder_role=member.mesh.role_id(peer_role),
            beacon=member.last_beacon,
        )
        (inbox,) = pair.vault.peering.inbox_subjects()
        body = codec.encode(Body("init", bytes(16), pending.wire))
        frame = member.keyring.sealer("mesh", pair.world.now).seal_group(body, inbox)
        assert reason(pair.vault.peering.inbox, frame, inbox) is Reason.ROLE_NOT_PERMITTED


def test_init_with_a_beacon_that_differs_proves_a_fork(pair: Pair) -> None:
    member = pair.redactor.membership
    assert member.last_beacon is not None
    member.last_beacon = signed_beacon(pair.world, member.last_beacon, log_root=b"f" * 32)
    _, inbox, frame = pair.open()
    # The redactor's last beacon is older than the vault's: the vault has the true one of that sequence.
    pair.vault.membership.witness.remember(b"the true one", beacon_of(pair, member.last_beacon))
    assert reason(pair.vault.peering.inbox, frame, inbox) is Reason.EQUIVOCATION
    assert not pair.vault.membership.live()
    assert links(pair.vault) == []


def beacon_of(pair: Pair, signed: bytes) -> Beacon:
    return open_message(signed, pair.world.keys.signing.public, pair.world.mesh, "beacon", Beacon)


def test_nobody_opens_or_answers_while_not_live(pair: Pair) -> None:
    ours, theirs = pair.session()
    _, inbox, frame = pair.open()
    _, confirmed = pair.redactor.peering.seal(ours, CALL)
    pair.world.now += GRACE + 1
    assert reason(pair.open) is Reason.NOT_LIVE
    assert reason(pair.vault.peering.inbox, frame, inbox) is Reason.NOT_LIVE
    assert reason(pair.vault.peering.receive, confirmed) is Reason.NOT_LIVE
    assert reason(pair.vault.peering.seal, theirs, CALL) is Reason.NOT_LIVE


def test_session_is_opened_with_a_role_that_the_peer_holds(pair: Pair) -> None:
    assert reason(pair.redactor.peering.open, pair.admission, "planner") is Reason.ROLE_NOT_PERMITTED
    pair.redactor.revoke(pair.vault.instance)
    assert reason(pair.open) is Reason.INSTANCE_REVOKED


# Accepts.


def test_accept_ends_its_opening(pair: Pair) -> None:
    _, to, answer, _ = pair.half_open()
    assert reason(pair.redactor.peering.accepted, "sb.elsewhere", answer) is Reason.SESSION_UNKNOWN
    bent = answer[:-1] + bytes([answer[-1] ^ 1])
    assert reason(pair.redactor.peering.accepted, to, bent) is Reason.NOT_AUTHENTIC
    # The damaged one has not ended what the true one completes.
    pair.redactor.peering.accepted(to, answer)
    assert reason(pair.redactor.peering.accepted, to, answer) is Reason.SESSION_UNKNOWN


def test_accept_of_what_was_given_up_is_refused(pair: Pair) -> None:
    _, to, answer, _ = pair.half_open()
    pair.redactor.peering.abandon(to)
    assert reason(pair.redactor.peering.accepted, to, answer) is Reason.SESSION_UNKNOWN


def test_opening_is_given_up_when_its_time_is_over(pair: Pair) -> None:
    _, to, answer, _ = pair.half_open()
    pair.beat(HANDSHAKE_LIFETIME)
    pair.redactor.peering.sweep()
    assert reason(pair.redactor.peering.accepted, to, answer) is Reason.SESSION_UNKNOWN


def test_accept_of_a_peer_that_was_revoked_meanwhile_is_refused(pair: Pair) -> None:
    _, to, answer, _ = pair.half_open()
    pair.redactor.revoke(pair.vault.instance)
    assert reason(pair.redactor.peering.accepted, to, answer) is Reason.INSTANCE_REVOKED


# How many are borne.


def test_so_many_half_open_sessions_of_one_instance_are_borne_and_others_theirs(pair: Pair) -> None:
    for _ in range(HALF_OPEN_PER_INSTANCE):
        pair.half_open()
    _, inbox, frame = pair.open()
    assert reason(pair.vault.peering.inbox, frame, inbox) is Reason.TOO_MANY_HALF_OPEN
    other = enclave(pair.world, "redactor", chip="d0" * 64)
    _, inbox, frame = other.peering.open(pair.admission, "vault")
    pair.vault.peering.inbox(frame, inbox)
    # They linger no longer than a handshake may take.
    pair.beat(HANDSHAKE_LIFETIME)
    assert len(pair.vault.peering.sweep()) == HALF_OPEN_PER_INSTANCE + 1
    pair.half_open()


def test_init_within_a_session_is_counted_before_it_is_opened(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, theirs = pair.session()
    for _ in range(HALF_OPEN_PER_INSTANCE):
        _, inbox, frame = pair.open()
        pair.vault.peering.inbox(frame, inbox, theirs)
    assert reason(pair.vault.peering.inbox, frame, inbox, theirs) is Reason.REPLAYED
    _, inbox, frame = pair.open()
    monkeypatch.delattr("agent_runtime.peering.open_init")
    assert reason(pair.vault.peering.inbox, frame, inbox, theirs) is Reason.TOO_MANY_HALF_OPEN


def test_init_within_a_session_is_of_its_peer(pair: Pair) -> None:
    _, theirs = pair.session()
    other = enclave(pair.world, "redactor", chip="d0" * 64)
    _, inbox, frame = other.peering.open(pair.admission, "vault")
    assert reason(pair.vault.peering.inbox, frame, inbox, theirs) is Reason.NOT_AUTHENTIC
    assert links(pair.vault) == [theirs]


def test_so_many_half_open_sessions_are_borne_in_all(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_runtime.peering.HALF_OPEN_TOTAL", 2)
    pair.session()
    for _ in range(2):
        pair.half_open()
    other = enclave(pair.world, "redactor", chip="d0" * 64)
    _, inbox, frame = other.peering.open(pair.admission, "vault")
    assert reason(pair.vault.peering.inbox, frame, inbox) is Reason.TOO_MANY_HALF_OPEN


def test_oldest_sessions_of_a_peer_with_too_many_end(pair: Pair) -> None:
    sessions = [pair.session() for _ in range(SESSIONS_PER_PEER + 2)]
    assert pair.vault.peering.sweep() == [theirs for _, theirs in sessions[:2]]
    assert links(pair.vault) == [theirs for _, theirs in sessions[2:]]
    _, late = pair.redactor.peering.seal(sessions[0][0], CALL)
    assert reason(pair.vault.peering.receive, late) is Reason.SESSION_UNKNOWN


# When a session ends.


def test_frame_of_no_session_is_refused(pair: Pair) -> None:
    for junk in (b"", b"junk", bytes(100)):
        assert reason(pair.vault.peering.receive, junk) is Reason.SESSION_UNKNOWN


def test_frame_counts_once_and_one_that_is_bent_never(pair: Pair) -> None:
    ours, theirs = pair.session()
    _, frame = pair.redactor.peering.seal(ours, CALL)
    bent = frame[:-1] + bytes([frame[-1] ^ 1])
    assert reason(pair.vault.peering.receive, bent) is Reason.NOT_AUTHENTIC
    assert pair.vault.peering.receive(frame)[:2] == (theirs, (CALL,))
    assert reason(pair.vault.peering.receive, frame) is Reason.REPLAYED


def test_session_with_a_revoked_peer_carries_nothing_and_ends(pair: Pair) -> None:
    ours, theirs = pair.session()
    _, frame = pair.redactor.peering.seal(ours, CALL)
    pair.vault.revoke(pair.redactor.instance)
    assert reason(pair.vault.peering.receive, frame) is Reason.INSTANCE_REVOKED
    assert reason(pair.vault.peering.seal, theirs, CALL) is Reason.INSTANCE_REVOKED
    assert pair.vault.peering.sweep() == [theirs]
    assert reason(pair.vault.peering.receive, frame) is Reason.SESSION_UNKNOWN


def test_of_a_revoked_peers_calls_the_ids_are_kept_and_no_reply(pair: Pair) -> None:
    requests, now = pair.vault.peering.requests, pair.world.now
    requests.begin(pair.redactor.instance, CALL.request, until=now + SECOND, now=now)
    requests.finish(pair.redactor.instance, CALL.request, b"reply")
    pair.vault.peering.sweep()
    assert requests._size == len(b"reply")
    pair.vault.revoke(pair.redactor.instance)
    pair.vault.peering.sweep()
    assert requests._size == 0
    assert pair.redactor.instance in requests._peers


def test_session_ends_with_the_admission_that_ends_first(pair: Pair) -> None:
    ours, theirs = pair.session()
    assert ours.expires == theirs.expires == pair.redactor.membership.held().admission.expires * SECOND
    theirs.expires = pair.world.now + 1
    _, frame = pair.redactor.peering.seal(ours, CALL)
    pair.world.now += 1
    assert reason(pair.vault.peering.receive, frame) is Reason.EXPIRED
    assert pair.vault.peering.sweep() == [theirs]


def test_silent_session_is_no_longer_sent_on_before_its_receiver_forgets_it(pair: Pair) -> None:
    ours, theirs = pair.talk()
    # As if admissions lived for long, so that silence alone decides.
    for link in (ours, theirs):
        link.expires = pair.world.now + 10 * SESSION_IDLE_RECEIVE
    pair.beat(SESSION_IDLE_SEND - SECOND)
    assert ours.usable(pair.world.now)
    pair.beat(SECOND)
    assert not ours.usable(pair.world.now)
    assert pair.vault.peering.sweep() == []
    pair.beat(SESSION_IDLE_RECEIVE - SESSION_IDLE_SEND)
    assert pair.vault.peering.sweep() == [theirs]


def test_session_that_its_peer_may_have_forgotten_is_left_before(pair: Pair) -> None:
    ours, theirs = pair.session()
    fresh, heard = pair.session()
    _, said = pair.vault.peering.seal(heard, REPLY)
    pair.redactor.peering.receive(said)
    pair.beat(HANDSHAKE_LIFETIME // 2)
    # Our confirmation may be lost, and a session that is half-open lives no longer than a handshake.
    assert not ours.usable(pair.world.now)
    assert fresh.usable(pair.world.now)
    # Who was confirmed to has been heard.
    assert theirs.usable(pair.world.now)


def test_session_on_which_a_request_got_no_answer_takes_no_new_ones_but_still_carries(pair: Pair) -> None:
    ours, theirs = pair.talk()
    ours.retired = True
    assert pair.redactor.peering.usable(pair.vault.instance, "vault") is None
    _, late = pair.vault.peering.seal(theirs, REPLY)
    assert pair.redactor.peering.receive(late)[:2] == (ours, (REPLY,))
    # What the other asks on it is heard as well: nobody told it.
    assert pair.vault.peering.usable(pair.redactor.instance, "redactor") is theirs
    _, asked = pair.vault.peering.seal(theirs, CALL)
    assert pair.redactor.peering.receive(asked)[:2] == (ours, (CALL,))
    _, answer = pair.redactor.peering.seal(ours, REPLY)
    assert pair.vault.peering.receive(answer)[:2] == (theirs, (REPLY,))


def test_new_handshake_loses_nothing_that_is_in_flight(pair: Pair) -> None:
    old, theirs = pair.talk()
    _, question = pair.redactor.peering.seal(old, CALL)
    _, answer = pair.vault.peering.seal(theirs, REPLY)
    pair.beat(SECOND)
    new, _ = pair.talk()
    assert pair.redactor.peering.usable(pair.vault.instance, "vault") is new
    # Both were said on the old session, and come when there is another.
    assert pair.vault.peering.receive(question)[:2] == (theirs, (CALL,))
    assert pair.redactor.peering.receive(answer)[:2] == (old, (REPLY,))
    _, late = pair.vault.peering.seal(theirs, REPLY)
    assert pair.redactor.peering.receive(late)[:2] == (old, (REPLY,))


def test_two_that_open_at_once_both_get_a_session_and_use_one(pair: Pair) -> None:
    redactor, vault = pair.redactor.peering, pair.vault.peering
    _, to_vault, one = redactor.open(pair.admission, "vault")
    _, to_redactor, other = vault.open(pair.redactor.party.admitted.admission, "redactor")
    accept_one, wire_one, vaults_end = vault.inbox(one, to_vault)
    accept_other, wire_other, redactors_end = redactor.inbox(other, to_redactor)
    ours, theirs = redactor.accepted(accept_one, wire_one), vault.accepted(accept_other, wire_other)
    # Before either is confirmed each uses its own, and both are heard.
    assert redactor.usable(pair.vault.instance, "vault") is ours
    assert vault.usable(pair.redactor.instance, "redactor") is theirs
    assert vault.receive(redactor.seal(ours, CALL)[1])[:2] == (vaults_end, (CALL,))
    assert redactor.receive(vault.seal(theirs, CALL)[1])[:2] == (redactors_end, (CALL,))
    assert vault.receive(redactor.seal(redactors_end, REPLY)[1])[:2] == (theirs, (REPLY,))
    assert redactor.receive(vault.seal(vaults_end, REPLY)[1])[:2] == (ours, (REPLY,))


def test_half_open_session_that_is_overdue_keeps_nobody_out_until_it_is_swept(pair: Pair) -> None:
    for _ in range(HALF_OPEN_PER_INSTANCE):
        pair.half_open()
    pair.beat(HANDSHAKE_LIFETIME)
    pair.half_open()


def test_peer_that_began_again_is_another_instance_and_answers_at_once(pair: Pair) -> None:
    old, _ = pair.talk()
    pair.vault = enclave(pair.world, "vault", chip="d0" * 64)
    _, lost = pair.redactor.peering.seal(old, CALL)
    assert reason(pair.vault.peering.receive, lost) is Reason.SESSION_UNKNOWN
    ours, theirs = pair.session()
    _, asked = pair.redactor.peering.seal(ours, CALL)
    assert pair.vault.peering.receive(asked)[:2] == (theirs, (CALL,))


def test_session_is_renewed_in_the_middle_of_its_life(pair: Pair) -> None:
    ours, _ = pair.talk()
    middle = (ours.opened + ours.expires) // 2
    ours.sent = middle
    assert ours.usable(middle - 1)
    assert not ours.usable(middle)
    ours.session.exhausted = True
    assert not ours.usable(middle - 1)


def test_all_sessions_end_at_once(pair: Pair) -> None:
    ours, _ = pair.session()
    _, to, answer, _ = pair.half_open()
    assert pair.redactor.peering.drop_all() == [ours]
    assert links(pair.redactor) == []
    assert reason(pair.redactor.peering.seal, ours, CALL) is Reason.NOT_AUTHENTIC
    assert reason(pair.redactor.peering.accepted, to, answer) is Reason.SESSION_UNKNOWN
