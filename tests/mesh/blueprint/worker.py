"""A worker: says back what it is told, counts through a tool, or waits until it is released."""

from agent_runtime import Agent, Context

agent = Agent("worker", concurrency=4)


@agent.task("echo")
async def echo(text: str, context: Context) -> str:
    """Say it back."""
    return text


@agent.task("tally")
async def tally(name: str, context: Context) -> str:
    """Have a name counted, once however often this task is tried."""
    await context.call("add", name, type(None))
    return name


@agent.task("hold")
async def hold(name: str, context: Context) -> int:
    """Wait until somebody releases a name; say how many had come for it by then."""
    return await context.call("arrive", name, int, within=120)


@agent.task("guarded")
async def guarded(text: str, context: Context) -> str:
    """Do what nobody may ask for."""
    return text
