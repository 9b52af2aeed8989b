"""An operator's line to the coordinator: its Evidence is verified before it hears anything.

What was sent counts as done only when the coordinator's signed receipt is here.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from agent_runtime import RefusedError
from agent_runtime.clock import MeshClock, boottime
from agent_runtime.coordination import Coordination, Party, UnreachableError
from agent_runtime.membership import Membership
from agent_runtime.refusals import Refusals
from agent_runtime.witness import Witness
from schemas import codec
from schemas.audit import TermProof
from schemas.documents import LogReceipt, Profile
from schemas.errors import MalformedError, PeerError, Reason
from schemas.messages import OPERATOR, Event, Get, LogPage
from sealing.context import sha256
from sealing.documents import open_anchor, open_message
from sealing.errors import NotAuthenticError
from sealing.keys import PartyKeys, SigningKey
from transport import Credentials, TransportError, connect

PATIENCE = 30.0  # seconds to find a coordinator: it may be starting
RETRY = 0.2


class OperatorLine:
    """A session with one coordinator, as one operator."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination

    @property
    def coordinator(self) -> bytes:
        """The instance of the coordinator whose Evidence was accepted."""
        coordinator = self._coordination.coordinator
        if coordinator is None:
            raise UnreachableError("no session with a coordinator")
        return coordinator.peer.instance

    @property
    def term(self) -> int:
        """The term that the coordinator showed an order for; 0 if none is open."""
        coordinator = self._coordination.coordinator
        return coordinator.term if coordinator is not None else 0

    @property
    def term_proof(self) -> TermProof:
        """Whose key signs the term's log, as the offer said it and the operators' order confirms."""
        coordinator = self._coordination.coordinator
        if coordinator is None or not coordinator.term_record:
            raise UnreachableError("no session with a coordinator whose term is open")
        return TermProof(coordinator.term_record, coordinator.peer.signing_key, coordinator.kem_key)

    async def log(self, first: int) -> LogPage:
        """Return the audit log's entries from index `first` on, as many as one answer takes."""
        body = await self._coordination.request("get", Get("log", str(first)))
        return codec.convert(body.fields, LogPage)

    async def send(self, event: Event) -> LogReceipt:
        """Send a signed event; return the coordinator's receipt, or raise its refusal."""
        coordinator = self._coordination.coordinator
        if coordinator is None:
            raise UnreachableError("no session with a coordinator")
        body = await self._coordination.request("event", event)
        if body.purpose != "receipt":
            raise MalformedError("not a receipt")
        signed = codec.convert(body.fields, bytes)
        mesh = self._coordination.party.mesh
        receipt = open_message(signed, coordinator.peer.signing_key, mesh, "receipt", LogReceipt)
        if receipt.event != sha256(codec.encode(event)):
            raise NotAuthenticError("a receipt for another event")
        return receipt


@asynccontextmanager
async def operator_line(
    url: str,
    *,
    anchor: bytes,
    profile: Profile,
    key: SigningKey,
    credentials: Credentials | None = None,
    patience: float = PATIENCE,
) -> AsyncIterator[OperatorLine]:
    """Open a line to a coordinator that `profile` accepts; raise the last refusal if none is found."""
    opened, mesh = open_anchor(anchor)
    keys = PartyKeys(key, client=True)
    party = Party(opened, mesh, keys, OPERATOR, (OPERATOR,), None, os.urandom, boottime, profile)
    membership = Membership(
        mesh,
        keys,
        MeshClock(boottime),
        Witness(),
        kind=OPERATOR,
        roles=(OPERATOR,),
        random=os.urandom,
    )
    async with connect(url, name="operator", credentials=credentials) as transport:
        coordination = Coordination(party, transport, membership, Refusals(), _nothing)
        await _join(coordination, patience)
        try:
            yield OperatorLine(coordination)
        finally:
            with anyio.CancelScope(shield=True):
                await coordination.close()
                membership.erase()


async def _join(coordination: Coordination, patience: float) -> None:
    deadline = anyio.current_time() + patience
    while True:
        try:
            return await coordination.join()
        except (PeerError, TransportError) as error:
            if isinstance(error, UnreachableError) and error.refused is Reason.MEASUREMENT_NOT_IN_POLICY:
                raise RefusedError(
                    error.refused,
                    "the coordinator's code is not what the operators signed; if that is meant, measure and "
                    "sign it again (in the lab: sealbus lab resign)",
                ) from error
            if anyio.current_time() >= deadline:
                raise
            await anyio.sleep(RETRY)


async def _nothing() -> None:
    """An operator holds no views: there is nothing to do when they change."""
