"""What was verified once and is true for ever, remembered by content: chains and collateral come again.

Only facts that no time and no policy can change are kept: these bytes parse to that, this signature is that
key's over those bytes. Names of facts are digests of everything that the fact depends on, so nothing can
answer for anything else. What an appraisal learned is kept only if it ended in acceptance (`trial`): a
stranger's junk pushes nothing out.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Protocol, TypeVar, cast

T = TypeVar("T")
OVERHEAD = 512  # bytes that an entry costs beyond what it holds, roughly


class Remembers(Protocol):
    """Answer from memory, or make the answer and remember it."""

    def recall(self, kind: str, inputs: tuple[bytes, ...], make: Callable[[], T]) -> T:
        """Return the fact of this kind about these bytes; what `make` raises is raised and not kept."""
        ...


class Memory:
    """Facts by content, the least recently used forgotten first. Threads may share it."""

    def __init__(self, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._facts: OrderedDict[bytes, tuple[object, int]] = OrderedDict()
        self._free = max_bytes
        self._lock = threading.Lock()

    def trial(self) -> "Trial":
        """Return a view for one appraisal: it reads what is known, and what it learns is kept on `keep`."""
        return Trial(self)

    def find(self, name: bytes) -> tuple[object, int] | None:
        """Return a fact and its size by its name, None if it is not known."""
        with self._lock:
            found = self._facts.get(name)
            if found is not None:
                self._facts.move_to_end(name)
            return found

    def put(self, learned: dict[bytes, tuple[object, int]]) -> None:
        """Keep facts, and forget as many old ones as they need room."""
        with self._lock:
            for name, (fact, size) in learned.items():
                if name in self._facts:
                    continue
                self._facts[name] = (fact, size)
                self._free -= size
            while self._free < 0:
                _, (_, size) = self._facts.popitem(last=False)
                self._free += size


class Trial:
    """One appraisal's view of a memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._learned: dict[bytes, tuple[object, int]] = {}

    def recall(self, kind: str, inputs: tuple[bytes, ...], make: Callable[[], T]) -> T:
        """Return the fact of this kind about these bytes, or make it."""
        name = _name(kind, inputs)
        found = self._learned.get(name) or self._memory.find(name)
        if found is None:
            found = (make(), OVERHEAD + 2 * sum(map(len, inputs)))
            self._learned[name] = found
        # A name is made of the kind, and one kind has one type.
        return cast("T", found[0])

    def keep(self) -> None:
        """Remember what this appraisal learned."""
        self._memory.put(self._learned)
        self._learned = {}


class Forgetful:
    """A memory that keeps nothing."""

    def recall(self, kind: str, inputs: tuple[bytes, ...], make: Callable[[], T]) -> T:
        """Make the fact."""
        del kind, inputs
        return make()


FORGETFUL = Forgetful()


def _name(kind: str, inputs: tuple[bytes, ...]) -> bytes:
    digest = sha256(kind.encode())
    for each in inputs:
        # Lengths first, or two ways to cut the same bytes would share a name.
        digest.update(len(each).to_bytes(8))
        digest.update(each)
    return digest.digest()
