"""A counter: a tool that tells how often each task had its effect, and a place where tasks wait."""

import anyio

from agent_runtime import Agent, Context

agent = Agent("counter")
effects: dict[str, set[bytes]] = {}
arrivals: dict[str, list[str]] = {}
released: dict[str, anyio.Event] = {}


@agent.tool("add")
async def add(name: str, context: Context) -> None:
    """Count a name, once for each task that asks."""
    if context.task_id is not None:
        effects.setdefault(name, set()).add(context.task_id)


@agent.tool("read")
async def read(prefix: str, context: Context) -> dict[str, list[int]]:
    """Tell (effects, arrivals) of every name with this prefix."""
    names = {name for name in (*effects, *arrivals) if name.startswith(prefix)}
    return {name: [len(effects.get(name, ())), len(arrivals.get(name, ()))] for name in names}


@agent.tool("arrive")
async def arrive(name: str, context: Context) -> int:
    """Wait until a name is released."""
    arrivals.setdefault(name, []).append(context.caller_instance.hex())
    await released.setdefault(name, anyio.Event()).wait()
    return len(arrivals[name])


@agent.tool("callers")
async def callers(name: str, context: Context) -> list[str]:
    """Tell which instances came for a name."""
    return arrivals.get(name, [])


@agent.tool("release")
async def release(name: str, context: Context) -> None:
    """Let everybody go who waits, or will wait, for a name."""
    released.setdefault(name, anyio.Event()).set()


@agent.tool("erase")
async def erase(name: str, context: Context) -> None:
    """Forget a name."""
    effects.pop(name, None)
