"""The audit log: every decision is an entry, and an entry a leaf of one tree (docs/protocol.md section 9.1).

Pure. An entry names parties, reasons and versions; never a payload, a key or Evidence. `emit` gets each as
a line as well, for whoever runs the coordinator; only the tree proves anything.
"""

import json
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice

from coordinator.errors import RefusedError
from schemas import codec
from schemas.audit import FACTS, AuditEntry, Fact, as_plain
from schemas.documents import LogHead
from schemas.errors import Reason
from schemas.limits import MINUTE
from schemas.messages import LogProof, Millis
from sealing.audit import leaf
from sealing.context import Mesh
from sealing.log_tree import LogTree

REFUSALS_A_MINUTE = (
    20  # of one request and reason: enough to look into; strangers can cause a thousand a second
)
ENTRIES_KEPT = 65_536  # some 20 MiB; hours of the worst flood, months of an ordinary mesh
# 64 MiB; agents prove again each half of an admission's life, in which even a client that is admitted over
# and over, as fast as it can be, must not push out what their proofs stand on.
LEAVES_KEPT = 1_048_576
PAGE_BYTES = 256 * 1024  # of entries: a quarter of what a message takes
SIZE_DIGITS = 19  # of a number below 2^63


class AuditLog:
    """One coordinator's log. Its newest entries are kept for the operators, who keep them all."""

    def __init__(self, mesh: Mesh, emit: Callable[[str], None]) -> None:
        self._mesh = mesh
        self._emit = emit
        self._tree = LogTree()
        self._entries: deque[bytes] = deque(maxlen=ENTRIES_KEPT)
        self.term = 0  # the one that is open; what came before the order says 0

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self._tree.size

    @property
    def root(self) -> bytes:
        """The root over all of them."""
        return self._tree.root()

    def head(self, now: Millis) -> LogHead:
        """Return size and root, to be signed."""
        return LogHead(self.term, self.size, self.root, now)

    def append(self, decision: str, *, now: Millis, **facts: Fact) -> int:
        """Write an entry and return its index. The facts are those that `FACTS` names."""
        if set(facts) != set(FACTS[decision]):
            raise ValueError(f"{decision} has other facts")
        entry = AuditEntry(self.term, self.size, now, decision, facts)
        data = codec.encode(entry)
        self._tree.append(leaf(self._mesh, data))
        self._entries.append(data)
        self._tree.forget(self.size - LEAVES_KEPT)
        self._emit(json.dumps(as_plain(entry), sort_keys=True, separators=(",", ":")))
        return entry.index

    def page(self, first: str) -> tuple[bytes, ...]:
        """Return the entries from index `first` on, as many as one answer takes."""
        kept_from = self.size - len(self._entries)
        index = _number(first)
        if index < kept_from:
            raise RefusedError(Reason.NO_HANDLER, f"entries before {kept_from} are no longer kept here")
        if index > self.size:
            raise RefusedError(Reason.NO_HANDLER, f"this log has {self.size} entries")
        page: list[bytes] = []
        room = PAGE_BYTES
        for entry in islice(self._entries, index - kept_from, None):
            room -= len(entry)
            if room < 0:
                break
            page.append(entry)
        return tuple(page)

    def proof(self, sizes: str) -> LogProof:
        """Return the proof that the log of the first size begins that of the second, for "first-second"."""
        first, _, second = sizes.partition("-")
        older, newer = _number(first), _number(second)
        if not max(1, self._tree.kept_from) <= older <= newer <= self.size:
            raise RefusedError(Reason.NO_HANDLER, "no proof for these sizes is kept here")
        return LogProof(self._tree.consistency(older, newer))


class Refusals:
    """What strangers can have written: so many entries a minute of each reason, and a count of the others.

    By reason, so that a flood of one kind does not hide a single refusal of another.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._began: Millis = 0
        self._written: Counter[tuple[str, str]] = Counter()
        self._left_out: Counter[tuple[str, str]] = Counter()

    def note(self, asked: str, reason: str, instance: bytes, *, now: Millis, event: str = "") -> None:
        """Write an entry for a refusal, or count it. `event` is the digest of an event that was refused."""
        self.sweep(now)
        key = (asked, reason)
        if self._written[key] >= REFUSALS_A_MINUTE:
            self._left_out[key] += 1
            return
        self._written[key] += 1
        facts: dict[str, Fact] = {"asked": asked, "instance": instance.hex(), "reason": reason}
        if event:
            self._log.append("refused-event", now=now, event=event, **facts)
        else:
            self._log.append("refused", now=now, **facts)

    def sweep(self, now: Millis) -> None:
        """Write down, once a minute, how many had no entry of their own."""
        if now - self._began < MINUTE:
            return
        for (asked, reason), count in sorted(self._left_out.items()):
            self._log.append("refused-more", now=now, asked=asked, reason=reason, count=count)
        self._began = now
        self._written.clear()
        self._left_out.clear()


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= SIZE_DIGITS):
        raise RefusedError(Reason.MALFORMED, "not a number of entries")
    return int(text)
