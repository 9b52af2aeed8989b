"""What a tap does to frames: rules that match, actions that answer with other frames. Pure and seeded.

Every decision is kept as a value, so that a seed and the same frames give the same decisions again.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Protocol

import anyio

from lab.tap.stream import Frame, Towards
from schemas.subjects import PREFIX, Kind

DECISIONS_KEPT = 100_000  # a demo has some thousands


@dataclass(frozen=True, slots=True)
class Passing:
    """A message on its way: whose connection it is on, and which way it goes."""

    party: str
    towards: Towards
    frame: Frame

    @property
    def kind(self) -> str:
        """The kind of its subject; empty for what is not of the mesh."""
        words = self.frame.subject.split(".")
        return words[2] if len(words) == 4 and words[0] == PREFIX else ""


@dataclass(frozen=True, slots=True)
class Match:
    """Which messages a rule is for: all that is named must hold. `party` is a pattern like `redactor-*`."""

    party: str = "*"
    towards: Towards | None = None
    kind: Kind | None = None
    subject: str | None = None
    every: int = 1  # of those that match, each n-th
    most: int | None = None  # and no more than so many
    chance: float = 1.0
    where: Callable[[Passing], bool] | None = None

    def fits(self, passing: Passing) -> bool:
        """Tell whether a message is one of these, its number and luck aside."""
        return (
            fnmatchcase(passing.party, self.party)
            and (self.towards is None or passing.towards is self.towards)
            and (self.kind is None or passing.kind == self.kind.value)
            and (self.subject is None or passing.frame.subject == self.subject)
            and (self.where is None or self.where(passing))
        )


@dataclass(frozen=True, slots=True)
class Going:
    """What goes on: these frames, so many seconds later."""

    frames: tuple[Frame, ...]
    after: float = 0.0


class Action(Protocol):
    """What a rule does. One object serves one rule: some keep frames."""

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        """Return what goes on in the place of `frame`."""
        ...


class Drop:
    """Let it vanish. For one party that is withholding."""

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        return Going(())


@dataclass
class Delay:
    """Let it come later; what follows overtakes it."""

    seconds: float

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        return Going((frame,), self.seconds)


@dataclass
class Duplicate:
    """Let it come several times."""

    times: int = 2

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        return Going((frame,) * self.times)


@dataclass
class Reorder:
    """Hold so many, then let them come last first."""

    count: int
    held: list[Frame] = field(default_factory=list)

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        self.held.append(frame)
        if len(self.held) < self.count:
            return Going(())
        frames, self.held = tuple(reversed(self.held)), []
        return Going(frames)


@dataclass
class Replay:
    """Let it come, and with it one that came so many before."""

    back: int = 1
    former: deque[Frame] = field(default_factory=deque)

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        self.former.append(frame)
        if len(self.former) <= self.back:
            return Going((frame,))
        return Going((frame, self.former.popleft()))


@dataclass
class Truncate:
    """Cut its end off, a random part if `keep` is not given."""

    keep: int | None = None

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        keep = self.keep if self.keep is not None else chance.randrange(max(len(frame.body), 1))
        return Going((frame.with_body(frame.body[:keep]),))


@dataclass
class Flip:
    """Flip one bit: of the byte in the middle, or of any."""

    middle: bool = False

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        if not frame.body:
            return Going((frame,))
        place = len(frame.body) // 2 if self.middle else chance.randrange(len(frame.body))
        changed = bytearray(frame.body)
        changed[place] ^= 1 << chance.randrange(8)
        return Going((frame.with_body(bytes(changed)),))


@dataclass
class Splice:
    """Put other bytes in the place of some, wherever those stand."""

    old: bytes
    new: bytes

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        return Going((frame.with_body(frame.body.replace(self.old, self.new)),))


@dataclass
class Redirect:
    """Send it to another subject, with other bytes in the place of some if that is asked for."""

    subjects: Sequence[str]
    splice: Splice | None = None

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        moved = replace(frame, subject=chance.choice(self.subjects))
        return self.splice.apply(moved, chance) if self.splice else Going((moved,))


@dataclass
class Alter:
    """Anything else: with rules for two parties, two views of one message."""

    change: Callable[[Frame], tuple[Frame, ...]]

    def apply(self, frame: Frame, chance: random.Random) -> Going:
        return Going(self.change(frame))


@dataclass(frozen=True, slots=True)
class Decision:
    """What was done to which message; bodies by size only."""

    number: int
    rule: str
    party: str
    towards: Towards
    subject: str
    size: int
    sizes: tuple[int, ...]
    after: float


@dataclass(eq=False)
class Rule:
    """One rule of a script; `fired` counts what it was done to."""

    name: str
    match: Match
    action: Action
    fitted: int = 0
    fired: int = 0
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def takes(self, passing: Passing, chance: random.Random) -> bool:
        """Tell whether the rule is for this very message, and count it."""
        match = self.match
        if not match.fits(passing) or (match.most is not None and self.fired >= match.most):
            return False
        self.fitted += 1
        return self.fitted % match.every == 0 and (match.chance >= 1.0 or chance.random() < match.chance)

    def note(self) -> None:
        """Count one deed."""
        self.fired += 1
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_fired(self, times: int = 1) -> None:
        """Return once the rule has been at work so often."""
        while self.fired < times:
            await self._changed.wait()


class Script:
    """The rules in force. The first that takes a message decides."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.rules: list[Rule] = []
        self.decisions: deque[Decision] = deque(maxlen=DECISIONS_KEPT)
        self._chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be unguessable
        self._number = 0

    def add(self, name: str, match: Match, action: Action) -> Rule:
        """Put a rule in force, behind those that are."""
        rule = Rule(name, match, action)
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule out of force; what it holds is gone."""
        self.rules.remove(rule)

    def judge(self, passing: Passing) -> Going | None:
        """Return what goes on in the place of a message; None: the message itself."""
        self._number += 1
        for rule in self.rules:
            if rule.takes(passing, self._chance):
                going = rule.action.apply(passing.frame, self._chance)
                self.decisions.append(
                    Decision(
                        self._number,
                        rule.name,
                        passing.party,
                        passing.towards,
                        passing.frame.subject,
                        len(passing.frame.body),
                        tuple(len(frame.body) for frame in going.frames),
                        going.after,
                    )
                )
                rule.note()
                return going
        return None
