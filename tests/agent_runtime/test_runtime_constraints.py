"""What a rule narrows is held at the gate: times, ends, denies, and the very object that a handler gets."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from agent_runtime import handlers
from agent_runtime.agent import Agent, Context, Endpoint, encode_value
from agent_runtime.errors import RefusedError
from agent_runtime.refusals import Refusals
from schemas.documents import Condition, Constraints
from schemas.errors import MalformedError, Reason
from schemas.granted import Granted, granted
from schemas.limits import HOUR
from schemas.messages import Millis
from schemas.peer import Call
from schemas.plain import Form
from schemas.rules import Rule
from sealing.documents import open_grant
from tests.agent_runtime.world import Member, enclave, mesh_up
from tests.coordinator.world import World

CALL_ID = b"c" * 16
MONDAY = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp() * 1000)


class Wipe(msgspec.Struct, omit_defaults=True):
    """What the tool under test takes."""

    place: str
    rows: int = 1_000


class Desk:
    """A context that a handler never looks at."""

    task_id = None
    caller_role = "planner"
    caller_instance = b""

    async def call(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError

    async def submit(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError

    async def send(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError


class Tool:
    """A tool that keeps what it was called with."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        agent = Agent("vault")

        @agent.tool("wipe")
        async def wipe(arguments: Wipe, context: Context) -> int:
            self.seen.append(arguments)
            return arguments.rows

        self.endpoint: Endpoint = agent.tools["wipe"]

    async def run(self, payload: bytes, now: Millis = MONDAY, **constraints: Any) -> handlers.Ended:
        held = Granted("vault", Constraints(**constraints))
        return await handlers.run(self.endpoint, held, payload, Desk(), Refusals(), now=now)


@pytest.fixture
def tool() -> Tool:
    return Tool()


FEW_ROWS = {"properties": {"rows": {"maximum": 10}}}


@pytest.mark.anyio
async def test_the_object_that_was_checked_is_the_one_that_the_handler_gets(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[object] = []
    real = Granted.of_arguments

    def spied(self: Granted, value: object, now: Millis, form: Form) -> object:
        checked.append(value)
        return real(self, value, now, form)

    monkeypatch.setattr(Granted, "of_arguments", spied)
    ended = await tool.run(encode_value(Wipe("here", 10)), arguments=FEW_ROWS)
    assert ended.reason == ""
    assert len(checked) == 1
    assert tool.seen[0] is checked[0]


@pytest.mark.anyio
async def test_a_value_outside_its_schema_never_meets_the_handler(tool: Tool) -> None:
    ended = await tool.run(encode_value(Wipe("here", 11)), arguments=FEW_ROWS)
    assert ended.reason == Reason.CONSTRAINT_VIOLATED
    assert ended.detail == "the argument misses /properties/rows/maximum of its schema"
    assert tool.seen == []


@pytest.mark.anyio
async def test_a_default_that_its_caller_left_out_is_judged_like_any_value(tool: Tool) -> None:
    ended = await tool.run(encode_value({"place": "here"}), arguments=FEW_ROWS)
    assert ended.reason == Reason.CONSTRAINT_VIOLATED


@pytest.mark.anyio
async def test_a_key_that_stands_twice_is_judged_by_the_value_that_runs(tool: Tool) -> None:
    one, other = (b"\xa4rows" + encode_value(rows) for rows in (1, 5_000))
    for first, second in ((one, other), (other, one)):
        tool.seen.clear()
        ended = await tool.run(b"\x83\xa5place\xa4here" + first + second, arguments=FEW_ROWS)
        # Whichever of the two the decoder keeps: no handler runs with more than was permitted.
        assert [each for each in tool.seen if isinstance(each, Wipe) and each.rows > 10] == []
        assert ended.reason in ("", Reason.CONSTRAINT_VIOLATED)


@pytest.mark.anyio
async def test_arguments_that_a_rule_denies_are_refused_by_its_number(tool: Tool) -> None:
    denied = Condition(rule=7, arguments={"properties": {"place": {"const": "archive"}}}, hours="00:00-01:00")
    payload = encode_value(Wipe("archive", 1))
    ended = await tool.run(payload, unless=(denied,))
    assert (ended.reason, ended.detail) == (Reason.DENIED_BY_RULE, "rule 7 of the policy")
    assert (await tool.run(payload, MONDAY + 2 * HOUR, unless=(denied,))).reason == ""
    assert (await tool.run(encode_value(Wipe("desk", 1)), unless=(denied,))).reason == ""


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "reason"),
    [(dict[str, bytes], ""), (dict[str, Any], "constraint-violated"), (Any, "constraint-violated")],
)
async def test_bytes_are_judged_where_the_handlers_type_names_them(kind: Any, reason: str) -> None:
    async def keep(argument: Any, _: Context) -> None:
        del argument

    endpoint = Endpoint("keep", keep, msgspec.msgpack.Decoder(kind), is_async=True)
    granted_ = Granted("vault", Constraints(arguments={"maxProperties": 1}))
    payload = encode_value({"raw": b"\0"})
    ended = await handlers.run(endpoint, granted_, payload, Desk(), Refusals(), now=MONDAY)
    assert ended.reason == reason


