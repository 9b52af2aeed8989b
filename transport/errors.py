"""Why bytes did not travel: one class for each thing a caller can do about it."""

from schemas.errors import SealbusError


class TransportError(SealbusError):
    """The root of what a transport raises; a wrong call is a `UsageError` instead."""


class UnavailableError(TransportError):
    """The broker, the stream or the key cannot be reached now: try again later, or give up by a deadline."""


class FullError(UnavailableError):
    """The stream or the outage buffer is at its limit: slow down."""


class TooLargeError(TransportError):
    """The payload is above `max_payload`: send less at once."""


class NotPermittedError(TransportError):
    """The broker refuses this party: mend its account."""


class ConflictError(TransportError):
    """Somebody else was first: another revision, another configuration, another consumer."""


class ClosedError(TransportError):
    """The transport or the consumer was closed here."""
