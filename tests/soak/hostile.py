"""The soak's broker: a seeded script for the tap, and old frames said again, whole and damaged, at a pace."""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace

import anyio

from lab.tap import (
    Alter,
    Delay,
    Drop,
    Duplicate,
    Flip,
    Frame,
    Match,
    Reorder,
    Replay,
    Script,
    Tap,
    Towards,
    Truncate,
)
from lab.tap.script import Action, Passing
from schemas.errors import UsageError
from schemas.subjects import Kind

REMEMBERED = 256  # frames of each party and direction
BURST = 16
# What is said by parties to each other and to the coordinator. Of JetStream's own words and what streams
# deliver nothing is withheld: they are asked for again after up to half a minute, which tests patience only.
LIVE = (Kind.HELLO, Kind.OFFER, Kind.BOOT, Kind.INBOX, Kind.ACCEPT, Kind.SESSION, Kind.BEACON)
QUEUED = (Kind.TASK, Kind.ASSIGN, Kind.RESULT, Kind.LOAD)
CHANCE = 0.03  # of each deed, for each message on each of its two ways


class Adversary:
    """Rules in force, and what was injected."""

    def __init__(self, script: Script, parties: Iterable[str], seed: int) -> None:
        self.script = script
        self.injected: Counter[str] = Counter()
        self.parties = tuple(parties)
        self._chance = random.Random(seed)
        self._old: dict[tuple[str, Towards], deque[Frame]] = {}
        # A rule for each party and direction, as a held frame must not end on somebody else's connection.
        for party in self.parties:
            for towards in Towards:
                self._attack(party, towards)

    def _attack(self, party: str, towards: Towards) -> None:
        old = self._old[party, towards] = deque(maxlen=REMEMBERED)
        last: deque[bytes] = deque(maxlen=1)

        def splice(frame: Frame) -> tuple[Frame, ...]:
            alien = last[0] if last else b""
            last.append(frame.body)
            half = len(frame.body) // 2
            return (frame.with_body(frame.body[:half] + alien[half:]),)

        def watch(passing: Passing) -> bool:
            old.append(passing.frame)
            return False

        live: dict[str, Action] = {
            "drop": Drop(),
            "delay": Delay(0.05),
            "duplicate": Duplicate(3),
            "reorder": Reorder(4),
            "replay": Replay(5),
            "truncate": Truncate(),
            "flip": Flip(),
            "splice": Alter(splice),
            "extend": Alter(lambda frame: (frame.with_body(frame.body + frame.body[:40]),)),
        }
        self.script.add("watch", Match(party, towards, where=watch), Drop())
        for name, action in live.items():
            fits = of(LIVE)
            self.script.add(name, Match(party, towards, chance=CHANCE, where=fits), action)
        queued = of(QUEUED)
        for name, action in (("duplicate", Duplicate()), ("flip", Flip()), ("truncate", Truncate())):
            self.script.add(name, Match(party, towards, chance=CHANCE, where=queued), action)

    def count(self) -> Counter[str]:
        """Count the adverse events so far, by what was done."""
        done = Counter(self.injected)
        for rule in self.script.rules:
            done[rule.name] += rule.fired
        return +done

    def stop(self) -> Counter[str]:
        """Turn honest, and count."""
        done = self.count()
        self.script.rules.clear()
        return done

    async def inject(self, tap: Tap, rate: float, until: int) -> None:
        """Say old frames again, whole or damaged, so many a second, until so many events have happened."""
        pause = BURST * 1.0 / rate
        due = anyio.current_time()
        while self.count().total() < until:
            for _ in range(BURST):
                self._inject_one(tap)
            due = max(due + pause, anyio.current_time() - 1)
            await anyio.sleep_until(max(due, anyio.current_time() + 0.001))

    def _inject_one(self, tap: Tap) -> None:
        chance = self._chance
        party = chance.choice(self.parties)
        # To the party: what is said to the broker in a party's name goes out to all who listen.
        towards = Towards.PARTY if chance.random() < 0.8 else Towards.BROKER
        old = self._old[party, towards]
        fit = [
            frame for frame in (chance.choice(old) for _ in range(3 if old else 0)) if _kind(frame) in _LIVE
        ]
        if not fit:
            return
        frame, deed = fit[0], chance.choice(("replayed", "replayed flipped", "replayed cut", "redirected"))
        if deed == "redirected":
            frame = frame.with_body(chance.choice(old).body)
        elif deed == "replayed flipped":
            frame = Flip().apply(frame, chance).frames[0]
        elif deed == "replayed cut":
            frame = Truncate().apply(frame, chance).frames[0]
        try:
            tap.inject(party, towards, replace(frame, reply="", headers=b"", verb=_PLAIN[towards]))
        except UsageError:
            return  # it is connecting
        self.injected[deed] += 1


_LIVE = frozenset(kind.value for kind in LIVE)
_PLAIN = {Towards.PARTY: "MSG", Towards.BROKER: "PUB"}


def _kind(frame: Frame) -> str:
    return Passing("", Towards.PARTY, frame).kind


def of(kinds: Iterable[Kind]) -> Callable[[Passing], bool]:
    """Return what tells whether a message is of these kinds."""
    names = frozenset(kind.value for kind in kinds)
    return lambda passing: passing.kind in names
