"""The three ways evidence fails, in the order in which it is judged: well-formed, genuine, acceptable."""

from attestation.hints import Hint
from schemas.errors import PeerError, Reason


class AttestationError(PeerError):
    """Evidence or its endorsements were refused; `reason` says why, `also` what else was amiss.

    `seen` and `wanted` say what the two sides of the check that failed were, where there are two: numbers,
    times and identifiers of machines, never a key or report data. `hint` tells more, of what only some do.
    """

    also: tuple[Reason, ...] = ()
    seen: str = ""
    wanted: str = ""
    hint: Hint | None = None


class EvidenceMalformedError(AttestationError):
    """The bytes are not the format they claim to be, or a version of it that is not known here."""

    def __init__(
        self, detail: str, reason: Reason = Reason.MALFORMED, *, seen: str = "", wanted: str = ""
    ) -> None:
        super().__init__(reason, detail)
        self.seen, self.wanted = seen, wanted


class UnsupportedPlatformError(EvidenceMalformedError):
    """Evidence of a platform that is not judged here; `platform` names it, where the bytes tell."""

    def __init__(self, detail: str, platform: str = "", *, seen: str = "", wanted: str = "") -> None:
        super().__init__(detail, Reason.UNSUPPORTED_PLATFORM, seen=seen, wanted=wanted)
        self.platform = platform


class NotGenuineError(AttestationError):
    """No vendor's chain vouches for these bytes at this time; policy was not asked."""

    def __init__(self, reason: Reason, detail: str = "", *, seen: str = "", wanted: str = "") -> None:
        super().__init__(reason, detail)
        self.seen, self.wanted = seen, wanted


class NotAcceptableError(AttestationError):
    """Genuine evidence of something that the Reference Values do not name."""

    def __init__(self, reason: Reason, detail: str = "", also: tuple[Reason, ...] = ()) -> None:
        super().__init__(reason, detail)
        self.also = also


class AttesterError(PeerError):
    """The device that makes Evidence failed or answered nonsense; it belongs to the host, so a peer."""
