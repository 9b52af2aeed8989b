"""Turns of groups' epochs, with what the audit log says of each. Pure."""

from collections.abc import Mapping

from coordinator.audit import AuditLog
from coordinator.epochs import Epochs, spans
from schemas.messages import Millis
from schemas.policy import Policy

HARD, TIMED = "hard", "timed"  # why the epoch of a group turned, as the audit log says it


class Turning:
    """The epochs of one coordinator, none of which turns without an entry."""

    def __init__(self, epochs: Epochs, audit: AuditLog) -> None:
        self._epochs, self._audit = epochs, audit

    def follow(self, policy: Policy | None, now: Millis) -> None:
        """Keep the groups of a policy from now on, and no others."""
        newest = self._epochs.newest()
        self._epochs.follow(spans(policy), now)
        self._note(newest, TIMED, now)

    def turn(self, now: Millis) -> bool:
        """Turn what is due; tell whether anything was."""
        newest = self._epochs.newest()
        turned = self._epochs.turn(now)
        self._note(newest, TIMED, now)
        return turned

    def hard(self, role: str, now: Millis) -> None:
        """Close the epochs of a role at once: its secret is with somebody who was put out."""
        newest = self._epochs.newest()
        self._epochs.hard_turn(role, now)
        self._note(newest, HARD, now)

    def _note(self, before: Mapping[str, int], cause: str, now: Millis) -> None:
        for group, epoch in sorted(self._epochs.newest().items()):
            if before.get(group) != epoch:
                self._audit.append("turned", now=now, group=group, epoch=epoch, cause=cause)
