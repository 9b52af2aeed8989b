"""What agents claim of themselves, and how far they are believed.

Pure. Nothing here is proven: an agent is the subject that its load messages arrive on. So credits are
capped, a newcomer starts with a small window that only finished tasks widen, and whoever lets an
assignment pass in silence is left alone for a while. A liar costs a delay, never memory.
"""

from dataclasses import dataclass, field

from schemas.errors import PeerError, Reason
from schemas.limits import SECOND
from schemas.scheduling import Load

SILENT_AFTER = 3 * SECOND  # three missed heartbeats
MAX_AGENTS = 16_384
MAX_CLASSES = 512  # each costs the broker a consumer
MAX_MEMBERSHIPS = 262_144  # agents times classes
WINDOW_FIRST = 64  # tasks that an agent holds before it has finished one
WINDOW_MOST = 1_024
SUSPENSION_FIRST = 2 * SECOND
SUSPENSION_MOST = 60 * SECOND
LOAD_BYTES_PER_SECOND = 1024 * 1024  # ten full load messages: decoding them takes 7 % of a core


@dataclass(slots=True, eq=False)
class Agent:
    """One sender of load messages."""

    token: bytes
    assign_token: bytes
    classes: tuple[bytes, ...]
    heard: int
    credits: int = 0  # as announced, less what was sent since
    unconfirmed: int = 0  # sent to it and not yet answered
    level: int = 0
    draining: bool = False
    window: int = WINDOW_FIRST
    suspended_until: int = 0
    silences: int = 0  # in a row
    open: bool = False
    tasks: set[bytes] = field(default_factory=set)

    def room(self, now: int) -> int:
        """Return how many more tasks it may be sent."""
        if self.draining or now < self.suspended_until:
            return 0
        return min(self.credits, self.window - len(self.tasks))

    def load(self) -> float:
        """Return how busy it is: what it says itself, and what was sent to it since."""
        return self.level / 8 + len(self.tasks) / (len(self.tasks) + max(self.credits, 1))


@dataclass(slots=True, eq=False)
class Pool:
    """The live agents of one task class."""

    members: dict[bytes, Agent] = field(default_factory=dict)
    open: list[Agent] = field(default_factory=list)  # those with room, in no order
    homes: dict[bytes, Agent] = field(default_factory=dict)  # affinity to agent, until members change
    _places: dict[bytes, int] = field(default_factory=dict)

    def staffed(self) -> bool:
        """Tell whether anyone here will take tasks again."""
        return any(not agent.draining for agent in self.members.values())

    def show(self, agent: Agent) -> None:
        """Put a member among those with room."""
        self._places[agent.token] = len(self.open)
        self.open.append(agent)

    def hide(self, agent: Agent) -> None:
        """Take a member from those with room."""
        place = self._places.pop(agent.token)
        last = self.open.pop()
        if last is not agent:
            self.open[place] = last
            self._places[last.token] = place


