"""Ask the greeter of a lab that is up: `python -m examples.hello.ask LABDIR NAME`."""

import sys
from pathlib import Path

import anyio

from lab.client import lab_client


async def ask(root: Path, name: str) -> str:
    """Submit one task and return its result."""
    async with lab_client(root, "visitor") as client:
        task = await client.context.submit("greet", name)
        return await task.result(str)


if __name__ == "__main__":
    print(anyio.run(ask, Path(sys.argv[1]), sys.argv[2]))  # noqa: T201 - its whole purpose
