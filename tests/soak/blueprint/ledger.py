"""A ledger: answers what only it can, and knows how often each number was stamped.

A call runs at most once here. A task may run in several workers, in each at most once.
"""

import gc
from hashlib import sha256

from agent_runtime import Agent, Context

agent = Agent("ledger")
carried: dict[tuple[int, bytes], int] = {}
runs = bytearray()  # by number: numbers are given once, and a dictionary would look like growth


@agent.tool("stamp")
async def stamp(asked: tuple[int, bytes], context: Context) -> bytes:
    """Stamp a numbered payload."""
    number, payload = asked
    if number >= len(runs):
        runs.extend(bytes(number + 65_536 - len(runs)))
    runs[number] += 1
    return _stamp(number, payload)


@agent.tool("carry")
async def carry(asked: tuple[int, bytes], context: Context) -> bytes:
    """Stamp what a worker carries."""
    key = asked[0], context.caller_instance
    carried[key] = carried.get(key, 0) + 1
    return _stamp(*asked)


@agent.tool("weigh")
async def weigh(payload: bytes, context: Context) -> bytes:
    """Answer as fast as can be: for measuring."""
    return payload


@agent.tool("audit")
async def audit(nothing: None, context: Context) -> tuple[int, int]:
    """Tell how many numbers were stamped, and how often the one that was stamped most."""
    return sum(1 for count in runs if count), max(max(runs, default=0), *carried.values(), 0)


@agent.tool("weight")
async def weight(nothing: None, context: Context) -> int:
    """Tell how many objects this process holds."""
    gc.collect()
    return len(gc.get_objects())


def _stamp(number: int, payload: bytes) -> bytes:
    return sha256(number.to_bytes(8, "big") + payload).digest()
