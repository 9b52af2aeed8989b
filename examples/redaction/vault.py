"""The vault: alone holds the key of the pseudonyms. It is made here and ends with this process."""

import hashlib
import os

from agent_runtime import Agent, Context, RefusedError
from examples.redaction.messages import Begin, Begun, PseudonymReply, PseudonymRequest
from examples.redaction.pseudonyms import pseudonym
from schemas.errors import Reason


def make(key: bytes) -> Agent:
    """Return a vault under `key`."""
    agent = Agent("vault")
    name = hashlib.sha256(b"name of the vault" + key).hexdigest()[:16]

    @agent.tool("begin-pseudonyms")
    async def begin(begin: Begin, context: Context) -> Begun:
        """Say which vault this is, so that a job does not go on with another one's key."""
        return Begun(name)

    @agent.tool("pseudonyms")
    async def pseudonyms(request: PseudonymRequest, context: Context) -> PseudonymReply:
        """Give a pseudonym for each identifier."""
        if request.vault != name:
            raise RefusedError(Reason.UNAVAILABLE, "the job was begun with another vault: run it again")
        return PseudonymReply(tuple(pseudonym(key, i.kind, i.value) for i in request.identifiers))

    return agent


agent = make(os.urandom(32))
