"""An agent in a few lines: no cryptography in sight, and all of it underneath."""

from agent_runtime import Agent, Context

agent = Agent("greeter")


@agent.task("greet")
async def greet(name: str, context: Context) -> str:
    """Greet somebody whose name neither broker nor scheduler nor host learns."""
    return f"Hello {name}, from an enclave."
