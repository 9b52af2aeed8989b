"""What handlers and callers get is theirs: it keeps nothing of the frame that it came in."""

from typing import Any

import msgspec
import pytest

from agent_runtime import Agent, Context
from agent_runtime.agent import decode_value, encode_value


class Note(msgspec.Struct):
    text: str
    rest: msgspec.Raw
    part: memoryview


KINDS = [bytes, bytearray, memoryview, msgspec.Raw, dict[str, memoryview], Note, Any]


def value_for(kind: Any) -> object:
    if kind is Note:
        return Note("a", msgspec.Raw(b"\xc0"), memoryview(b"part"))
    return {"a": b"part"} if kind == dict[str, memoryview] else b"part"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["handler", "caller"])
def test_a_value_holds_no_part_of_its_frame(kind: Any, by: str) -> None:
    agent = Agent("keeper")

    async def keep(value: Any, context: Context) -> None: ...

    keep.__annotations__["value"] = kind
    agent.tool("keep")(keep)
    encoded = encode_value(value_for(kind))
    frame = bytearray(b"what came with it" + encoded)
    view = memoryview(frame)[-len(encoded) :]
    value = agent.tools["keep"].decode(view) if by == "handler" else decode_value(view, kind)
    view.release()
    frame.clear()  # raises if anything looks at it still
    assert encode_value(value) == encoded
