"""A peer that is gone is found out by the broker's word, and a broker that lies about it changes nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from agent_runtime import Agent, Context, Node, RefusedError
from agent_runtime.listings import Listing
from agent_runtime.peering import Link
from agent_runtime.trust import Trust
from lab.mesh import RunningMesh
from tests.mesh.world import client_identity, enclave_identity, joined

pytestmark = pytest.mark.anyio

UNHEARD = ("session", "unheard")


def counter(name: str, ran: Counter[str]) -> Agent:
    """Return an agent that answers with its own name and counts what it was asked."""
    agent = Agent("counter")

    @agent.tool("read")
    async def read(prefix: str, context: Context) -> dict[str, list[int]]:
        ran[prefix] += 1
        return {name: []}

    return agent


@asynccontextmanager
async def counting(mesh: RunningMesh, name: str, ran: Counter[str]) -> AsyncIterator[Node]:
    async with joined(mesh, enclave_identity(mesh, "counter", "counter"), counter(name, ran)) as node:
        yield node


def only(desk: Node, *held: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the coordinator list these as the only counters."""
    listing = Listing(tuple((each.admission, each.admission_bytes) for each in held), 2**62, frozenset())

    async def looked_up(role: str, now: int) -> Listing:
        return listing

    monkeypatch.setattr(desk.calls.listings, "_looked_up", looked_up)


async def ask(desk: Node, what: str) -> list[str]:
    with anyio.fail_after(90):
        return list(await desk.context().call("read", what, dict[str, list[int]], within=80))


@asynccontextmanager
async def linked(
    mesh: RunningMesh, ran: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Node, Link]]:
    """A desk, and its session with the one counter, on which it has asked for `a`."""
    async with joined(mesh, client_identity(mesh)) as desk, counting(mesh, "only", ran) as called:
        only(desk, called.membership.held(), monkeypatch=monkeypatch)
        assert await ask(desk, "a") == ["only"]
        (link,) = desk.calls._peering._links.values()
        yield desk, link


async def test_a_call_to_who_is_gone_goes_to_his_successor_by_the_brokers_word(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: Counter[str] = Counter()
    async with joined(mesh, client_identity(mesh)) as desk, AsyncExitStack() as stay:
        async with counting(mesh, "first", ran) as first:
            was = first.membership.held()
            only(desk, was, monkeypatch=monkeypatch)
            assert await ask(desk, "a") == ["first"]
        second = await stay.enter_async_context(counting(mesh, "second", ran))
        # Who is gone is listed for as long as his admission lasts.
        only(desk, was, second.membership.held(), monkeypatch=monkeypatch)
        assert await ask(desk, "b") == ["second"]
        assert desk.refusals.counts[UNHEARD] == 1
        for number in range(20):
            assert await ask(desk, f"c{number}") == ["second"]
        # None of them went to who is gone, or a session with him would have been waited for.
        assert desk.refusals.counts[UNHEARD] == 1


async def test_a_call_that_was_on_its_way_when_its_peer_ended_is_asked_again_soon(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: Counter[str] = Counter()
    async with joined(mesh, client_identity(mesh)) as desk, AsyncExitStack() as stay:
        second = await stay.enter_async_context(counting(mesh, "second", ran))
        async with counting(mesh, "first", ran) as first:
            only(desk, first.membership.held(), monkeypatch=monkeypatch)
            assert await ask(desk, "a") == ["first"]
            # What the broker handed to who was about to end comes back as no word of the broker's.
            (link,) = desk.calls._peering._links.values()
            hint, link.hint = link.hint, ""
            monkeypatch.setattr(first.calls, "_frame", lambda _delivery: None)
            for subscription in list(first.calls.links._subscriptions.values()):
                await subscription.close()
            asking = asyncio.ensure_future(ask(desk, "b"))
            await asyncio.sleep(0)
            only(desk, second.membership.held(), monkeypatch=monkeypatch)
            link.hint = hint
        assert await asking == ["second"]
    assert desk.refusals.counts[UNHEARD] == 1
    assert ran == {"a": 1, "b": 1}


async def test_a_call_that_has_to_be_asked_again_while_nobody_is_live_waits_until_we_are(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: Counter[str] = Counter()
    async with linked(mesh, ran, monkeypatch) as (desk, link):
        held = desk.membership.trust
        asking = asyncio.ensure_future(ask(desk, "b"))
        await asyncio.sleep(0)
        # The coordinator is another one, the peer has left its sessions for it, and we are not there yet.
        desk.membership.trust = None
        desk.calls.unheard(link.hint)
        with pytest.raises(RefusedError, match="not-live"):
            await ask(desk, "c")
        assert not asking.done()
        desk.membership.trust = held
        assert await asking == ["only"]
    assert ran == {"a": 1, "b": 1}


async def test_a_session_that_is_left_while_the_broker_does_not_read_is_not_spoken_on(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: Counter[str] = Counter()
    async with linked(mesh, ran, monkeypatch) as (desk, link):

        async def breathe() -> None:
            desk.calls.unheard(link.hint)

        monkeypatch.setattr(desk.calls._outgoing._transport, "breathe", breathe)
        desk.calls._outgoing.congested = True
        assert await ask(desk, "b") == ["only"]
        # On another: on the first an answer may never come.
        assert len(desk.calls._peering._links) == 2
    assert ran == {"a": 1, "b": 1}


async def test_a_broker_that_lies_loses_nothing_and_costs_a_handshake_a_second(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: Counter[str] = Counter()
    async with (
        joined(mesh, client_identity(mesh)) as desk,
        counting(mesh, "only", ran) as vault,
    ):
        only(desk, vault.membership.held(), monkeypatch=monkeypatch)
        transport, calls, loop = desk.calls.links._transport, desk.calls, asyncio.get_running_loop()
        post, publish = transport.post, transport.publish

        def lie(subject: str, *parts: bytes, hint: str = "") -> bool:
            loop.call_soon(calls.unheard, hint)
            return post(subject, *parts, hint=hint)

        async def lie_of_inits(subject: str, payload: bytes, hint: str = "") -> None:
            loop.call_soon(calls.unheard, hint)
            await publish(subject, payload, hint)

        monkeypatch.setattr(transport, "post", lie)
        monkeypatch.setattr(transport, "publish", lie_of_inits)
        started = loop.time()
        for number in range(100):
            assert await ask(desk, f"{number}") == ["only"]
        lasted = loop.time() - started
        assert ran == {f"{number}": 1 for number in range(100)}
        assert 1 <= desk.refusals.counts[UNHEARD] <= lasted + 2
        for nonsense in ("", "zz", "ab", "*", "\xe9"):
            calls.unheard(nonsense)
