"""A relay: an enclave that submits to others."""

from agent_runtime import Agent, Context

agent = Agent("relay")


@agent.task("fan")
async def fan(texts: list[str], context: Context) -> list[str]:
    """Have each text said back by some worker."""
    tasks = [await context.submit("echo", text) for text in texts]
    return [await task.result(str) for task in tasks]
