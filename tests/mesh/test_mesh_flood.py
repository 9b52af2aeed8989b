"""What a flood of inits reaches: the connection that is there for them, and who has no session yet."""

import anyio
import pytest

from agent_runtime import Agent, CallFailedError, Context, Node
from agent_runtime.listings import Listing
from lab.mesh import RunningMesh
from schemas.subjects import Kind, Party, subject
from tests.mesh.world import JOIN_DEADLINE, client_identity, enclave_identity, joined
from transport import connect
from transport.nats_transport import NatsTransport

pytestmark = pytest.mark.anyio


def counter() -> Agent:
    """Return an agent that answers."""
    agent = Agent("counter")

    @agent.tool("read")
    async def read(prefix: str, context: Context) -> dict[str, list[int]]:
        return {prefix: []}

    return agent


def only(desk: Node, counter: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the coordinator list this one as the only counter."""
    held = counter.membership.held()
    listing = Listing(((held.admission, held.admission_bytes),), 2**62, frozenset())

    async def looked_up(role: str, now: int) -> Listing:
        return listing

    monkeypatch.setattr(desk.calls.listings, "_looked_up", looked_up)


async def ask(desk: Node, what: str, within: float = 60.0) -> None:
    with anyio.fail_after(90):
        assert await desk.context().call("read", what, dict[str, list[int]], within=within) == {what: []}


def opened(node: Node) -> int:
    return len(node.calls._peering._links)


async def test_a_session_is_renewed_although_no_init_comes_through(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        joined(mesh, client_identity(mesh)) as desk,
        joined(mesh, enclave_identity(mesh, "counter", "counter"), counter()) as called,
    ):
        only(desk, called, monkeypatch)
        await ask(desk, "a")
        monkeypatch.setattr(called.calls.links._door, "knock", lambda _delivery: False)
        for number in range(2, 5):
            for link in desk.calls._peering._links.values():
                link.retired = True
            await ask(desk, f"{number}")
            assert opened(desk) == opened(called) == number
        assert called.refusals.counts["inbox", "flood"] == 3
        # Who has no session is kept out for as long as the flood lasts.
        await desk.calls.drop_all()
        with pytest.raises(CallFailedError):
            await ask(desk, "b", within=0.5)


async def test_what_a_session_says_for_another_subject_is_no_init(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        joined(mesh, client_identity(mesh)) as desk,
        joined(mesh, enclave_identity(mesh, "counter", "counter"), counter()) as called,
    ):
        only(desk, called, monkeypatch)
        await ask(desk, "a")
        monkeypatch.setattr(called.calls.links._door, "knock", lambda _delivery: False)
        monkeypatch.setattr(called.calls._peering, "inbox_subjects", tuple)
        for link in desk.calls._peering._links.values():
            link.retired = True
        with pytest.raises(CallFailedError):
            await ask(desk, "b", within=0.5)
        assert called.refusals.counts["session", "malformed"] >= 1
        assert opened(called) == 1


async def test_inits_come_on_the_connection_that_is_for_them_and_nothing_else_does(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = mesh.credentials(Party.AGENT)
    async with (
        connect(mesh.url, name="agent", credentials=credentials) as transport,
        connect(mesh.url, name="agent", credentials=credentials) as door,
        joined(mesh, client_identity(mesh)) as desk,
    ):
        node = Node(enclave_identity(mesh, "counter", "counter"), transport, counter(), door=door)
        async with node.running():
            with anyio.fail_after(JOIN_DEADLINE):
                await node.wait_live()
            only(desk, node, monkeypatch)
            await ask(desk, "a")
            inbox = subject(node.membership.mesh.id, Kind.INBOX, b"")
            assert {heard.startswith(inbox) for heard in _heard(door)} == {True}
            assert not any(heard.startswith(inbox) for heard in _heard(transport))


def _heard(transport: NatsTransport) -> set[str]:
    return {inbox.subject for inbox in transport._inboxes}
