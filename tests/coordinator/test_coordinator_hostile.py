"""Whatever strangers and admitted parties send is refused or answered; and tasks stay closed to us."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import coordinator
from coordinator.audit import REFUSALS_A_MINUTE
from schemas import codec
from schemas.errors import PeerError, Reason
from schemas.limits import MINUTE
from schemas.messages import Body, Refused
from tests.coordinator.world import CHIP, Party, World

PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.text(max_size=20)
    | st.binary(max_size=40)
    | st.sampled_from(["holdings", "directory", "vault", "order", "policy", "revocation"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
PURPOSES = st.sampled_from(["confirm", "evidence", "get", "time", "event", "push", "admitted", ""])


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.up()
    return world


@given(st.binary(max_size=600))
def test_any_bytes_from_a_stranger_are_refused(world: World, data: bytes) -> None:
    with pytest.raises(PeerError):
        world.core.handle_boot(data, now=world.now)
    with pytest.raises(PeerError):
        world.core.handle_frame(data, now=world.now)
    with pytest.raises(PeerError):
        world.core.handle_hello(data)


@settings(deadline=None)
@given(purpose=PURPOSES, fields=PLAIN)
def test_any_request_of_an_admitted_party_is_answered_or_refused(
    world: World, purpose: str, fields: Any
) -> None:
    for party in (Party.enclave(world, "redactor").join(), world.up_again()):
        wire = party.session.seal(codec.encode(Body(purpose, bytes(16), fields)))
        world.carry_out(world.core.handle_frame(wire, now=world.now))
        answers = [body for body in party.bodies() if body.purpose != "push"]
        assert len(answers) == (purpose != "confirm")
        for answer in answers:
            if answer.purpose == "refused":
                (reason,) = codec.convert(answer.fields, Refused).reasons
                assert reason in set(Reason)
            else:
                assert answer.purpose in ("got", "time")


@settings(deadline=None)
@given(data=st.binary(max_size=64))
def test_any_bytes_under_a_sessions_key_are_refused(world: World, data: bytes) -> None:
    party = Party.client(world).join()
    with pytest.raises(PeerError) as error:
        world.core.handle_frame(party.session.seal(data), now=world.now)
    assert error.value.reason is Reason.MALFORMED
    party.holdings()


def test_refusals_are_counted_by_reason() -> None:
    world = World()
    world.up()
    for _ in range(2):
        stranger = Party.enclave(world, "planner", workload="stranger")
        stranger.say_init()
        stranger.take_accept()
        stranger.send_evidence()
    assert world.core.refusals == {Reason.MEASUREMENT_NOT_IN_POLICY: 2}


def test_a_flood_of_refusals_is_rationed_in_the_log_and_hides_no_other_reason() -> None:
    world = World()
    world.up()

    def refused(workload: str, chip: str = CHIP) -> None:
        stranger = Party.enclave(world, "planner", workload=workload, chip=chip)
        stranger.say_init()
        stranger.take_accept()
        stranger.send_evidence()

    def entries() -> list[dict[str, object]]:
        found = [json.loads(line) for line in world.log]
        return [entry for entry in found if str(entry["decision"]).startswith("refused")]

    for _ in range(REFUSALS_A_MINUTE + 7):
        refused("stranger")
    refused("redactor")
    assert [entry["reason"] for entry in entries()] == [
        *["measurement-not-in-policy"] * REFUSALS_A_MINUTE,
        "role-not-permitted",
    ]
    world.tick(MINUTE)
    last = entries()[-1]
    assert (last["decision"], last["reason"], last["count"]) == (
        "refused-more",
        "measurement-not-in-policy",
        7,
    )
    # Told once, and from then on there is room again.
    world.tick(MINUTE)
    refused("stranger")
    assert entries()[-1]["decision"] == "refused"
    assert len(entries()) == REFUSALS_A_MINUTE + 3
    log = world.core.authority.audit
    assert log.root == world.log_root(log.size)


def test_no_code_of_the_coordinator_opens_tasks_results_or_group_frames() -> None:
    opening = {"open_task", "open_group", "open_result", "reply_secret", "role_reply_key", "client_reply_key"}
    used = set()
    for path in Path(coordinator.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.alias):
                used |= set(node.name.split("."))
            elif isinstance(node, ast.Name):
                used.add(node.id)
    assert "sealer" in used, "the test looks in the wrong place"
    assert used.isdisjoint({*opening, "results"})
