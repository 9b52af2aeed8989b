"""What the coordinator refuses."""

from schemas.errors import PeerError


class RefusedError(PeerError):
    """A party asked for something that it may not have, or that cannot be had now; `reason` says why."""
