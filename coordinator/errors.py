"""What the coordinator refuses."""

from schemas.errors import PeerError, Reason


class RefusedError(PeerError):
    """A party asked for something that it may not have, or that cannot be had now; `reason` says why."""


class ForkError(RefusedError):
    """The operators signed two policies of one version; both hashes are in the text."""

    def __init__(self, version: int, held: bytes, other: bytes) -> None:
        super().__init__(
            Reason.FORKED, f"two policies of version {version} are signed: {held.hex()} and {other.hex()}"
        )
        self.version, self.held, self.other = version, held, other
