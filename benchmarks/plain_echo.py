"""The peer of the channel benchmark: plain nats-py in a process of its own."""

import asyncio
import sys

import nats
from nats.aio.msg import Msg

SUBJECT = "plain.echo"


async def serve(url: str) -> None:
    """Answer every request with its own payload, until killed."""
    connection = await nats.connect(url)

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    await connection.subscribe(SUBJECT, cb=answer)
    await connection.flush()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
