"""Taking part from outside any TEE: a client is known by the key that the policy pins."""

import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from agent_runtime.agent import Context, Task
from agent_runtime.errors import RefusedError
from agent_runtime.journal import Journal, open_journal
from agent_runtime.node import Identity, Node
from agent_runtime.refusals import Refusals
from schemas.errors import Reason, UsageError
from schemas.subjects import Party
from sealing.documents import open_anchor
from transport import Credentials, connect

JOIN_DEADLINE = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Client:
    """An admitted client: `context` submits tasks and calls tools in its name."""

    context: Context
    refusals: Refusals
    instance: bytes
    tasks: tuple[Task, ...] = ()

    def resume(self) -> tuple[Task, ...]:
        """Return what former processes with this journal submitted and did not `forget`, eldest first.

        Each can be waited for like one of this process's own. One whose epoch closed meanwhile fails as
        `epoch-closed`: its payload was nowhere written down, so submit it again.
        """
        return self.tasks


@asynccontextmanager
async def connect_client(
    url: str,
    identity: Identity,
    *,
    credentials: Credentials | None = None,
    within: float = JOIN_DEADLINE,
    journal: Path | None = None,
) -> AsyncIterator[Client]:
    """Join the mesh as a client; raise `RefusedError` if that did not come about in `within` seconds.

    `journal` names a file that is made if need be, for this client's processes alone, one at a time: with
    it a later process takes up by `Client.resume` what this one leaves behind, however it ends. Raise
    `JournalError` if the file is another's, in use, or damaged.
    """
    with ExitStack() as stack:
        if journal is not None:
            identity = replace(identity, journal=stack.enter_context(_journal(journal, identity)))
        async with connect(url, name=Party.CLIENT.value, credentials=credentials) as transport:
            node = Node(identity, transport)
            async with node.running():
                with anyio.move_on_after(within):
                    await node.wait_live()
                if not node.membership.live():
                    refused = node.refusals.summary()
                    detail = f"the mesh did not admit this client within {within:.0f} s ({refused})"
                    raise RefusedError(Reason.NOT_LIVE, detail)
                instance, tasks = node.membership.keys.instance, node.submitter.resumed()
                yield Client(node.context(), node.refusals, instance, tasks)


def _journal(path: Path, identity: Identity) -> AbstractContextManager[Journal]:
    if identity.key is None:
        raise UsageError("only a client keeps a journal: an enclave's disk is its host's")
    mesh = open_anchor(identity.anchor)[1]
    now = time.time_ns() // 1_000_000
    return open_journal(path, mesh.id, identity.key.public, now=now)
