"""Acts of whoever owns the broker or the scheduler: what happens to frames between the parties."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from lab.tap import (
    Drop,
    Duplicate,
    Flip,
    Match,
    Record,
    Redirect,
    Rule,
    Splice,
    Towards,
    records,
)
from lab.tap.script import Action
from lab.theatre.act import Verdict, recovered, refused, succeeded
from lab.theatre.stage import Stage
from schemas import codec
from schemas.errors import Reason
from schemas.scheduling import Assign, TaskMessage
from schemas.subjects import Kind

SCHEDULER = "scheduler"
TOLD_WITHIN = 1.0  # seconds in which an agent tells what it refused
TOKEN = slice(2, 18)  # of a role frame: where it names its epoch


async def flipped_bit(stage: Stage) -> Verdict:
    """Flip one bit in every third task on its way to whoever shall do it."""
    match = Match(towards=Towards.PARTY, kind=Kind.ASSIGN, every=3)
    # What stands in the middle is no padding, whose form would give it away without any tag.
    return await _disturb(stage, match, Flip(middle=True), Reason.NOT_AUTHENTIC)


async def replayed_task(stage: Stage) -> Verdict:
    """Deliver every task twice."""
    return await _disturb(stage, Match(towards=Towards.PARTY, kind=Kind.ASSIGN), Duplicate(), Reason.REPLAYED)


async def redirected_task(stage: Stage) -> Verdict:
    """Deliver tasks of one role to an agent of another, and say there that they are of its own epoch."""
    roles = _roles(stage)
    (thief, *_), (victim, *_) = sorted(roles.items())
    redirect = Redirect(roles[thief].subjects, Splice(roles[victim].token, roles[thief].token))
    theirs = frozenset(roles[victim].subjects)
    match = Match(
        SCHEDULER, Towards.BROKER, Kind.ASSIGN, every=3, where=lambda passing: passing.frame.subject in theirs
    )
    # Where it would be taken: who waits for its result would refuse that for the same reason.
    return await _disturb(stage, match, redirect, Reason.NOT_AUTHENTIC, "task")


async def lying_scheduler(stage: Stage) -> Verdict:
    """Assign each task twice, and every fourth to an agent of another role."""
    roles = _roles(stage)
    (one, first), (_, second) = sorted(roles.items())[:2]
    theirs = frozenset(second.subjects)
    match = Match(
        SCHEDULER, Towards.BROKER, Kind.ASSIGN, every=4, where=lambda passing: passing.frame.subject in theirs
    )
    repeats = _refusals(stage, Reason.REPLAYED)
    with (
        _rule(stage, "misroute", match, Redirect(first.subjects)),
        _rule(stage, "twice", Match(SCHEDULER, Towards.BROKER, Kind.ASSIGN), Duplicate()) as twice,
    ):
        verdict = await _disturbed(stage, Reason.EPOCH_UNKNOWN)
    if verdict.reason != Reason.EPOCH_UNKNOWN.value:
        return verdict
    again = (_refusals(stage, Reason.REPLAYED) - repeats).total()
    if not again:
        return succeeded(f"{twice.fired} tasks were assigned twice, and nobody noticed")
    return recovered(
        verdict.reason,
        f"{one} handed back what is not its role's ({verdict.detail}); {again} repeats were not run again",
    )


async def withheld_beacons(stage: Stage) -> Verdict:
    """Keep every word of the coordinator from one agent until it stops; then let it hear again."""
    (name, *_) = sorted(name for name, workload in stage.mesh.workloads.items() if _spare(stage, workload))
    stopped = stage.log_of(name).count(f" {Reason.NOT_LIVE.value}: ")
    admitted = stage.admissions(name)
    words = (Kind.BEACON, Kind.SESSION, Kind.OFFER, Kind.ACCEPT)
    match = Match(name, Towards.PARTY, where=lambda passing: passing.kind in words)
    with _rule(stage, "withhold", match, Drop()):
        if not await stage.until(lambda: stage.log_of(name).count(f" {Reason.NOT_LIVE.value}: ") > stopped):
            return succeeded(f"{name} goes on without a beacon")
        if trouble := await stage.work():
            return succeeded(f"the others suffered: {trouble}")
    if not await stage.until(lambda: stage.admissions(name) > admitted):
        return succeeded(f"{name} stays away for good")
    return recovered(Reason.NOT_LIVE.value, f"{name} stopped within the grace, and resumed by itself")


async def _disturb(stage: Stage, match: Match, action: Action, reason: Reason, place: str = "") -> Verdict:
    with _rule(stage, reason.value, match, action) as rule:
        verdict = await _disturbed(stage, reason, place)
    if rule.fired == 0:
        return succeeded("there was nothing to disturb: nothing was shown")
    return verdict


async def _disturbed(stage: Stage, reason: Reason, place: str = "") -> Verdict:
    before = _refusals(stage, reason, place)
    if trouble := await stage.work():
        return succeeded(f"honest work suffered: {trouble}")
    if not await stage.until(lambda: _refusals(stage, reason, place) > before):
        return succeeded("nobody refused anything")
    await anyio.sleep(TOLD_WITHIN)  # the others tell it too, each in its own half second
    news = Counter(_refusals(stage, reason, place)) - before
    who = ", ".join(f"{name} {count} times" for name, count in sorted(news.items()))
    return refused(reason.value, who)


@contextmanager
def _rule(stage: Stage, name: str, match: Match, action: Action) -> Iterator[Rule]:
    rule = stage.tap.script.add(name, match, action)
    try:
        yield rule
    finally:
        stage.tap.script.remove(rule)


def _refusals(stage: Stage, reason: Reason, place: str = "") -> Counter[str]:
    return Counter({name: stage.refusals(name, reason, place) for name in stage.mesh.workloads})


def _spare(stage: Stage, workload: str) -> bool:
    return list(stage.mesh.workloads.values()).count(workload) > 1


class _Role:
    """What the wire shows of a workload: where its agents take tasks, and how those name their epoch."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self.token = b""


def _roles(stage: Stage) -> dict[str, _Role]:
    """Learn from the recording alone which workloads take tasks, and on which subjects."""
    found: dict[str, _Role] = {}
    for _, record in records(stage.tap.path):
        workload = stage.mesh.workloads.get(record.party)
        if workload is None or record.towards is not Towards.PARTY or b".assign." not in record.arrived[:200]:
            continue
        subject, frame = _assigned(record)
        role = found.setdefault(workload, _Role())
        role.token = frame[TOKEN]
        if subject not in role.subjects:
            role.subjects.append(subject)
    if len(found) < 2:
        raise LookupError("the recording shows tasks of fewer than two roles")
    return found


def _assigned(record: Record) -> tuple[str, bytes]:
    frame = record.frame()
    message = codec.decode(codec.decode(frame.body, Assign).task, TaskMessage)
    return frame.subject, message.frame
