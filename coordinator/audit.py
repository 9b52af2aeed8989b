"""The audit log of this stage: one structured line for each decision, chained by hash.

Pure: lines go to the `emit` that was handed in. An entry names parties, reasons and versions; never a
payload, a key or Evidence.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from schemas.messages import Millis
from sealing.context import sha256

EMPTY = bytes(32)

Field = str | int | tuple[str, ...]


class AuditLog:
    """How many entries there are, and the head of their chain: `head = H(head || entry)`."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self.size = 0
        self.head = EMPTY

    def append(self, decision: str, *, now: Millis, **fields: Field) -> int:
        """Write an entry and return its index."""
        index = self.size
        entry = {"index": index, "time": now, "decision": decision, **fields}
        self.head = sha256(self.head, _canonical(entry))
        self.size += 1
        # The head stands in the line of the entry that it covers last, so anyone can follow the chain.
        self._emit(_canonical({**entry, "head": self.head.hex()}).decode())
        return index


def replay(lines: Iterable[str]) -> bytes:
    """Return the head that a log's lines lead to, or raise `ValueError` at the one that breaks the chain."""
    head = EMPTY
    for number, line in enumerate(lines):
        entry = json.loads(line)
        claimed = entry.pop("head")
        head = sha256(head, _canonical(entry))
        if claimed != head.hex() or entry["index"] != number:
            raise ValueError(f"the chain breaks at line {number + 1}")
    return head


def _canonical(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