class Agents:
    """Everyone whose load messages arrive."""

    def __init__(self) -> None:
        self._by_token: dict[bytes, Agent] = {}
        self._by_assign: dict[bytes, Agent] = {}
        self._memberships = 0
        self._second = 0
        self._spent: dict[bytes, int] = {}
        self._opened: dict[bytes, Agent] = {}
        self.pools: dict[bytes, Pool] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def get(self, token: bytes) -> Agent | None:
        """Return the live agent of a load token."""
        return self._by_token.get(token)

    def charge(self, token: bytes, size: int, *, now: int) -> None:
        """Refuse, before a byte is decoded, a stranger to a full house and whoever floods."""
        if token not in self._by_token and len(self._by_token) >= MAX_AGENTS:
            raise PeerError(Reason.UNAVAILABLE, "too many agents")
        if now // SECOND != self._second:
            self._second = now // SECOND
            self._spent.clear()
        spent = self._spent.get(token, 0) + size
        if spent > LOAD_BYTES_PER_SECOND or (token not in self._by_token and len(self._spent) > MAX_AGENTS):
            raise PeerError(Reason.UNAVAILABLE, "too many load messages")
        self._spent[token] = spent

    def hear(self, token: bytes, load: Load, *, now: int) -> Agent:
        """Take note of a load message, except for its statuses and credits."""
        agent = self._by_token.get(token)
        owner = self._by_assign.get(load.assign_token)
        # Two names of one agent belong together for its life: else one could draw another's tasks.
        if owner is not agent:
            raise PeerError(Reason.INSTANCE_UNKNOWN, "the assign token is not this sender's")
        classes = tuple(sorted(set(load.class_tokens)))
        known = agent.classes if agent is not None else ()
        if classes != known:
            self._check_bounds(classes, known)
        if agent is None:
            agent = Agent(token=token, assign_token=load.assign_token, classes=(), heard=now)
            self._by_token[token] = agent
            self._by_assign[load.assign_token] = agent
        if classes != agent.classes:
            self._move(agent, classes)
        if load.draining != agent.draining:
            for name in agent.classes:
                self.pools[name].homes.clear()
        agent.heard, agent.level, agent.draining = now, load.level, load.draining
        return agent

    def credit(self, agent: Agent, announced: int, *, now: int) -> None:
        """Set what an agent takes now. What was sent and not yet answered may not be in its count."""
        agent.credits = min(announced, WINDOW_MOST) - agent.unconfirmed
        self.refresh(agent, now=now)

    def sent(self, agent: Agent, task: bytes, *, now: int) -> None:
        """Note a task on its way to an agent."""
        agent.tasks.add(task)
        agent.credits -= 1
        agent.unconfirmed += 1
        self.refresh(agent, now=now)

    def answered(self, agent: Agent) -> None:
        """Note that an agent answers its assignments."""
        agent.silences = 0
        agent.suspended_until = 0

    def finished(self, agent: Agent) -> None:
        """Trust an agent with one task more."""
        agent.window = min(WINDOW_MOST, agent.window + 1)

    def left(self, agent: Agent, task: bytes, *, now: int) -> None:
        """Note that an agent no longer has a task."""
        agent.tasks.discard(task)
        self.refresh(agent, now=now)

    def silent(self, agent: Agent, *, now: int) -> None:
        """Leave an agent alone that let an assignment pass: longer each time, until it answers one."""
        if now < agent.suspended_until:
            return  # the others of the same burst
        agent.suspended_until = now + min(SUSPENSION_MOST, SUSPENSION_FIRST << min(agent.silences, 8))
        agent.silences += 1
        agent.window = max(1, agent.window // 2)

    def take_opened(self) -> list[Agent]:
        """Return who got room since the last call."""
        opened = list(self._opened.values())
        self._opened.clear()
        return opened

    def lost(self, *, now: int) -> list[Agent]:
        """Remove and return those who have been silent for too long."""
        gone = [agent for agent in self._by_token.values() if now - agent.heard >= SILENT_AFTER]
        for agent in gone:
            self._move(agent, ())
            del self._by_token[agent.token]
            del self._by_assign[agent.assign_token]
        return gone

    def excuse(self, *, now: int) -> None:
        """Count everybody as just heard."""
        for agent in self._by_token.values():
            agent.heard = now

    def refresh(self, agent: Agent, *, now: int) -> None:
        """Keep an agent among those with room exactly while it has some."""
        is_open = agent.room(now) > 0
        if is_open == agent.open:
            return
        agent.open = is_open
        if is_open:
            self._opened[agent.token] = agent
        for name in agent.classes:
            pool = self.pools[name]
            if is_open:
                pool.show(agent)
            else:
                pool.hide(agent)

    def _check_bounds(self, classes: tuple[bytes, ...], known: tuple[bytes, ...]) -> None:
        new = sum(1 for name in classes if name not in self.pools)
        if len(self.pools) + new > MAX_CLASSES:
            raise PeerError(Reason.UNAVAILABLE, "too many task classes")
        if self._memberships + len(classes) - len(known) > MAX_MEMBERSHIPS:
            raise PeerError(Reason.UNAVAILABLE, "too many classes of agents")

    def _move(self, agent: Agent, classes: tuple[bytes, ...]) -> None:
        for name in agent.classes:
            pool = self.pools[name]
            if agent.open:
                pool.hide(agent)
            del pool.members[agent.token]
            pool.homes.clear()
            if not pool.members:
                del self.pools[name]
        for name in classes:
            pool = self.pools.setdefault(name, Pool())
            pool.members[agent.token] = agent
            pool.homes.clear()
            if agent.open:
                pool.show(agent)
                self._opened[agent.token] = agent
        self._memberships += len(classes) - len(agent.classes)
        agent.classes = classes
