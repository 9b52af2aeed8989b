"""The vault: alone holds the key of the pseudonyms. It is made here, stays here, and ends with this process."""

import os

from agent_runtime import Agent, Context
from examples.redaction.messages import PseudonymReply, PseudonymRequest
from examples.redaction.pseudonyms import pseudonym


def make(key: bytes) -> Agent:
    """Return a vault under `key`."""
    agent = Agent("vault")

    @agent.tool("pseudonyms")
    async def pseudonyms(request: PseudonymRequest, context: Context) -> PseudonymReply:
        """Give a pseudonym for each identifier."""
        return PseudonymReply(tuple(pseudonym(key, i.kind, i.value) for i in request.identifiers))

    return agent


agent = make(os.urandom(32))
