"""Joining a lab that is up as one of its clients: what a program of yours would do with its own key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent_runtime import Client, Identity, connect_client
from lab.attached import attach
from lab.operators import Operators, account
from lab.state import open_state
from schemas.errors import UsageError
from schemas.subjects import Party
from sealing.keys import SigningKey


@asynccontextmanager
async def lab_client(root: Path, name: str, *, journal: Path | None = None) -> AsyncIterator[Client]:
    """Take part in the lab of the state directory `root` as its client `name`.

    With a `journal`, as `connect_client` describes it, tasks outlive the process.
    """
    with open_state(root, exclusive=False) as state:
        url = attach(state).url
        operators = Operators(state, url)
        clients = operators.policy.policy.clients
        if name not in clients:
            raise UsageError(f"this lab has no client {name!r}: there are {', '.join(sorted(clients))}")
        identity = Identity(
            operators.anchor, clients[name].roles, key=SigningKey(state.load_keys("clients")[name])
        )
        credentials = account(state, Party.CLIENT)
    async with connect_client(url, identity, credentials=credentials, journal=journal) as client:
        yield client
