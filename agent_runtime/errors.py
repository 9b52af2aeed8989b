"""What the people who write agents catch."""

from schemas.errors import PeerError, Reason, UsageError


class RefusedError(PeerError):
    """Something that was asked for is not permitted, or not possible now; `reason` says why."""


class TaskFailedError(PeerError):
    """A task ended without a result: refused, failed in its handler, expired, or undeliverable."""


class CallFailedError(PeerError):
    """A tool call ended without a value."""


class HandBackError(PeerError):
    """This instance cannot take the task now; another, or it later, can. Not a failure of the task."""


__all__ = ["CallFailedError", "HandBackError", "Reason", "RefusedError", "TaskFailedError", "UsageError"]
