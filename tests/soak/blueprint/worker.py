"""A worker: carries a numbered payload to the ledger, from enclave to enclave."""

from agent_runtime import Agent, Context

agent = Agent("worker", concurrency=16)


@agent.task("carry")
async def carry(asked: tuple[int, bytes], context: Context) -> bytes:
    """Have it stamped."""
    return await context.call("carry", asked, bytes, within=120)
