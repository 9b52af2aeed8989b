"""The bulk of a soak: the pure machines in this process under a seeded adversary, as long as is asked for."""

import gc
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.adversary.admission import ROLES as JOINERS
from tests.adversary.admission import Admission
from tests.adversary.network import ADVERSE, Deed
from tests.adversary.peers import MOVES, ROLES, Peers
from tests.adversary.tasks import Tasks

PAGE = os.sysconf("SC_PAGE_SIZE")
RSS_GROWTH = 2.0
LIFE = 4_000  # moves in one world: then it has to heal, and another begins
Say = Callable[[str, int], None]


class Stage(Protocol):
    """A world, and how a random adversary moves in it."""

    def move(self, chance: random.Random) -> str:
        """Make one move; name the deed, or nothing if it was time's or an honest party's."""
        ...

    def check(self) -> None:
        """Raise if something is wrong."""
        ...

    def heal(self) -> int:
        """Turn the network honest and raise if work does not get through; return after how much mesh time."""
        ...

    def refusals(self) -> Counter[str]:
        """Count what was refused, by reason."""
        ...

    def done(self) -> int:
        """Count the honest work that got through."""
        ...


class PeersStage:
    """Calls between two agents."""

    def __init__(self) -> None:
        self.peers = Peers()

    def move(self, chance: random.Random) -> str:
        luck = chance.random()
        if luck < 0.15:
            self.peers.do_call(chance.choice(ROLES), chance.choice((0, 10, 3_000)))
        elif luck < 0.17:
            self.peers.do_give_up(chance.choice(ROLES))
        elif luck < 0.175:
            self.peers.do_renew(chance.choice(ROLES))
        elif luck < 0.177:
            self.peers.do_restart(chance.choice(ROLES))
        elif luck < 0.20:
            self.peers.do_wait(chance.choice((1, 50, 200, 500)))
        else:
            return adverse(chance, self.peers.do, MOVES)
        return ""

    def check(self) -> None:
        self.peers.check()

    def heal(self) -> int:
        return self.peers.heal()

    def refusals(self) -> Counter[str]:
        return self.peers.refused

    def done(self) -> int:
        return self.peers.answered


class TasksStage:
    """Tasks under a scheduler that lies."""

    def __init__(self) -> None:
        self.tasks = Tasks()

    def move(self, chance: random.Random) -> str:
        luck = chance.random()
        if luck < 0.15:
            self.tasks.do_submit(chance.choice((0, 10, 900)))
        elif luck < 0.152:
            self.tasks.do_restart(chance.randrange(2))
        elif luck < 0.1525:
            self.tasks.do_evict(chance.randrange(2))
        elif luck < 0.17:
            self.tasks.do_wait(chance.choice((1, 200, 1_000, 8_000)))
        else:
            dead = chance.random() < 0.02
            return adverse(chance, partial(self.tasks.do, dead=dead), MOVES)
        return ""

    def check(self) -> None:
        self.tasks.check()

    def heal(self) -> int:
        return self.tasks.heal()

    def refusals(self) -> Counter[str]:
        return self.tasks.refused

    def done(self) -> int:
        return sum(outcome.failure is None for outcome in self.tasks.outcomes.values())


class AdmissionStage:
    """Agents, and an enclave of the adversary's, that want to be admitted."""

    def __init__(self) -> None:
        self.admission = Admission()

    def move(self, chance: random.Random) -> str:
        luck = chance.random()
        if luck < 0.05:
            self.admission.do_join(chance.choice(JOINERS), evil=chance.random() < 0.2)
        elif luck < 0.1:
            self.admission.do_hello_again(chance.randrange(16))
        elif luck < 0.2:
            self.admission.do_tick()
        elif luck < 0.22:
            self.admission.do_wait(chance.choice((1, 200, 1_000)))
        else:
            return adverse(chance, self.admission.do, MOVES)
        return ""

    def check(self) -> None:
        self.admission.check()

    def heal(self) -> int:
        return self.admission.heal()

    def refusals(self) -> Counter[str]:
        return self.admission.refused

    def done(self) -> int:
        return self.admission.joined


def adverse(chance: random.Random, do: Callable[[Deed, int, int, int], bool], moves: tuple[Deed, ...]) -> str:
    """Make one move of the network's; name it if it was adverse and met something."""
    deed = chance.choice(moves)
    met = do(deed, chance.getrandbits(24), chance.getrandbits(24), chance.getrandbits(24))
    return deed if met and deed in ADVERSE else ""


STAGES: dict[str, Callable[[], Stage]] = {
    "peers": PeersStage,
    "tasks": TasksStage,
    "admission": AdmissionStage,
}


@dataclass
class Outcome:
    """What a run on the machines did and found."""

    events: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    done: int = 0
    worlds: int = 0
    heal_ms: list[int] = field(default_factory=list)
    seconds: float = 0.0
    objects: tuple[int, int] = (0, 0)  # between worlds, when these were counted
    rss_kib: tuple[int, int] = (0, 0)  # after a tenth of the events, and at the end

    @property
    def total(self) -> int:
        return sum(self.events.values())

    def faults(self, growth: float) -> list[str]:
        """Say what was not as it must be; the rest has raised."""
        found = []
        if self.objects[1] > self.objects[0] * growth:
            found.append(f"objects grew from {self.objects[0]} to {self.objects[1]}")
        # Here worlds come and go, and the allocator keeps what lies between: a leak would do more than this.
        if self.rss_kib[1] > self.rss_kib[0] * RSS_GROWTH:
            found.append(f"memory grew from {self.rss_kib[0]} to {self.rss_kib[1]} KiB")
        return found


def run(name: str, events: int, seed: int, say: Say = lambda text, done: None) -> Outcome:
    """Let a seeded adversary do so many things to the machines of a stage; raise at the first wrong."""
    chance = random.Random(f"{name}/{seed}")
    outcome = Outcome()
    started = time.perf_counter()
    while outcome.total < events:
        _live(STAGES[name](), chance, outcome, events)
        if outcome.total >= events // 10 and not outcome.rss_kib[0]:
            outcome.rss_kib, outcome.objects = (_rss(), 0), (_objects(), 0)
        say(name, outcome.total)
    outcome.rss_kib = (outcome.rss_kib[0], _rss())
    outcome.objects = (outcome.objects[0], _objects())
    outcome.seconds = time.perf_counter() - started
    return outcome


def _live(stage: Stage, chance: random.Random, outcome: Outcome, events: int) -> None:
    """Let one world live and heal."""
    for move in range(LIFE):
        if outcome.total >= events:
            break
        deed = stage.move(chance)
        if deed:
            outcome.events[deed] += 1
        if move % 16 == 0:
            stage.check()
    outcome.heal_ms.append(stage.heal())
    outcome.refused += stage.refusals()
    outcome.done += stage.done()
    outcome.worlds += 1


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def _rss() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE // 1024
