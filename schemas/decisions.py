"""What a policy permits, as the set of all its decisions: who may do what with what, where, how much.

Pure. Deny is the default, so the set is all that there is; every other decision is no.
"""

from typing import NamedTuple

from schemas.documents import Constraints
from schemas.policy import Policy


class Decision(NamedTuple):
    """The question: may `role` do `action` ("submit", "call" or "send") with `what`?"""

    role: str
    action: str
    what: str

    def __str__(self) -> str:
        if self.action == "submit":
            return f"{self.role} may submit {self.what} tasks"
        if self.action == "call":
            return f"{self.role} may call the tool {self.what}"
        return f"{self.role} may send {self.what} messages"


class Permitted(NamedTuple):
    """The answer yes: the role at which it arrives, and what narrows it."""

    audience: str
    constraints: Constraints

    def __str__(self) -> str:
        within = []
        if self.constraints.max_bytes is not None:
            within.append(f"at most {self.constraints.max_bytes} bytes")
        if self.constraints.per_minute is not None:
            within.append(f"at most {self.constraints.per_minute} a minute")
        return f"at {self.audience}" + "".join(f", {each}" for each in within)


def permitted(policy: Policy) -> dict[Decision, Permitted]:
    """Return every decision that a policy answers with yes."""
    return {
        Decision(rule.role, rule.may, rule.what): Permitted(policy.target(rule), policy.constraints(rule))
        for rule in policy.rules
    }
