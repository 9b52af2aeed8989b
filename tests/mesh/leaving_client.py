"""A client that submits, waits for some results, and then sits there until it is killed.

python -m tests.mesh.leaving_client LAB JOURNAL NAME TASKS COLLECTED
"""

import sys
from pathlib import Path

import anyio

from lab.client import lab_client


async def main(lab: Path, journal: Path, name: str, count: int, collected: int) -> None:
    """Submit so many tasks, half of which are held, and collect some of the others."""
    async with lab_client(lab, "desk", journal=journal) as client:
        tasks = [
            await client.context.submit(
                "hold" if number % 2 else "echo", f"{name} {number}", label=f"{name} {number}"
            )
            for number in range(count)
        ]
        for task in tasks[: 2 * collected : 2]:
            print(await task.result(str), flush=True)
        print("collected", flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    tasks, waited_for = map(int, sys.argv[4:])
    anyio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], tasks, waited_for)
