"""What an act is: a guarantee, a deed against it, and the outcome that the guarantee demands."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from lab.theatre.stage import Stage
from schemas.errors import Reason


class Outcome(StrEnum):
    """How an act ended. `SUCCEEDED` is shouted because it is the attack that did."""

    REFUSED = "refused"
    RECOVERED = "recovered"
    SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the mesh did about an attack, in its own words: `reason` is a code, `detail` who said it."""

    outcome: Outcome
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """One attack. `expected` and `reason` are what must come of it; `read` is where more is written."""

    name: str
    guarantee: str
    deed: str
    reason: Reason
    read: str
    perform: Callable[[Stage], Awaitable[Verdict]]
    expected: Outcome = Outcome.REFUSED


@dataclass(frozen=True, slots=True)
class Played:
    """An act and what came of it."""

    act: Act
    verdict: Verdict

    @property
    def as_expected(self) -> bool:
        """Tell whether the guarantee held, and by the check that is there for it."""
        return self.verdict.outcome is self.act.expected and self.verdict.reason == self.act.reason.value


def refused(reason: str, detail: str = "") -> Verdict:
    """Return the verdict on an attack that somebody said no to."""
    return Verdict(Outcome.REFUSED, reason, detail)


def recovered(reason: str, detail: str = "") -> Verdict:
    """Return the verdict on an attack that stopped something for as long as it lasted."""
    return Verdict(Outcome.RECOVERED, reason, detail)


def succeeded(detail: str) -> Verdict:
    """Return the verdict on an attack that nobody refused."""
    return Verdict(Outcome.SUCCEEDED, "", detail)
