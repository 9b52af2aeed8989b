"""What the people who write agents catch."""

from schemas.errors import PeerError, Reason, UsageError

# How a process ends that was refused for good: EX_NOPERM of sysexits.h, with which nothing ends by itself
# as interpreters and shells do with 1.
EXIT_REFUSED = 77


class RefusedError(PeerError):
    """Something that was asked for is not permitted, or not possible now; `reason` says why."""


class TaskFailedError(PeerError):
    """A task ended without a result: refused, failed in its handler, expired, or undeliverable."""


class CallFailedError(PeerError):
    """A tool call ended without a value, or nobody was there to take a message."""


class HandBackError(PeerError):
    """This instance cannot take the task now; another, or it later, can. Not a failure of the task."""


__all__ = [
    "EXIT_REFUSED",
    "CallFailedError",
    "HandBackError",
    "Reason",
    "RefusedError",
    "TaskFailedError",
    "UsageError",
]