@pytest.fixture
def world() -> World:
    return mesh_up()[0]


@pytest.fixture
def vault(world: World) -> Member:
    return enclave(world, "vault")


def call(vault: Member, world: World) -> None:
    to_vault = Call(CALL_ID, "wipe", b"", world.now + 1_000, None)
    vault.gate.call(b"p" * 32, "planner", "vault", to_vault)


def believe(vault: Member, expires: int | None = None, **constraints: Any) -> None:
    """Have the vault hold that planners may call its tool."""
    held = Granted("vault", Constraints(**constraints), 1, expires)
    trust = vault.membership.held()
    grants = {**trust.grants, ("planner", "call", "wipe"): held, ("vault", "call", "wipe"): held}
    vault.membership.trust = dataclasses.replace(trust, grants=grants)


def hours_around(now: Millis, shift: int) -> str:
    start = (now // HOUR + shift) % 24
    return f"{start:02}:00-{(start + 1) % 24:02}:00"


def test_a_grant_holds_in_its_hours_and_on_its_days_only(world: World, vault: Member) -> None:
    today = datetime.fromtimestamp(world.now / 1000, UTC).strftime("%a").lower()
    others = tuple(day for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun") if day != today)
    for within in ({"hours": hours_around(world.now, 0)}, {"days": (today,)}):
        believe(vault, **within)
        call(vault, world)
    for outside in ({"hours": hours_around(world.now, 2)}, {"days": others}):
        believe(vault, **outside)
        with pytest.raises(RefusedError) as refusal:
            call(vault, world)
        assert refusal.value.reason is Reason.CONSTRAINT_VIOLATED


def test_a_grant_ends_at_its_second(world: World, vault: Member) -> None:
    believe(vault, expires=world.now // 1000 + 1)
    call(vault, world)
    believe(vault, expires=world.now // 1000)
    with pytest.raises(RefusedError) as refusal:
        call(vault, world)
    assert refusal.value.reason is Reason.EXPIRED


def test_a_deny_wins_over_the_permit_that_it_comes_with(world: World, vault: Member) -> None:
    believe(vault, unless=(Condition(rule=9, until=world.now // 1000 + 60),))
    with pytest.raises(RefusedError, match="rule 9") as refusal:
        call(vault, world)
    assert refusal.value.reason is Reason.DENIED_BY_RULE
    believe(vault, unless=(Condition(rule=9, until=world.now // 1000),))
    call(vault, world)


def test_a_sender_is_told_before_anything_leaves(vault: Member) -> None:
    believe(vault, arguments=FEW_ROWS)
    vault.gate.may_say("call", "wipe", Wipe("here", 10))
    with pytest.raises(RefusedError) as refusal:
        vault.gate.may_say("call", "wipe", Wipe("here", 11))
    assert refusal.value.reason is Reason.CONSTRAINT_VIOLATED


def test_a_denied_rule_reaches_the_agent_within_the_grant_and_not_beside_it() -> None:
    world = World()
    policy = world.policy()
    first = policy.rules[0]
    deny = Rule(role=first.role, deny=first.action, what=first.what, hours="01:00-02:00")
    world.up(replace(policy, rules=(*policy.rules, deny)))
    planner = enclave(world, "planner")
    held = planner.membership.held().grants[first.role, first.action, first.what]
    assert [each.rule for each in held.constraints.unless] == [len(policy.rules) + 1]


def test_what_is_always_denied_is_not_granted_at_all() -> None:
    world = World()
    policy = world.policy()
    first = policy.rules[0]
    deny = Rule(role=first.role, deny=first.action, what=first.what)
    world.up(replace(policy, rules=(*policy.rules, deny)))
    planner = enclave(world, "planner")
    assert (first.role, first.action, first.what) not in planner.membership.held().grants


def test_a_grant_is_compiled_once_and_kept_over_the_next_holdings(world: World) -> None:
    planner = enclave(world, "planner")
    before = planner.membership.held().grants
    planner.refresh()
    after = planner.membership.held().grants
    assert before
    assert all(after[key] is held for key, held in before.items())


def test_a_schema_that_no_compiler_would_have_let_pass_is_malformed() -> None:
    world = World()
    world.up()
    planner = enclave(world, "planner")
    (signed, *_) = next(iter(planner.membership.held().views.values())).grants
    grant = open_grant(signed, world.keys.signing.public, world.mesh)
    bomb = replace(grant, constraints=Constraints(arguments={"$ref": "https://x.example/"}))
    with pytest.raises(MalformedError):
        granted(bomb)
