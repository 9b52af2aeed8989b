"""The peer of the channel benchmark: plain nats-py in a process of its own."""

import asyncio
import sys

import nats
from nats.aio.msg import Msg

SUBJECT = "plain.echo"
COUNT = "plain.count"
COUNTED = "plain.counted"


async def serve(url: str) -> None:
    """Answer every request with its own payload, and count what is published, until killed."""
    connection = await nats.connect(url)
    count, wanted, asked = 0, -1, Msg(connection)

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    async def take(message: Msg) -> None:
        nonlocal count
        count += 1
        if count == wanted:
            await told()

    async def told() -> None:
        nonlocal count, wanted
        count, wanted = 0, -1
        await asked.respond(b"")

    async def counted(message: Msg) -> None:
        nonlocal wanted, asked
        wanted, asked = int(message.data), message
        if count == wanted:
            await told()

    await connection.subscribe(SUBJECT, cb=answer)
    await connection.subscribe(COUNT, cb=take)
    await connection.subscribe(COUNTED, cb=counted)
    await connection.flush()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
