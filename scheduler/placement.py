"""Choose the agent of a task: affinity first, then the less loaded of two drawn at random.

Pure; the randomness is passed in. Two choices keep the fullest agent within a hair of the average
without sorting anything, and without the herd that runs to the one idlest agent (Mitzenmacher, 2001).
"""

from collections.abc import Collection
from hashlib import blake2b
from random import Random

from scheduler.agents import Agent, Pool

HOMES_KEPT = 4_096  # per class; forgetting costs a hash per agent


def choose(pool: Pool, affinity: bytes | None, avoid: Collection[bytes], draw: Random) -> Agent | None:
    """Return an agent of `pool` with room, or None if the task had better wait.

    Agents in `avoid` are chosen only where the class has no other.
    """
    if not pool.open:
        return None
    if avoid and all(token in avoid for token in pool.members):
        avoid = ()
    if affinity is not None:
        favourite = home(pool, affinity)
        if favourite is not None and favourite.open and favourite.token not in avoid:
            return favourite
    return _of_two(pool.open, avoid, draw)


def home(pool: Pool, affinity: bytes) -> Agent | None:
    """Return where tasks of `affinity` like to go: rendezvous hashing, so a leaver moves only its own."""
    known = pool.homes.get(affinity)
    if known is not None:
        return known
    best, best_weight = None, b""
    for token, agent in pool.members.items():
        weight = blake2b(affinity + token, digest_size=16).digest()
        if not agent.draining and weight > best_weight:
            best, best_weight = agent, weight
    if best is not None:
        if len(pool.homes) >= HOMES_KEPT:
            pool.homes.clear()
        pool.homes[affinity] = best
    return best


def _of_two(agents: list[Agent], avoid: Collection[bytes], draw: Random) -> Agent | None:
    first = _drawn(agents, avoid, draw)
    second = _drawn(agents, avoid, draw) if len(agents) > 1 else None
    if first is None or second is None:
        return first
    return second if second.load() < first.load() else first


def _drawn(agents: list[Agent], avoid: Collection[bytes], draw: Random) -> Agent | None:
    start = int(draw.random() * len(agents))
    # One step more than there are to avoid meets another, if there is one.
    for step in range(min(len(agents), len(avoid) + 1)):
        agent = agents[(start + step) % len(agents)]
        if agent.token not in avoid:
            return agent
    return None
