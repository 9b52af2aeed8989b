"""The asking side of the channel benchmark, a process: `python -m benchmarks.asker sealed|plain`.

Reads one line of JSON with what to connect by, then one for each slice, and answers each with its figure.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import nats

from agent_runtime import Identity, connect_client
from agent_runtime.loop import run
from benchmarks.plain_echo import COUNT, COUNTED, SUBJECT
from sealing.keys import SigningKey
from transport import Credentials

IN_FLIGHT = 64
PATIENCE = 20.0  # seconds for an answer that on any machine takes less
# What one slice of one-way messages may have on its way: well below where a broker drops who reads slowly.
MOST_BYTES = 24 * 1024 * 1024
MOST_MESSAGES = 200_000


class Sides(msgspec.Struct):
    """How to ask, how to send without an answer, and how to wait until so many of these were heard."""

    ask: Callable[[bytes], Awaitable[bytes]]
    send: Callable[[bytes], Awaitable[None]]
    heard: Callable[[int], Awaitable[None]]


async def alone(sides: Sides, payload: bytes, seconds: float) -> float:
    """Return the median of one call at a time, in microseconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        await sides.ask(payload)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


async def together(sides: Sides, payload: bytes, seconds: float) -> float:
    """Return the calls a second of 64 askers."""
    done = 0
    start = time.perf_counter()
    end = start + seconds

    async def asker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await sides.ask(payload)
            done += 1

    await asyncio.gather(*(asker() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - start)


async def one_way(sides: Sides, payload: bytes, seconds: float) -> float:
    """Return the messages a second that the other side heard."""
    most = min(MOST_MESSAGES, MOST_BYTES // len(payload))
    sent = 0
    start = time.perf_counter()
    end = start + seconds
    while sent < most and (sent % 64 or time.perf_counter() < end):
        await sides.send(payload)
        sent += 1
    await sides.heard(sent)
    return sent / (time.perf_counter() - start)


SLICES = {"alone": alone, "together": together, "one-way": one_way}


async def work(sides: Sides) -> None:
    """Answer the lines that come, until there are no more."""
    loop = asyncio.get_running_loop()
    _say({"loop": type(loop).__module__.partition(".")[0]})
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        figure = await SLICES[asked["kind"]](sides, os.urandom(asked["size"]), asked["seconds"])
        _say({"figure": figure})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def sealed(how: dict[str, str]) -> None:
    """Ask as an admitted client."""
    identity = Identity(bytes.fromhex(how["anchor"]), ("bench",), key=SigningKey(bytes.fromhex(how["key"])))
    credentials = Credentials(seed=how["seed"])
    async with connect_client(how["url"], identity, credentials=credentials) as client:
        context = client.context

        async def ask(payload: bytes) -> bytes:
            return await context.call("echo", payload, bytes)

        async def send(payload: bytes) -> None:
            await context.send("bulk", payload)

        async def heard(count: int) -> None:
            await context.call("heard", count, type(None), within=PATIENCE)

        await work(Sides(ask, send, heard))


async def plain(how: dict[str, str]) -> None:
    """Ask by nats-py alone."""
    connection = await nats.connect(how["url"])

    async def ask(payload: bytes) -> bytes:
        return (await connection.request(SUBJECT, payload, timeout=PATIENCE)).data

    async def send(payload: bytes) -> None:
        await connection.publish(COUNT, payload)

    async def heard(count: int) -> None:
        await connection.request(COUNTED, b"%d" % count, timeout=PATIENCE)

    await work(Sides(ask, send, heard))
    await connection.close()


if __name__ == "__main__":
    told = json.loads(sys.stdin.readline())
    if sys.argv[1] == "plain":
        asyncio.run(plain(told))
    else:
        run(sealed, told, fast=told["loop"] == "uvloop")
