"""The audit log of this stage: one structured line for each decision, chained by hash.

Pure: lines go to the `emit` that was handed in. An entry names parties, reasons and versions; never a
payload, a key or Evidence.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from schemas.limits import MINUTE
from schemas.messages import Millis
from sealing.context import sha256

EMPTY = bytes(32)
REFUSALS_A_MINUTE = (
    20  # of one request and reason: enough to look into; strangers can cause a thousand a second
)

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


class Refusals:
    """What strangers can have written: so many entries a minute of each reason, and a count of the others.

    By reason, so that a flood of one kind does not hide a single refusal of another.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._began: Millis = 0
        self._written: Counter[tuple[str, str]] = Counter()
        self._left_out: Counter[tuple[str, str]] = Counter()

    def note(self, asked: str, reason: str, instance: bytes, *, now: Millis) -> None:
        """Write an entry for a refusal, or count it."""
        self.sweep(now)
        key = (asked, reason)
        if self._written[key] >= REFUSALS_A_MINUTE:
            self._left_out[key] += 1
            return
        self._written[key] += 1
        self._log.append("refused", now=now, asked=asked, instance=instance.hex(), reason=reason)

    def sweep(self, now: Millis) -> None:
        """Write down, once a minute, how many had no entry of their own."""
        if now - self._began < MINUTE:
            return
        for (asked, reason), count in sorted(self._left_out.items()):
            self._log.append("refused-more", now=now, asked=asked, reason=reason, count=count)
        self._began = now
        self._written.clear()
        self._left_out.clear()


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
