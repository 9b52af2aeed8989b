"""What each instance of the crowd serves."""

from agent_runtime import Agent, Context

agent = Agent("crowd")


@agent.tool("echo")
async def echo(data: bytes, context: Context) -> bytes:
    """Give back what came."""
    return data
