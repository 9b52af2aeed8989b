"""Ask the greeter of a lab that is up: `python -m examples.hello.ask LABDIR NAME`."""

import sys
from pathlib import Path

import anyio

from console.cli import code_of, leaves
from lab.client import lab_client
from schemas.errors import SealbusError

USAGE = "usage: python -m examples.hello.ask LABDIR NAME"


async def ask(root: Path, name: str) -> str:
    """Submit one task and return its result."""
    async with lab_client(root, "visitor") as client:
        task = await client.context.submit("greet", name)
        return await task.result(str)


def main(arguments: list[str]) -> int:
    """Ask, print the answer, and return the exit code: those of `sealbus`."""
    if len(arguments) != 2:
        _complain(USAGE)
        return 2
    code = 0
    try:
        print(anyio.run(ask, Path(arguments[0]), arguments[1]))  # noqa: T201 - its whole purpose
    except* SealbusError as expected:
        for error in leaves(expected):
            _complain(str(error))
            code = max(code, code_of(error))
    except* KeyboardInterrupt:
        _complain("stopped")
        code = max(code, 1)
    return code


def _complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - no more of a screen than it needs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
