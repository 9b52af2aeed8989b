"""The adversary's network: whatever is said lands here, and what arrives is what the adversary makes of it.

No keys, no clock, no luck of its own: whoever drives it says by numbers which parcel and what is done to it,
so that hypothesis can shrink a run and a seed can repeat one.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from schemas.subjects import Kind
from sealing.frames import (
    GROUP_HEADER,
    KIND_GROUP,
    KIND_SESSION,
    KIND_TASK,
    SESSION_HEADER,
    TASK_HEADER,
)

REMEMBERED = 400  # what may be replayed: some of it is of sessions and processes that ended long ago


class Deed(StrEnum):
    """What an adversary does to a parcel."""

    PASS = "pass"
    DROP = "drop"
    DUPLICATE = "duplicate"
    REPLAY = "replay"
    REORDER = "reorder"
    FLIP = "flip"
    SPLICE = "splice"
    TRUNCATE = "truncate"
    EXTEND = "extend"
    REDIRECT = "redirect"
    JUNK = "junk"


DAMAGING = (Deed.FLIP, Deed.SPLICE, Deed.TRUNCATE, Deed.EXTEND, Deed.JUNK)
ADVERSE = tuple(deed for deed in Deed if deed is not Deed.PASS)


@dataclass(frozen=True, slots=True)
class Parcel:
    """What somebody said on a subject. `damaged`: it is not as anybody said it."""

    subject: str
    payload: bytes
    damaged: bool = False

    @property
    def kind(self) -> str:
        return self.subject.split(".")[2] if self.subject.count(".") == 3 else ""


@dataclass
class Network:
    """What is on its way, and what once was."""

    flying: list[Parcel] = field(default_factory=list)
    said: deque[Parcel] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    deeds: Counter[str] = field(default_factory=Counter)
    nonces: set[bytes] = field(default_factory=set)

    def say(self, subject: str, *parts: bytes) -> None:
        """Take what an honest party says; no key of theirs may ever meet a counter again."""
        payload = b"".join(parts)
        nonce = _nonce(payload, subject)
        if nonce is not None:
            assert nonce not in self.nonces, "a counter was used twice under one key"
            self.nonces.add(nonce)
        parcel = Parcel(subject, payload)
        self.flying.append(parcel)
        self.said.append(parcel)

    def do(self, deed: Deed, pick: int, other: int, place: int) -> list[Parcel]:
        """Do a deed to the parcel that `pick` names; return what arrives now, and where."""
        if deed in (Deed.REPLAY, Deed.REDIRECT, Deed.JUNK):
            made = self._of_old(deed, pick, other, place)
        else:
            made = self._of_flying(deed, pick, other, place)
        if made is None:
            return []
        self.deeds[deed] += 1
        return made

    def honest(self) -> list[Parcel]:
        """Let everything arrive that is on its way, in order."""
        flying, self.flying = self.flying, []
        return flying

    def _of_old(self, deed: Deed, pick: int, other: int, place: int) -> list[Parcel] | None:
        if not self.said:
            return None
        old = self.said[pick % len(self.said)]
        if deed is Deed.REPLAY:
            return [old]
        if deed is Deed.REDIRECT:
            return [Parcel(self.said[other % len(self.said)].subject, old.payload)]
        # Header of something real, so that it gets as far as it can.
        size = place % (len(old.payload) + 1)
        return [
            Parcel(old.subject, old.payload[:size] + bytes(other % 251 for _ in range(400)), damaged=True)
        ]

    def _of_flying(self, deed: Deed, pick: int, other: int, place: int) -> list[Parcel] | None:
        if not self.flying:
            return None
        if deed is Deed.REORDER:
            # It stays on its way behind all that follows.
            self.flying.append(self.flying.pop(pick % len(self.flying)))
            return []
        parcel = self.flying.pop(pick % len(self.flying) if deed is not Deed.PASS else 0)
        match deed:
            case Deed.DROP:
                return []
            case Deed.PASS:
                return [parcel]
            case Deed.DUPLICATE:
                return [parcel, parcel]
        return [Parcel(parcel.subject, self._damage(deed, parcel.payload, other, place), damaged=True)]

    def _damage(self, deed: Deed, payload: bytes, other: int, place: int) -> bytes:
        at = place % max(len(payload), 1)
        match deed:
            case Deed.FLIP:
                changed = bytearray(payload)
                changed[at] ^= 1 << other % 8
                return bytes(changed)
            case Deed.TRUNCATE:
                return payload[:at]
            case Deed.EXTEND:
                return payload + payload[: 1 + at % 64]
        alien = self.said[other % len(self.said)].payload
        spliced = payload[:at] + alien[at:]
        # Two copies of one frame make a third that is no forgery.
        return spliced if spliced not in (payload, alien) else payload[:at]


def _nonce(payload: bytes, subject: str) -> bytes | None:
    """Return what stands for key and counter of a frame; None where each key seals once."""
    kind = subject.split(".")[2]
    if kind == Kind.SESSION and payload[1] == KIND_SESSION:
        return payload[: SESSION_HEADER.size]
    if kind in (Kind.INBOX, Kind.BEACON) and payload[1] == KIND_GROUP:
        return payload[22 : GROUP_HEADER.size]
    return None


def task_nonce(frame: bytes) -> bytes:
    """Return what stands for key and counter of a task's frame."""
    assert frame[1] == KIND_TASK
    return frame[22 : TASK_HEADER.size - 16]


def pick_of(items: Sequence[str], number: int) -> str:
    """Return one of these by a number."""
    return items[number % len(items)]
