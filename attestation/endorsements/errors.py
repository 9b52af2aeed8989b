"""How endorsement services fail: out of reach, without the document, or with another one than asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

from attestation.errors import AttestationError
from attestation.hints import Hint
from schemas.errors import PeerError, Reason


class EndorsementError(PeerError):
    """A service did not give the document it was asked for; nothing was cached.

    `hint` tells more, of what only some do.
    """

    hint: Hint | None = None


class ServiceUnavailableError(EndorsementError):
    """The service could not be reached, throttled too long, or broke off. Later it may answer."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.UNAVAILABLE, detail)


class NoSuchDocumentError(EndorsementError):
    """The service answered that it has no such document; asking again will not help."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.NO_COLLATERAL, detail)


class WrongDocumentError(EndorsementError):
    """What came is damaged, expired, or of another chip, TCB, platform or issuer than was asked for."""


@contextmanager
def judged(what: str) -> Iterator[None]:
    """Turn what a parser or verifier says of a fetched document into a `WrongDocumentError`."""
    try:
        yield
    except AttestationError as error:
        wrong = WrongDocumentError(error.reason, f"{what}: {error.seen or error.detail}")
        wrong.hint = error.hint
        raise wrong from error
