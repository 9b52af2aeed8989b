"""The submitter's side: every task ends, by its result or its deadline, and nobody else can end it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from agent_runtime.errors import RefusedError, TaskFailedError
from agent_runtime.seen import content_digest
from agent_runtime.submitting import MAX_PAYLOAD, RESEND_AFTER, Origin, Outcome, Outgoing, Submissions
from schemas import codec
from schemas.errors import PeerError, Reason, UsageError
from schemas.limits import GRACE, MAX_MESSAGE, MINUTE, SECOND
from schemas.messages import ResultBody, TaskBody
from schemas.policy import TaskClass
from schemas.scheduling import TaskMessage
from schemas.subjects import Kind, subject
from sealing.groups import frame_token
from sealing.results import ResultHeader, seal_result
from tests.agent_runtime.world import REPLY_TO, STORED, TASK, Member, beat, client, enclave, mesh_up
from tests.coordinator.world import World, seeded

LIFETIME = 2 * MINUTE  # of the class `plan` here


@pytest.fixture
def world() -> World:
    policy = World().policy()
    classes = {**policy.classes, "plan": TaskClass(role="planner", lifetime_seconds=LIFETIME // SECOND)}
    return mesh_up(replace(policy, classes=classes))[0]


@pytest.fixture
def desk(world: World) -> Member:
    return client(world)


@pytest.fixture
def planner(world: World) -> Member:
    return enclave(world, "planner")


def frame_of(outgoing: Outgoing) -> bytes:
    return codec.decode(outgoing.payload, TaskMessage).frame


def opened(member: Member, outgoing: Outgoing) -> TaskBody:
    """Open a task as its worker does."""
    task = member.gate.task(frame_of(outgoing))
    assert task.refusal is None
    return task.body


def answer(worker: Member, outgoing: Outgoing, *, salt: int = 1, **changes: Any) -> bytes:
    """Return a result as a worker sends it, or with something else in its place."""
    task = opened(worker, outgoing)
    values: dict[str, Any] = {
        "token": frame_token(frame_of(outgoing)),
        "epoch": task.reply_epoch,
        "key": task.reply_key,
        "worker": worker.instance,
        "reason": "",
        **changes,
    }
    header = ResultHeader(values["token"], values["epoch"], task.task_id, bytes([salt]) * 16)
    body = ResultBody(values["worker"], values["reason"], "detail", b"value")
    return seal_result(worker.world.mesh, values["key"], header, codec.encode(body))


def refused(submissions: Submissions, frame: bytes) -> Reason:
    """Return why a result was refused, having seen that what waits still waits."""
    before = len(submissions)
    with pytest.raises(PeerError) as refusal:
        submissions.result(frame)
    assert len(submissions) == before
    return refusal.value.reason


def failure(outcome: Outcome) -> Reason:
    assert outcome.failure is not None
    return outcome.failure.reason


# What is sent.


def test_task_is_sealed_to_its_role_and_says_no_more_to_the_scheduler_than_its_hints(
    world: World, desk: Member, planner: Member
) -> None:
    pending, outgoing = desk.submissions.submit("plan", b"payload", priority=7, affinity="patient 7")
    body = opened(planner, outgoing)
    assert (body.task_id, body.payload, body.reply_to) == (pending.task_id, b"payload", REPLY_TO)
    assert (body.issued, body.expires) == (world.now, world.now + LIFETIME)
    message = codec.decode(outgoing.payload, TaskMessage)
    (token,) = desk.membership.names(Kind.TASK, b"plan")
    assert outgoing.subject == subject(world.mesh.id, Kind.TASK, token)
    assert outgoing.task_id == pending.task_id
    assert (message.hints.class_token, message.hints.priority) == (token, 7)
    assert message.hints.deadline == body.expires
    assert message.hints.size_class == len(message.frame).bit_length()
    # The same text, the same name for a member of the mesh; to others it says nothing.
    _, again = desk.submissions.submit("plan", b"payload", affinity="patient 7")
    assert again.message_id != outgoing.message_id
    _, other = desk.submissions.submit("plan", b"payload", affinity="patient 8")
    affinities = [codec.decode(each.payload, TaskMessage).hints.affinity for each in (outgoing, again, other)]
    assert affinities[0] == affinities[1] != affinities[2]
    assert b"patient" not in outgoing.payload


@pytest.mark.parametrize(("asked", "given"), [(None, LIFETIME), (1_000, 1_000), (2 * LIFETIME, LIFETIME)])
def test_task_lives_for_as_long_as_its_class_permits(desk: Member, asked: int | None, given: int) -> None:
    pending, _ = desk.submissions.submit("plan", b"", lifetime=asked)
    assert pending.expires - pending.issued == given


def test_what_may_not_be_submitted_leaves_nothing_behind(world: World, desk: Member) -> None:
    for task_class, size, reason in (
        ("redact", 1, Reason.NO_GRANT),
        ("plan", 1001, Reason.CONSTRAINT_VIOLATED),
    ):
        with pytest.raises(RefusedError) as refusal:
            desk.submissions.submit(task_class, bytes(size))
        assert refusal.value.reason is reason
    with pytest.raises(UsageError, match="priority"):
        desk.submissions.submit("plan", b"", priority=10)
    desk.believe("submit", "plan", "planner")
    with pytest.raises(RefusedError, match="too-large"):
        desk.submissions.submit("plan", bytes(MAX_PAYLOAD + 1))
    desk.believe("submit", "other", "planner")
    with pytest.raises(RefusedError, match="no-grant"):
        desk.submissions.submit("other", b"")
    world.now += GRACE + 1
    with pytest.raises(RefusedError, match="not-live"):
        desk.submissions.submit("plan", b"")
    assert len(desk.submissions) == 0


def test_largest_payload_fits_a_message(desk: Member) -> None:
    desk.believe("submit", "plan", "planner")
    _, outgoing = desk.submissions.submit("plan", bytes(MAX_PAYLOAD))
    assert len(outgoing.payload) <= MAX_MESSAGE


# Results.


def test_first_result_ends_its_task(desk: Member, planner: Member) -> None:
    pending, outgoing = desk.submissions.submit("plan", b"payload")
    frame = answer(planner, outgoing)
    outcome = desk.submissions.result(frame)
    assert (outcome.task_id, outcome.value, outcome.failure) == (pending.task_id, b"value", None)
    assert outcome.worker == planner.instance
    assert len(desk.submissions) == 0
    assert refused(desk.submissions, frame) is Reason.REPLAYED


@pytest.mark.parametrize(
    ("said", "reason"),
    [("no-grant", Reason.NO_GRANT), ("a word of the worker's own", Reason.HANDLER_FAILED)],
)
def test_failed_task_says_why(desk: Member, planner: Member, said: str, reason: Reason) -> None:
    _, outgoing = desk.submissions.submit("plan", b"payload")
    outcome = desk.submissions.result(answer(planner, outgoing, reason=said))
    assert isinstance(outcome.failure, TaskFailedError)
    assert (outcome.failure.reason, outcome.failure.detail) == (reason, "detail")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: b"", Reason.NOT_AUTHENTIC),
        (lambda frame: frame[:-1] + bytes([frame[-1] ^ 1]), Reason.NOT_AUTHENTIC),
        (lambda frame: frame[:2] + bytes(16) + frame[18:], Reason.NOT_AUTHENTIC),
        (lambda frame: frame[:18] + b"\0\0\0\1" + frame[22:], Reason.NOT_AUTHENTIC),
        (lambda frame: frame[:22] + bytes(16) + frame[38:], Reason.REPLAYED),
        (lambda frame: frame[:38] + bytes(16) + frame[54:], Reason.NOT_AUTHENTIC),
    ],
    ids=["nothing", "the tag", "the token", "the epoch", "the task", "the salt"],
)
def test_result_with_one_thing_changed_ends_nothing(
    desk: Member, planner: Member, change: Callable[[bytes], bytes], reason: Reason
) -> None:
    _, outgoing = desk.submissions.submit("plan", b"payload")
    frame = answer(planner, outgoing)
    assert refused(desk.submissions, change(frame)) is reason
    desk.submissions.result(frame)


def test_result_under_another_key_ends_nothing(desk: Member, planner: Member) -> None:
    _, outgoing = desk.submissions.submit("plan", b"payload")
    assert refused(desk.submissions, answer(planner, outgoing, key=b"x" * 32)) is Reason.NOT_AUTHENTIC


def test_result_of_another_task_ends_only_its_own(desk: Member, planner: Member) -> None:
    first, one = desk.submissions.submit("plan", b"one")
    second, two = desk.submissions.submit("plan", b"two")
    outcome = desk.submissions.result(answer(planner, two))
    assert outcome.task_id == second.task_id
    assert [pending.task_id for pending in desk.submissions.pending()] == [first.task_id]
    assert opened(planner, one).reply_key != opened(planner, two).reply_key


def test_result_of_a_revoked_worker_ends_nothing(desk: Member, planner: Member) -> None:
    _, outgoing = desk.submissions.submit("plan", b"payload")
    desk.revoke(planner.instance)
    assert refused(desk.submissions, answer(planner, outgoing)) is Reason.INSTANCE_REVOKED


def test_result_that_comes_while_not_live_ends_its_task_once_shown_again_live(
    world: World, desk: Member, planner: Member
) -> None:
    _, outgoing = desk.submissions.submit("plan", b"payload")
    frame = answer(planner, outgoing)
    world.now += GRACE + 1
    assert refused(desk.submissions, frame) is Reason.NOT_LIVE
    assert desk.submissions.sweep() == ([], [])
    beat(world, desk, planner, after=0)
    assert desk.submissions.result(frame).value == b"value"


def restarted(desk: Member, *sent: Outgoing, secret: bytes = STORED) -> Submissions:
    """Return what a next process of the client knows: ids and tokens, and no payload."""
    again = Submissions(
        desk.membership, desk.gate, reply_to=REPLY_TO, stored_secret=secret, random=seeded(99)
    )
    pending = {each.task_id: each for each in desk.submissions.pending()}
    for task_id in dict.fromkeys(each.task_id for each in sent):
        tokens = [each.token for each in sent if each.task_id == task_id]
        times = {"issued": pending[task_id].issued, "expires": pending[task_id].expires}
        again.take_up(task_id, "plan", tokens=tokens, **times)
    return again


def test_client_that_restarts_takes_up_what_it_submitted(desk: Member, planner: Member) -> None:
    _, first = desk.submissions.submit("plan", b"one")
    _, second = desk.submissions.submit("plan", b"two")
    again = restarted(desk, first, second)
    outcome = again.result(answer(planner, second))
    assert (outcome.task_id, outcome.value, outcome.failure) == (second.task_id, b"value", None)
    assert [pending.task_id for pending in again.pending()] == [first.task_id]
    # What its former process took already opens from the frame that was written down.
    frame = answer(planner, first)
    assert again.kept(first.task_id, frame).value == b"value"
    with pytest.raises(PeerError, match="another task"):
        again.kept(second.task_id, frame)


def test_client_that_lost_what_it_stored_opens_nothing(desk: Member, planner: Member) -> None:
    _, outgoing = desk.submissions.submit("plan", b"payload")
    again = restarted(desk, outgoing, secret=b"o" * 32)
    assert refused(again, answer(planner, outgoing)) is Reason.NOT_AUTHENTIC


def test_what_was_taken_up_is_never_sealed_again(world: World, desk: Member, planner: Member) -> None:
    _, outgoing = desk.submissions.submit("plan", b"payload")
    again = restarted(desk, outgoing)
    (pending,) = again.pending()
    assert "former process" in repr(pending)
    for _ in range(RESEND_AFTER // SECOND + 2):
        beat(world, desk, planner, after=SECOND)
        assert again.sweep() == ([], [])
    with pytest.raises(RefusedError, match="payload"):
        again._seal(pending)


def test_what_was_taken_up_and_lost_its_epoch_to_an_eviction_ends_at_once(world: World, desk: Member) -> None:
    evicted = enclave(world, "planner")
    _, outgoing = desk.submissions.submit("plan", b"payload")
    again = restarted(desk, outgoing)
    stolen = answer(evicted, outgoing)
    world.up_again().event(world.revocation("instance", evicted.instance.hex()))
    desk.refresh()
    assert refused(again, stolen) is Reason.EPOCH_CLOSED
    (outcome,), resent = again.sweep()
    assert (failure(outcome), resent) == (Reason.EPOCH_CLOSED, [])


def test_what_was_taken_up_after_its_deadline_is_looked_for_before_it_ends(
    world: World, desk: Member, planner: Member
) -> None:
    _, early = desk.submissions.submit("plan", b"early", lifetime=5_000)
    _, late = desk.submissions.submit("plan", b"late", lifetime=5_000)
    frame = answer(planner, early)
    again = restarted(desk, early, late)
    world.now += 5_000
    assert again.sweep() == ([], [])
    assert again.result(frame).failure is None
    world.now += GRACE
    (outcome,), _ = again.sweep()
    assert (outcome.task_id, failure(outcome)) == (late.task_id, Reason.DEADLINE_PASSED)


# Ends without a result.


def test_task_ends_at_its_own_deadline_and_not_before(world: World, desk: Member) -> None:
    pending, _ = desk.submissions.submit("plan", b"payload", lifetime=5_000)
    world.now += 4_999
    assert desk.submissions.sweep() == ([], [])
    world.now += 1
    (outcome,), again = desk.submissions.sweep()
    assert outcome.task_id == pending.task_id
    assert failure(outcome) is Reason.DEADLINE_PASSED
    assert again == []
    assert len(desk.submissions) == 0


def test_task_ends_at_its_deadline_although_nothing_is_heard_of_the_mesh(world: World, desk: Member) -> None:
    desk.submissions.submit("plan", b"payload")
    world.now += LIFETIME
    assert not desk.membership.live()
    (outcome,), _ = desk.submissions.sweep()
    assert failure(outcome) is Reason.DEADLINE_PASSED


def test_task_that_a_new_policy_permits_no_more_ends(world: World, desk: Member) -> None:
    policy = world.core.authority.standing.policy
    assert policy is not None
    desk.submissions.submit("plan", b"payload")
    rules = tuple(rule for rule in policy.rules if rule.what != "plan")
    classes = {name: each for name, each in policy.classes.items() if name != "plan"}
    world.up_again().event(world.policy_event(world.next_policy(policy, rules=rules, classes=classes)))
    desk.refresh()
    (outcome,), again = desk.submissions.sweep()
    assert failure(outcome) is Reason.NO_GRANT
    assert again == []


def test_task_that_nobody_waits_for_is_forgotten(desk: Member, planner: Member) -> None:
    pending, outgoing = desk.submissions.submit("plan", b"payload")
    desk.submissions.cancel(pending.task_id)
    assert refused(desk.submissions, answer(planner, outgoing)) is Reason.REPLAYED
    assert desk.submissions.sweep() == ([], [])


# Sent again.


def test_task_without_a_result_is_sent_again_each_time_later(world: World, desk: Member) -> None:
    pending, _ = desk.submissions.submit("plan", b"payload")
    sent = []
    while len(desk.submissions):
        beat(world, desk, after=SECOND)
        _, again = desk.submissions.sweep()
        sent += [(world.now - pending.issued, each.task_id) for each in again]
    # After 20 s, then 40 s; 80 s more would be past its deadline.
    assert sent == [
        (RESEND_AFTER, pending.task_id),
        (3 * RESEND_AFTER, pending.task_id),
    ]


def test_task_is_the_same_for_whoever_ran_it_and_its_result_is_opened_under_either_sending(
    world: World, desk: Member, planner: Member
) -> None:
    _, first = desk.submissions.submit("plan", b"payload")
    frame = answer(planner, first)
    while not (sent := desk.submissions.sweep()[1]):
        beat(world, desk, planner, after=SECOND)
    (again,) = sent
    task = planner.gate.task(frame_of(again))
    assert task.repeat
    assert task.body.expires == opened(planner, first).expires
    assert desk.submissions.result(frame).failure is None


def test_task_whose_epoch_was_closed_is_sent_again_at_once_under_another_key(
    world: World, desk: Member
) -> None:
    evicted, planner = enclave(world, "planner"), enclave(world, "planner", chip="d0" * 64)
    pending, first = desk.submissions.submit("plan", b"payload")
    stolen = answer(evicted, first)
    key = opened(evicted, first).reply_key
    assert desk.submissions.sweep() == ([], [])
    world.up_again().event(world.revocation("instance", evicted.instance.hex()))
    for member in (desk, planner):
        member.refresh()
    # The evicted knows the closed epoch, and with it the reply key that the task carried.
    desk.membership.trust = without_revocations(desk)
    assert refused(desk.submissions, stolen) is Reason.EPOCH_CLOSED
    desk.refresh()
    ended, (again,) = desk.submissions.sweep()
    assert ended == []
    task = opened(planner, again)
    assert (task.task_id, task.payload) == (pending.task_id, b"payload")
    assert task.reply_key != key
    assert frame_token(frame_of(again)) != frame_token(frame_of(first))
    assert desk.submissions.sweep() == ([], [])
    assert desk.submissions.result(answer(planner, again)).worker == planner.instance


def without_revocations(member: Member) -> Any:
    return dataclasses.replace(member.membership.held(), revoked=frozenset())


def test_members_of_an_evicted_submitters_role_send_again_under_a_reply_key_that_it_does_not_know(
    world: World,
) -> None:
    evicted, planner = enclave(world, "planner"), enclave(world, "planner", chip="d0" * 64)
    redactor = enclave(world, "redactor")
    pending, first = planner.submissions.submit("redact", b"payload")
    frame = answer(redactor, first)
    # Any instance of the role derives the key of its fellow's task.
    reply = evicted.submissions._reply(frame_token(frame_of(first)), pending.task_id, world.now)
    assert reply.key == opened(redactor, first).reply_key
    world.up_again().event(world.revocation("instance", evicted.instance.hex()))
    for member in (planner, redactor):
        member.refresh()
    assert refused(planner.submissions, frame) is Reason.EPOCH_CLOSED
    _, (again,) = planner.submissions.sweep()
    # The redactors' epoch is as it was: the task is the same one, and is answered under the new key.
    assert frame_token(frame_of(again)) == frame_token(frame_of(first))
    repeat = redactor.gate.task(frame_of(again))
    assert repeat.repeat
    assert repeat.body.reply_key != reply.key
    assert planner.submissions.result(answer(redactor, again)).failure is None


def test_result_under_a_reply_key_of_before_a_timed_turn_of_the_own_role_still_ends_its_task(
    world: World,
) -> None:
    planner, redactor = enclave(world, "planner"), enclave(world, "redactor")
    _, first = planner.submissions.submit("redact", b"payload")
    early = answer(redactor, first)
    before = opened(redactor, first).reply_epoch
    # The own role turns by time, and the task is sealed again before its result is there.
    epochs = world.core.authority._epochs
    epochs._open["planner"] = (
        *epochs.of("planner"),
        epochs._make("planner", epochs._spans["planner"], opens=world.now, now=world.now),
    )
    world.core.authority._settle(world.now, everyone=False)
    for pending in planner.submissions.pending():
        pending.resend_at = 0
    beat(world, planner, redactor)
    _, (again,) = planner.submissions.sweep()
    assert opened(redactor, again).reply_epoch != before
    assert planner.submissions.result(early).failure is None


def test_another_instance_that_works_on_the_same_task_submits_the_same_tasks(world: World) -> None:
    one, other = enclave(world, "planner"), enclave(world, "planner", chip="d0" * 64)
    redactor = enclave(world, "redactor")
    first, second = Origin(TASK), Origin(TASK)
    _, asked = one.submissions.submit("redact", b"part", origin=first)
    ran = redactor.gate.task(frame_of(asked))
    assert not ran.repeat
    # The same once more is another task; so is something else, and the same for another task.
    _, twice = one.submissions.submit("redact", b"part", origin=first)
    _, else_ = one.submissions.submit("redact", b"other", origin=first)
    _, elsewhere = one.submissions.submit("redact", b"part", origin=Origin(b"u" * 16))
    assert len({each.task_id for each in (asked, twice, else_, elsewhere)}) == 4
    # The one is gone; the other begins the task that it worked on from its start.
    _, again = other.submissions.submit("redact", b"part", origin=second)
    assert again.task_id == asked.task_id
    repeat = redactor.gate.task(frame_of(again))
    assert repeat.repeat
    assert repeat.entry is ran.entry
    assert other.submissions.result(answer(redactor, again)).failure is None


def test_only_members_of_the_role_derive_the_ids_of_its_tasks(world: World, desk: Member) -> None:
    one, vault = enclave(world, "planner"), enclave(world, "vault")
    _, asked = one.submissions.submit("redact", b"part", origin=Origin(TASK))
    vault.believe("submit", "redact", "redactor")
    content = content_digest("redact", b"part")
    assert vault.submissions._task_id(Origin(TASK), content, world.now) != asked.task_id
    # After a turn, whoever was evicted derives none either.
    world.up_again().event(world.revocation("instance", one.instance.hex()))
    other = enclave(world, "planner", chip="d0" * 64)
    _, again = other.submissions.submit("redact", b"part", origin=Origin(TASK))
    assert again.task_id != asked.task_id
    # A client's ids are drawn.
    ids = {desk.submissions.submit("plan", b"", origin=Origin(TASK))[0].task_id for _ in range(2)}
    assert len(ids) == 2


def test_a_task_that_is_under_way_here_is_never_taken_for_another(world: World) -> None:
    planner = enclave(world, "planner")
    ids = {planner.submissions.submit("redact", b"", origin=Origin(TASK))[0].task_id for _ in range(3)}
    assert len(ids) == len(planner.submissions) == 3


def test_task_sealed_again_never_outlives_what_it_said_first(world: World, desk: Member) -> None:
    pending, _ = desk.submissions.submit("plan", b"payload")
    expires = pending.expires
    sealer = desk.membership.keyring.sealer("planner", world.now)
    sealer.closes = expires - 10_000
    desk.submissions._seal(pending)
    assert pending.expires == expires - 10_000
    sealer.closes = expires + 10_000
    desk.submissions._seal(pending)
    assert pending.expires == expires - 10_000


def test_task_waits_while_there_is_no_epoch_to_seal_under(world: World, desk: Member) -> None:
    desk.submissions.submit("plan", b"payload")
    for pending in desk.submissions.pending():
        pending.resend_at = 0
    sealers = desk.membership.keyring._sealers
    held = dict(sealers)
    sealers.clear()
    assert desk.submissions.sweep() == ([], [])
    sealers.update(held)
    assert len(desk.submissions.sweep()[1]) == 1


def test_submissions_show_and_keep_no_secret(desk: Member) -> None:
    pending, _ = desk.submissions.submit("plan", b"payload")
    shown = repr(pending)
    assert "payload" not in shown
    assert pending.replies
    assert all(key.hex() not in shown and repr(key) not in shown for key in pending.replies.values())
    assert desk.submissions.secrets() == (STORED,)
    desk.submissions.erase()
    assert desk.submissions.secrets() == (b"",)
    assert len(desk.submissions) == 0


class Deadlines(RuleBasedStateMachine):
    """However the mesh comes and goes, each task ends exactly once, with a result or at its deadline."""

    def __init__(self) -> None:
        super().__init__()
        self.world, _ = mesh_up()
        self.desk, self.planner = client(self.world), enclave(self.world, "planner")
        self.expires: dict[bytes, int] = {}
        self.sent: list[Outgoing] = []
        self.ends: list[bytes] = []

    @rule(lifetime=st.integers(0, 60_000))
    def submit(self, lifetime: int) -> None:
        """Submit, if this is permitted now."""
        if not self.desk.membership.live():
            with pytest.raises(RefusedError, match="not-live"):
                self.desk.submissions.submit("plan", b"payload", lifetime=lifetime)
            return
        pending, outgoing = self.desk.submissions.submit("plan", b"payload", lifetime=lifetime)
        self.expires[pending.task_id] = pending.expires
        self.sent.append(outgoing)

    @rule(milliseconds=st.integers(0, 30_000), hears=st.booleans())
    def wait(self, milliseconds: int, hears: bool) -> None:
        """Let time pass, with or without word of the coordinator."""
        self.world.now += milliseconds
        if hears:
            beat(self.world, self.desk, self.planner, after=0)
        ended, again = self.desk.submissions.sweep()
        for outcome in ended:
            assert failure(outcome) is Reason.DEADLINE_PASSED
            assert self.world.now >= self.expires[outcome.task_id]
            self.ends.append(outcome.task_id)
        assert not again or self.desk.membership.live()
        self.sent += again

    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        """Do what was sent, perhaps again."""
        if not self.sent:
            return
        outgoing = data.draw(st.sampled_from(self.sent))
        try:
            outcome = self.desk.submissions.result(answer(self.planner, outgoing))
        except PeerError:
            return
        self.ends.append(outcome.task_id)

    @invariant()
    def ends_once(self) -> None:
        """What has not ended is pending, what has is not."""
        assert len(self.ends) == len(set(self.ends))
        waiting = {pending.task_id for pending in self.desk.submissions.pending()}
        assert waiting == set(self.expires) - set(self.ends)


Deadlines.TestCase.settings = settings(max_examples=25, stateful_step_count=20)
TestDeadlines = Deadlines.TestCase
