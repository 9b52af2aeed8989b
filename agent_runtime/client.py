"""Taking part from outside any TEE: a client is known by the key that the policy pins."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from agent_runtime.agent import Context
from agent_runtime.errors import RefusedError
from agent_runtime.node import Identity, Node
from agent_runtime.refusals import Refusals
from schemas.errors import Reason
from schemas.subjects import Party
from transport import Credentials, connect

JOIN_DEADLINE = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Client:
    """An admitted client: `context` submits tasks and calls tools in its name."""

    context: Context
    refusals: Refusals
    instance: bytes


@asynccontextmanager
async def connect_client(
    url: str,
    identity: Identity,
    *,
    credentials: Credentials | None = None,
    within: float = JOIN_DEADLINE,
) -> AsyncIterator[Client]:
    """Join the mesh as a client; raise `RefusedError` if that did not come about in `within` seconds."""
    async with connect(url, name=Party.CLIENT.value, credentials=credentials) as transport:
        node = Node(identity, transport)
        async with node.running():
            with anyio.move_on_after(within):
                await node.wait_live()
            if not node.membership.live():
                raise RefusedError(
                    Reason.NOT_LIVE,
                    f"the mesh did not admit this client within {within:.0f} s ({node.refusals.summary()})",
                )
            yield Client(node.context(), node.refusals, node.membership.keys.instance)
