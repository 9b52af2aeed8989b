"""The responder of the channel benchmark: what it does itself costs as little as can be."""

import asyncio

from agent_runtime import Agent, Context

agent = Agent("echo")


class Count:
    """How many messages came since somebody last asked, and for how many somebody waits."""

    heard = 0
    wanted = -1
    reached = asyncio.Event()


@agent.tool("echo")
async def echo(data: bytes, context: Context) -> bytes:
    """Give back what came."""
    return data


@agent.message("bulk")
async def bulk(data: bytes, context: Context) -> None:
    """Count what came."""
    Count.heard += 1
    if Count.heard == Count.wanted:
        Count.reached.set()


@agent.tool("heard")
async def heard(count: int, context: Context) -> None:
    """Wait until so many messages came, and begin to count anew."""
    Count.wanted = count
    if Count.heard != count:
        await Count.reached.wait()
    Count.reached.clear()
    Count.heard, Count.wanted = 0, -1
