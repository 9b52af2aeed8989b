"""The responder of the channel benchmark: what it does itself costs as little as can be."""

from agent_runtime import Agent, Context

agent = Agent("echo")


@agent.tool("echo")
async def echo(data: bytes, context: Context) -> bytes:
    """Give back what came."""
    return data
