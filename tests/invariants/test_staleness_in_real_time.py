"""Invariant 5 in real time: agents that run, on a real broker whose owner does each thing that it can do.

Twenty agents are twenty tries. Each is asked again and again, at its own gate, whether it takes something of
the evicted; what it says later than a grace period after the receipt was there would break the promise.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from agent_runtime import Agent, Context, Node
from lab.broker import Broker
from lab.tap import Frame, Script, Tap, open_tap
from lab.tap.script import Alter, Delay, Drop, Match, Rule
from lab.tap.stream import Towards
from schemas.errors import PeerError
from schemas.limits import SECOND
from schemas.peer import Call
from schemas.policy import Limits
from schemas.subjects import Kind
from tests.mesh.world import eventually
from tests.operating.conftest import mesh
from tests.operating.world import Mesh

__all__ = ["mesh"]

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

TRIES = 20
GRACE = 4  # seconds
LOOK = 0.02  # seconds between two questions
BOTH = ("alice", "bob")
VICTIMS, OTHERS = "victims", "others"  # the tap's names


def withholds(script: Script) -> Rule:
    return script.add("withhold", Match(VICTIMS, Towards.PARTY), Drop())


def replays(script: Script) -> Rule:
    """Have them hear one beacon for ever, which is signed before the eviction: the first from here on."""
    kept: list[bytes] = []

    def first(frame: Frame) -> tuple[Frame, ...]:
        kept.append(frame.body)
        return (frame.with_body(kept[0]), frame.with_body(kept[0]))

    rule = script.add("replay a beacon", Match(VICTIMS, Towards.PARTY, Kind.BEACON), Alter(first))
    script.add("withhold the rest", Match(VICTIMS, Towards.PARTY), Drop())
    return rule


def plays_slowly(script: Script) -> Rule:
    rule = script.add("late", Match(VICTIMS, Towards.PARTY, Kind.BEACON), Delay(GRACE * 0.8))
    script.add("withhold the rest", Match(VICTIMS, Towards.PARTY), Drop())
    return rule


def splits(script: Script) -> Rule:
    """Nothing for one half; the other, and what that says to this one, goes on as ever."""
    peers = (Kind.INBOX.value, Kind.ACCEPT.value)
    apart = Match(VICTIMS, Towards.PARTY, where=lambda passing: passing.kind not in peers)
    return script.add("split", apart, Drop())


def vault() -> Agent:
    agent = Agent("vault")

    @agent.tool("pseudonym")
    async def pseudonym(text: str, context: Context) -> str:
        return text

    return agent


@pytest.fixture
async def tap(broker: Broker, tmp_path: Path) -> AsyncIterator[Tap]:
    """Whoever owns the broker."""
    async with open_tap(broker.url, tmp_path / "wire", Script(seed=5)) as opened:
        yield opened


@asynccontextmanager
async def vaults(mesh: Mesh, url: str, count: int) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(mesh.agent("vault", vault(), url=url)) for _ in range(count)]


def takes(node: Node, evicted: bytes) -> bool:
    """Tell whether a call of the evicted would run."""
    call = Call(os.urandom(16), "pseudonym", b"\xa3Ada", 2**60, None)
    try:
        node._gate.call(evicted, "planner", "vault", call)
    except PeerError:
        return False
    return True


@pytest.mark.parametrize(
    ("behaviour", "told", "hear"),
    # A beacon that comes late, and counts still, names who was put out.
    [(withholds, 0, 0), (replays, 0, 0), (plays_slowly, 0, TRIES), (splits, TRIES // 2, TRIES // 2)],
    ids=["withholds", "replays", "plays slowly", "splits"],
)
async def test_no_agent_takes_anything_of_the_evicted_a_grace_after_the_receipt(
    mesh: Mesh, tap: Tap, behaviour: Callable[[Script], Rule], told: int, hear: int
) -> None:
    mesh.policy = replace(mesh.policy, limits=Limits(grace_seconds=GRACE))
    mesh.write("policy.toml", mesh.policy)
    victims_url, others_url = await tap.listen(VICTIMS), await tap.listen(OTHERS)
    last = dict.fromkeys(range(TRIES), 0)
    async with mesh.up() as coordinator:
        clock = coordinator.service._clock
        async with mesh.agent("planner") as planner:
            evicted = planner.membership.keys.instance
        async with vaults(mesh, victims_url, TRIES - told) as kept, vaults(mesh, others_url, told) as heard:
            everyone = [*kept, *heard]

            async def look() -> None:
                while True:
                    for number, node in enumerate(everyone):
                        if takes(node, evicted):
                            last[number] = clock()
                    await anyio.sleep(LOOK)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(look)
                await eventually(lambda: all(last.values()))
                await behaviour(tap.script).wait_fired()
                await mesh.data("agents", "evict", evicted.hex(), keys=BOTH)
                (entry,) = coordinator.service.core.authority.ledger.revoked()
                over = entry.time + GRACE * SECOND
                await eventually(lambda: clock() > over + GRACE * SECOND)
                know = [evicted in node.membership.held().revoked for node in everyone]
                # Once the broker lets everything through, all hear of it and go on.
                tap.script.rules.clear()
                await eventually(lambda: all(node.membership.live() for node in everyone))
                await eventually(lambda: all(evicted in node.membership.held().revoked for node in everyone))
                tasks.cancel_scope.cancel()
    assert know == [False] * (TRIES - hear) + [True] * hear
    assert max(last.values()) <= over
