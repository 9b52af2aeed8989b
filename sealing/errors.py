"""What sealing refuses: always the peer's fault, always before any state changed."""

from schemas.errors import PeerError, Reason


class SealingError(PeerError):
    """A peer's bytes were refused."""


class NotAuthenticError(SealingError):
    """A tag, a signature, or a claim under it does not hold. Says no more than that."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(Reason.NOT_AUTHENTIC, detail)


class SignatureError(SealingError):
    """A signed document's signature does not verify."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(Reason.SIGNATURE_INVALID, detail)


class ReplayedError(SealingError):
    """Its counter was here before, or is too old to know. Cheap, so it is found before the tag is tried."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(Reason.REPLAYED, detail)
