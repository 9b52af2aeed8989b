"""What the pure core asks its shell to do, in this order."""

from dataclasses import dataclass, field

from schemas.evidence import Endorsements, Evidence, ReferenceValues
from schemas.messages import Millis


@dataclass(frozen=True, slots=True)
class Publish:
    """Send a payload."""

    subject: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Hand every payload of a session's subject to `Core.handle_frame`, from now on."""

    subject: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Stop that."""

    subject: str


@dataclass(frozen=True, slots=True)
class AppraisalRequest:
    """One appraisal, to be made off the event loop; its outcome goes to `Core.handle_appraisal`.

    `policy_hash` is that of the policy that the Reference Values are from: if another one is in force
    when the result comes, it is appraised again.
    """

    session_id: bytes
    request: bytes
    evidence: Evidence = field(repr=False)
    endorsements: Endorsements = field(repr=False)
    reference_values: ReferenceValues = field(repr=False)
    key_binding: bytes
    challenge: bytes
    now: Millis
    policy_hash: bytes


Action = Publish | Subscribe | Unsubscribe | AppraisalRequest
