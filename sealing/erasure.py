"""Keys do not survive a fork: a child that an agent forks holds none (invariant 8).

The registry is of the process because forking is; it holds its members weakly. Python cannot promise
that no copy of a key's bytes is left in freed memory, only that no object still refers to one.
"""

import os
import weakref
from collections.abc import Iterable
from typing import Protocol


class Erasable(Protocol):
    """Something that holds keys and can let go of them."""

    def erase(self) -> None:
        """Drop every key. What is asked of the object afterwards fails."""

    def secrets(self) -> Iterable[bytes]:
        """Return the secrets that it holds as bytes, for `held_secrets` alone; not those inside a cipher."""


_holders: "weakref.WeakSet[Erasable]" = weakref.WeakSet()


def erase_on_fork(holder: Erasable) -> None:
    """Have `holder` erased in every child that this process forks."""
    _holders.add(holder)


def held_secrets() -> list[bytes]:
    """Return every secret that this process holds as bytes: only for `sealing.own_keys`, never to be kept."""
    return [secret for holder in list(_holders) for secret in holder.secrets()]


def _erase_all() -> None:
    for holder in list(_holders):
        holder.erase()


os.register_at_fork(after_in_child=_erase_all)
