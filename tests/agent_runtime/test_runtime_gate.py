"""The gate, step by step: one change to a task or call that would run, and the one thing that stops it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from agent_runtime.errors import HandBackError, RefusedError
from agent_runtime.gate import Gate
from agent_runtime.rates import Uses
from agent_runtime.seen import SeenTasks
from schemas.documents import Constraints
from schemas.errors import MalformedError, PeerError, Reason
from schemas.granted import Granted
from schemas.limits import GRACE, MINUTE, SECOND
from schemas.peer import Call
from schemas.scheduling import TASK_ID_OFFSET
from sealing.errors import NotAuthenticError, SealingError
from tests.agent_runtime.world import TASK, Member, beat, client, enclave, mesh_up
from tests.coordinator.world import START, World


@pytest.fixture
def world() -> World:
    return mesh_up()[0]


@pytest.fixture
def desk(world: World) -> Member:
    """The client whose tasks are under test."""
    return client(world)


@pytest.fixture
def planner(world: World) -> Member:
    """The enclave whose gate is under test."""
    return enclave(world, "planner")


@pytest.fixture
def redactor(world: World) -> Member:
    return enclave(world, "redactor")


@pytest.fixture
def vault(world: World) -> Member:
    """The enclave whose tool is called."""
    return enclave(world, "vault")


@pytest.fixture(scope="module")
def target() -> tuple[Member, bytes]:
    """A gate that lets nothing pass, and the task that it would let pass."""
    world, _ = mesh_up()
    return enclave(world, "planner"), client(world).task()


def refused(member: Member, frame: bytes, kind: type[PeerError] = SealingError) -> Reason:
    """Return why a task was refused, having seen that it left no trace."""
    remembered = len(member.seen)
    with pytest.raises(PeerError) as refusal:
        member.gate.task(frame)
    assert type(refusal.value) is kind
    assert len(member.seen) == remembered
    return refusal.value.reason


def result_of(member: Member, frame: bytes) -> str:
    """Return why an authentic task may not run."""
    refusal = member.gate.task(frame).refusal
    assert refusal is not None
    return str(refusal)


# Tasks: what passes.


def test_task_that_is_granted_passes(desk: Member, planner: Member) -> None:
    opened = planner.gate.task(desk.task())
    assert opened.refusal is None
    assert not opened.repeat
    assert (opened.body.task_class, opened.body.payload) == ("plan", b"payload")
    assert opened.sender.instance == desk.instance
    assert opened.key == (desk.instance, TASK)
    assert planner.seen.get(opened.key) is opened.entry


def test_task_of_an_enclave_belongs_to_its_role(planner: Member, redactor: Member) -> None:
    opened = redactor.gate.task(planner.task("redactor", task_class="redact"))
    assert opened.refusal is None
    assert opened.key == (b"role:" + redactor.membership.mesh.role_id("planner"), TASK)


# Tasks: step 1, able to take anything at all. Handed back, so that another does it.


def test_task_is_handed_back_while_not_live(world: World, desk: Member, planner: Member) -> None:
    frame = desk.task()
    world.now += GRACE + 1
    assert refused(planner, frame, HandBackError) is Reason.NOT_LIVE
    beat(world, planner, after=0)
    assert planner.gate.task(frame).refusal is None


def test_task_is_handed_back_before_admission(desk: Member, planner: Member) -> None:
    planner.membership.trust = None
    assert refused(planner, desk.task(), HandBackError) is Reason.NOT_LIVE


def test_full_memory_hands_back_what_is_new_and_forgets_nothing(desk: Member, planner: Member) -> None:
    planner.seen = SeenTasks(limit=1)
    planner.gate = Gate(planner.membership, planner.seen)
    planner.gate.task(desk.task())
    assert refused(planner, desk.task(task_id=b"u" * 16), HandBackError) is Reason.SEEN_SET_FULL
    assert (desk.instance, TASK) in planner.seen._entries


# Tasks: step 2, an open epoch of an own role.


def test_task_of_a_closed_epoch_is_refused_for_good(world: World, desk: Member) -> None:
    operator = world.up_again()
    first, second = enclave(world, "planner"), enclave(world, "planner", chip="d0" * 64)
    frame = desk.task()
    assert second.gate.task(frame).refusal is None
    operator.event(world.revocation("instance", first.instance.hex()))
    second.refresh()
    assert refused(second, frame) is Reason.EPOCH_CLOSED


def test_task_of_an_epoch_past_its_time_is_refused_although_its_keys_are_here(
    world: World, desk: Member, planner: Member
) -> None:
    frame = desk.task()
    opener = planner.membership.keyring.opener(frame[2:18])
    assert opener is not None
    opener.closes = world.now - 1
    assert refused(planner, frame) is Reason.EPOCH_CLOSED


def test_task_of_an_epoch_that_is_not_here_yet_is_handed_back(
    world: World, desk: Member, planner: Member
) -> None:
    planner.membership.keyring.keep_only(())
    planner.membership.keyring._closed.clear()
    assert refused(planner, desk.task(), HandBackError) is Reason.EPOCH_UNKNOWN


def test_task_of_another_role_is_handed_back(desk: Member, redactor: Member) -> None:
    assert refused(redactor, desk.task(), HandBackError) is Reason.EPOCH_UNKNOWN


def test_task_under_the_mesh_key_is_none(desk: Member, planner: Member) -> None:
    # The client is a member of that group: it could claim any role.
    assert refused(planner, desk.task("mesh"), HandBackError) is Reason.EPOCH_UNKNOWN


@given(frame=st.binary(max_size=300))
def test_junk_is_refused_and_leaves_no_trace(target: tuple[Member, bytes], frame: bytes) -> None:
    assert refused(target[0], frame, HandBackError) is Reason.EPOCH_UNKNOWN


@given(place=st.integers(0, 2**16), change=st.integers(1, 255))
def test_task_with_any_byte_changed_is_refused_and_leaves_no_trace(
    target: tuple[Member, bytes], place: int, change: int
) -> None:
    planner, frame = target
    place %= len(frame)
    bent = frame[:place] + bytes([frame[place] ^ change]) + frame[place + 1 :]
    with pytest.raises(PeerError) as refusal:
        planner.gate.task(bent)
    expected = Reason.UNSUPPORTED_SUITE if place == 0 else Reason.NOT_AUTHENTIC
    assert refusal.value.reason is (Reason.EPOCH_UNKNOWN if 2 <= place < 18 else expected)
    assert len(planner.seen) == 0


# Tasks: step 3, authentic, from a sender who is not revoked, for the id in its header, unexpired.


def test_task_for_another_id_than_its_header_names_is_refused(desk: Member, planner: Member) -> None:
    assert refused(planner, desk.task(header=b"u" * 16), NotAuthenticError) is Reason.NOT_AUTHENTIC


def test_task_whose_header_was_given_another_id_is_refused(desk: Member, planner: Member) -> None:
    frame = desk.task()
    moved = frame[:TASK_ID_OFFSET] + b"u" * 16 + frame[TASK_ID_OFFSET + 16 :]
    assert refused(planner, moved, NotAuthenticError) is Reason.NOT_AUTHENTIC


def test_task_of_a_revoked_sender_is_refused(desk: Member, planner: Member) -> None:
    planner.revoke(desk.instance)
    assert refused(planner, desk.task()) is Reason.INSTANCE_REVOKED


def test_a_task_of_other_content_under_a_known_id_gets_no_kept_result_and_goes_elsewhere(
    desk: Member, planner: Member
) -> None:
    # An evicted member of the role may have been first, with one of its own making under this id.
    taken = planner.gate.task(desk.task(payload=b"of somebody else's making"))
    taken.entry.body = b"its result"
    with pytest.raises(HandBackError) as handed_back:
        planner.gate.task(desk.task())
    assert handed_back.value.reason is Reason.REPLAYED
    again = planner.gate.task(desk.task(payload=b"of somebody else's making"))
    assert (again.repeat, again.entry.body) == (True, b"its result")


def test_what_is_no_task_is_refused(desk: Member, planner: Member) -> None:
    sealer = desk.membership.keyring.sealer("planner", desk.world.now)
    assert refused(planner, sealer.seal_task(b"\x80", TASK), MalformedError) is Reason.MALFORMED


def test_task_that_expires_now_is_refused_and_one_a_millisecond_later_is_not(
    world: World, desk: Member, planner: Member
) -> None:
    assert refused(planner, desk.task(expires=world.now)) is Reason.DEADLINE_PASSED
    assert planner.gate.task(desk.task(expires=world.now + 1)).refusal is None


def test_task_is_judged_by_the_highest_time_ever_held(world: World, desk: Member, planner: Member) -> None:
    frame = desk.task(expires=world.now + 500)
    world.now += 600
    planner.membership.clock.highest()
    world.now -= 600
    assert refused(planner, frame) is Reason.DEADLINE_PASSED


def test_task_that_outlives_its_epoch_is_refused(desk: Member, planner: Member) -> None:
    # After that nobody remembers its epoch, hence not the task either: it could run twice.
    closes = desk.membership.keyring.sealer("planner", desk.world.now).closes
    assert refused(planner, desk.task(expires=closes + 1)) is Reason.DEADLINE_PASSED
    assert planner.gate.task(desk.task(expires=closes)).refusal is None


# Tasks: step 4, new.


def test_repeat_gets_what_is_kept_and_is_remembered_for_as_long_as_it_lives(
    world: World, desk: Member, planner: Member
) -> None:
    first = planner.gate.task(desk.task(expires=world.now + 1_000))
    first.entry.body = b"kept"
    again = planner.gate.task(desk.task(expires=world.now + MINUTE))
    assert again.repeat
    assert again.refusal is None
    assert again.entry is first.entry
    # What the first copy's end would have forgotten, the second still needs.
    planner.seen.forget(world.now + 1_000 + GRACE + 1)
    assert planner.seen.get(first.key) is first.entry
    planner.seen.forget(world.now + MINUTE + GRACE + 1)
    assert planner.seen.get(first.key) is None


def test_task_is_remembered_for_the_grace_after_its_end(world: World, desk: Member, planner: Member) -> None:
    opened = planner.gate.task(desk.task(expires=world.now + 1_000))
    planner.seen.forget(world.now + 1_000 + GRACE)
    assert planner.seen.get(opened.key) is opened.entry


def test_repeat_of_a_task_that_was_not_permitted_is_not_run_either(desk: Member, planner: Member) -> None:
    first = planner.gate.task(desk.task(task_class="other"))
    assert first.refusal is not None
    # It is answered with the refusal that its entry keeps.
    assert planner.gate.task(desk.task(task_class="other")).entry is first.entry


def test_one_id_of_two_owners_is_two_tasks(world: World) -> None:
    rules = world.policy().rules
    other, _ = mesh_up(world.policy(rules=(*rules, changed(rules[0], what="redact"))))
    desk, planner, redactor = client(other), enclave(other, "planner"), enclave(other, "redactor")
    first = redactor.gate.task(planner.task("redactor", task_class="redact"))
    second = redactor.gate.task(desk.task("redactor", task_class="redact"))
    assert first.key != second.key
    assert not second.repeat


# Tasks: step 5, permitted. From here on a refusal is the task's result.


def test_task_that_nobody_granted_is_answered_no_grant(desk: Member, planner: Member) -> None:
    assert result_of(planner, desk.task(task_class="redact")) == "no-grant"
    assert len(planner.seen) == 1


def test_task_of_a_role_without_the_grant_is_answered_no_grant(world: World, planner: Member) -> None:
    # A fellow member of the role can seal to it, and may not submit to it.
    fellow = enclave(world, "planner", chip="d0" * 64)
    assert result_of(planner, fellow.task()) == "no-grant"


def test_grant_at_another_audience_is_none(desk: Member, planner: Member) -> None:
    trust = planner.membership.held()
    key = ("submitter", "submit", "plan")
    elsewhere = replace(trust.grants[key], audience="redactor")
    planner.membership.trust = replace(trust, grants={**trust.grants, key: elsewhere})
    assert result_of(planner, desk.task()) == "no-grant"


def test_task_above_its_size_is_answered_so(desk: Member, planner: Member) -> None:
    too_large = result_of(planner, desk.task(payload=bytes(1001)))
    assert too_large == "constraint-violated: larger than 1000 bytes"
    assert planner.gate.task(desk.task(payload=bytes(1000), task_id=b"u" * 16)).refusal is None


def test_tasks_above_their_rate_are_answered_so_until_the_minute_is_over(
    world: World, desk: Member, planner: Member
) -> None:
    trust = planner.membership.held()
    key = ("submitter", "submit", "plan")
    constraints = changed(trust.grants[key].constraints, per_minute=2)
    granted = replace(trust.grants[key], constraints=constraints)
    planner.membership.trust = replace(trust, grants={**trust.grants, key: granted})

    def verdict(number: int) -> str | None:
        opened = planner.gate.task(desk.task(task_id=bytes([number]) * 16))
        return None if opened.refusal is None else str(opened.refusal)

    assert [verdict(1), verdict(2), verdict(3)] == [None, None, "constraint-violated: rate"]
    world.now += MINUTE + SECOND - 1  # to the second, and never too early
    planner.membership._counted = world.now
    assert verdict(4) == "constraint-violated: rate"
    world.now += 1
    assert verdict(5) is None


# Calls.


CALL = Call(bytes(16), "pseudonym", b"arguments", 2**60, None)


def ask(
    vault: Member, peer: Member, call: Call = CALL, *, role: str = "redactor", own: str = "vault"
) -> None:
    vault.gate.call(peer.instance, role, own, call)


def refusal_of(vault: Member, peer: Member, call: Call = CALL, **roles: str) -> str:
    with pytest.raises(PeerError) as refusal:
        ask(vault, peer, call, **roles)
    return str(refusal.value)


def test_call_that_is_granted_passes(vault: Member, redactor: Member) -> None:
    ask(vault, redactor)


def test_call_is_refused_while_not_live(world: World, vault: Member, redactor: Member) -> None:
    world.now += GRACE + 1
    assert refusal_of(vault, redactor) == "not-live"


def test_call_of_a_revoked_peer_is_refused(vault: Member, redactor: Member) -> None:
    vault.revoke(redactor.instance)
    assert refusal_of(vault, redactor) == "instance-revoked"


def test_call_past_its_deadline_is_refused(world: World, vault: Member, redactor: Member) -> None:
    assert refusal_of(vault, redactor, changed(CALL, deadline=world.now)) == "deadline-passed"
    ask(vault, redactor, changed(CALL, deadline=world.now + 1))


def test_call_without_a_grant_is_refused(vault: Member, planner: Member, redactor: Member) -> None:
    assert refusal_of(vault, planner, role="planner") == "no-grant"
    assert refusal_of(vault, redactor, changed(CALL, tool="other")) == "no-grant"
    assert refusal_of(vault, redactor, own="redactor") == "no-grant"
    assert refusal_of(redactor, redactor, own="vault") == "no-grant"


def test_call_above_its_size_is_refused(vault: Member, redactor: Member) -> None:
    trust = vault.membership.held()
    key = ("redactor", "call", "pseudonym")
    granted = replace(trust.grants[key], constraints=changed(trust.grants[key].constraints, max_bytes=9))
    vault.membership.trust = replace(trust, grants={**trust.grants, key: granted})
    ask(vault, redactor)
    assert refusal_of(vault, redactor, changed(CALL, arguments=bytes(10))).startswith("constraint-violated")


def passed(vault: Member, redactor: Member, tries: int) -> int:
    """Return how many of so many calls the gate lets pass."""
    return sum(_passes(vault, redactor) for _ in range(tries))


def _passes(vault: Member, redactor: Member) -> bool:
    try:
        ask(vault, redactor)
    except RefusedError:
        return False
    return True


def test_no_more_pass_around_the_end_of_a_minute_than_in_it(
    world: World, vault: Member, redactor: Member
) -> None:
    # The rule says sixty: one begins the minute, and the others wait for its end.
    assert passed(vault, redactor, 1) == 1
    world.now += MINUTE - 1
    vault.membership._counted = world.now
    assert passed(vault, redactor, 100) == 59
    world.now += 1
    assert passed(vault, redactor, 100) == 0
    world.now += SECOND
    assert passed(vault, redactor, 100) == 1


@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 9)), max_size=40),
    st.integers(1, 12),
    st.integers(0, 999),
)
def test_in_any_minute_no_more_pass_than_the_rule_says(
    bursts: list[tuple[int, int]], most: int, start: int
) -> None:
    uses, now = Uses(), START + start
    times: list[int] = []
    for after, tries in bursts:
        now += after
        times += [now for _ in range(tries) if uses.take(most, now)]
    for begin in times:
        assert sum(begin <= each < begin + MINUTE for each in times) <= most


def test_each_peer_has_a_rate_of_its_own(world: World, vault: Member, redactor: Member) -> None:
    for _ in range(60):
        ask(vault, redactor)
    assert refusal_of(vault, redactor) == "constraint-violated: rate"
    ask(vault, enclave(world, "redactor", chip="d0" * 64))


# What leaves.


def test_own_submission_is_judged_before_it_leaves(world: World, desk: Member) -> None:
    assert desk.gate.may_send("submit", "plan", 1000) is desk.membership.trust
    for action, what, size, reason in (
        ("submit", "redact", 1, Reason.NO_GRANT),
        ("call", "plan", 1, Reason.NO_GRANT),
        ("submit", "plan", 1001, Reason.CONSTRAINT_VIOLATED),
    ):
        with pytest.raises(RefusedError) as refusal:
            desk.gate.may_send(action, what, size)
        assert refusal.value.reason is reason
    world.now += GRACE + 1
    with pytest.raises(RefusedError, match="not-live"):
        desk.gate.may_send("submit", "plan", 1)


def test_result_leaves_only_while_live(world: World, planner: Member) -> None:
    assert planner.gate.may_answer()
    world.now += GRACE + 1
    assert not planner.gate.may_answer()


def permit(member: Member, granted: Granted | None) -> None:
    """Have a redactor hold this grant to call a tool, and no other."""
    trust = member.membership.held()
    grants = {} if granted is None else {("redactor", "call", "tool"): granted}
    member.membership.trust = replace(trust, grants=grants)


SCHEMA = {"type": "string", "maxLength": 3}


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        (Granted("vault", Constraints()), None),
        (Granted("vault", Constraints(max_bytes=9)), None),
        (Granted("vault", Constraints(max_bytes=1)), Reason.CONSTRAINT_VIOLATED),
        (Granted("vault", Constraints(arguments=SCHEMA)), None),
        (Granted("vault", Constraints(arguments={"type": "string"})), Reason.NO_GRANT),
        (Granted("desk", Constraints()), Reason.NO_GRANT),
        (None, Reason.NO_GRANT),
    ],
)
def test_what_goes_out_again_is_permitted_by_what_is_in_force_then(
    later: Granted | None, reason: Reason | None
) -> None:
    world, _ = mesh_up()
    member = enclave(world, "redactor")
    permit(member, Granted("vault", Constraints(arguments=SCHEMA)))
    way = member.gate.may_say("call", "tool", "abc")
    world.now += 1
    permit(member, later)
    if reason is None:
        again = member.gate.still(way, "call", "tool", 4)
        assert (again.granted, again.trust, again.now) == (later, member.membership.trust, way.now + 1)
        return
    with pytest.raises(RefusedError) as refusal:
        member.gate.still(way, "call", "tool", 4)
    assert refusal.value.reason is reason


def test_who_is_not_live_sends_nothing_again() -> None:
    world, _ = mesh_up()
    member = enclave(world, "redactor")
    permit(member, Granted("vault", Constraints()))
    way = member.gate.may_say("call", "tool", "abc")
    world.now += GRACE + 1
    with pytest.raises(RefusedError) as refusal:
        member.gate.still(way, "call", "tool", 4)
    assert refusal.value.reason is Reason.NOT_LIVE
