"""Break-glass: a right that the operators give for some hours, with a reason, outside the policy.

Pure. It only ever adds one rule, names what the policy in force names, and ends by itself.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from coordinator.audit import AuditLog
from coordinator.errors import RefusedError
from coordinator.ledger import Ledger
from schemas.decisions import check_addition
from schemas.documents import BreakGlass
from schemas.errors import Reason, UsageError
from schemas.limits import MINUTE, SECOND
from schemas.messages import BREAK_GLASS, Event, Millis
from schemas.policy import Policy
from schemas.rules import Rule

STANDING_MOST = 16  # at once: what needs more is a policy
MOST: Millis = 24 * 60 * MINUTE  # longer than that is a policy
AHEAD = 5 * MINUTE  # by how much operators' clocks may be ahead: none is signed in store


class Glass:
    """What is broken at present, in one term: told in the log and to everyone who holds the revoked set."""

    def __init__(self, audit: AuditLog, ledger: Ledger) -> None:
        self._audit, self._ledger = audit, ledger
        self._open: dict[BreakGlass, tuple[int, Event]] = {}

    def repeated(self, glass: BreakGlass) -> int | None:
        """Return where in the log this very document stands, if what it gives is in force."""
        return self._open[glass][0] if glass in self._open else None

    def judge(self, glass: BreakGlass, policy: Policy | None, *, term: int, now: Millis) -> None:
        """Raise what stands against a document.

        1. Of this term, and for a reason that somebody wrote down.
        2. For a time that has begun, is not over, and is no longer than a day.
        3. Of what the policy in force names, and does not say already.
        """
        # 1.
        if glass.term != term or policy is None:
            raise RefusedError(Reason.TERM_NOT_ACCEPTED, "break-glass of another term, or without a policy")
        if not glass.reason.strip():
            raise RefusedError(Reason.CONSTRAINT_VIOLATED, "break-glass without a reason")
        # 2.
        if glass.time > now + AHEAD:
            raise RefusedError(Reason.NOT_YET_VALID, "break-glass of a time to come")
        if _end(glass) * SECOND <= now:
            # Grants end with a second: within this one nothing would be given, and everybody told of it.
            raise RefusedError(Reason.EXPIRED, "break-glass that has ended, or ends within this second")
        if glass.until <= glass.time or glass.until - min(glass.time, now) > MOST:
            raise RefusedError(Reason.CONSTRAINT_VIOLATED, "break-glass for more than a day, or for no time")
        # 3.
        if len(self._open) >= STANDING_MOST:
            raise RefusedError(Reason.TOO_LARGE, f"{STANDING_MOST} stand already: sign a policy")
        if not _adds(policy, glass):
            raise RefusedError(
                Reason.CONSTRAINT_VIOLATED, "the policy names no such right to give, or has it"
            )

    def enter(self, glass: BreakGlass, event: Event, digest: bytes, *, now: Millis, grace: Millis) -> int:
        """Have a document that was judged in force; return its entry in the log. `digest` is its event's."""
        index = self._audit.append(
            "glass-broken",
            now=now,
            event=digest.hex(),
            right=_right(glass),
            until=glass.until,
            reason=glass.reason,
        )
        self._open[glass] = index, event
        self._ledger.announce(BREAK_GLASS, notice(glass), now=now, until=glass.until + grace)
        return index

    def follow(self, policy: Policy, *, now: Millis, grace: Millis) -> None:
        """Have everybody told of what a new policy leaves of what is open, and of nothing else."""
        told = set(self.notices(policy))
        for glass in self._open:
            text = notice(glass)
            if text in told:
                self._ledger.announce(BREAK_GLASS, text, now=now, until=glass.until + grace)
            else:
                self._ledger.withdraw(BREAK_GLASS, text)

    def events(self, policy: Policy | None) -> list[Event]:
        """Return what is in force beside a policy, as it was signed, in the order in which it came."""
        return [event for glass, (_, event) in self._open.items() if policy and _adds(policy, glass)]

    def mend(self, now: Millis) -> bool:
        """Take out what is over, and tell whether anything was."""
        over = [glass for glass in self._open if glass.until <= now]
        for glass in over:
            del self._open[glass]
            self._audit.append("glass-ended", now=now, right=_right(glass), until=glass.until)
        return bool(over)

    def rules(self, policy: Policy | None) -> tuple[Rule, ...]:
        """Return what is added to a policy: of what an older one named, only what this one names too."""
        if policy is None:
            return ()
        return _rules(glass for glass in self._open if _adds(policy, glass))

    def preview(self, glass: BreakGlass, policy: Policy | None) -> tuple[Rule, ...]:
        """Return what would be added to a policy if a document that was judged were in force too."""
        return _rules([*(each for each in self._open if policy and _adds(policy, each)), glass])

    def notices(self, policy: Policy | None) -> tuple[str, ...]:
        """Say in words what is in force beside a policy."""
        return tuple(sorted(notice(each) for each in self._open if policy and _adds(policy, each)))


def notice(glass: BreakGlass) -> str:
    """Say in words what a document gives, until when, and why; of at most 256 characters."""
    until = datetime.fromtimestamp(glass.until / SECOND, UTC).isoformat(timespec="seconds")
    return f"{glass.role} may {glass.may} {glass.what} until {until}: {glass.reason}"[:256]


def _right(glass: BreakGlass) -> str:
    return f"{glass.role} {glass.may} {glass.what}"


def _rule(glass: BreakGlass) -> Rule:
    # Its end is in the grant too: what waits for its turn is asked about by the grant that let it pass.
    until = datetime.fromtimestamp(_end(glass), UTC)
    return Rule(role=glass.role, may=glass.may, what=glass.what, until=until)


def _end(glass: BreakGlass) -> int:
    return glass.until // SECOND


def _rules(opened: Iterable[BreakGlass]) -> tuple[Rule, ...]:
    """Return a rule for each right that is given, to the last of its ends."""
    last: dict[str, BreakGlass] = {}
    for glass in opened:
        right = _right(glass)
        last[right] = max(last.get(right, glass), glass, key=lambda each: each.until)
    return tuple(_rule(glass) for glass in last.values())


def _adds(policy: Policy, glass: BreakGlass) -> bool:
    try:
        check_addition(policy, _rule(glass))
    except UsageError:
        return False
    return True
