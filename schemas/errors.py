"""Every way sealbus says no: two families of errors and the stable reason codes.

`PeerError` is the other side's fault and ends one message; the loop that caught it goes on.
`UsageError` is the caller's fault and should reach a person with its next step.
Texts never hold payloads, keys or bytes chosen by a peer.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused. Kebab-case, stable, one meaning each; programs match on them."""

    # Evidence and endorsements
    MALFORMED = "malformed"
    UNSUPPORTED_PLATFORM = "unsupported-platform"
    UNSUPPORTED_VERSION = "unsupported-version"
    SIGNATURE_INVALID = "signature-invalid"
    CHAIN_INVALID = "chain-invalid"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_YET_VALID = "certificate-not-yet-valid"
    CERTIFICATE_REVOKED = "certificate-revoked"
    ROOT_NOT_IN_POLICY = "root-not-in-policy"
    PLATFORM_NOT_IN_POLICY = "platform-not-in-policy"
    NO_COLLATERAL = "no-collateral"
    NO_VCEK = "no-vcek"
    NO_VLEK = "no-vlek"
    NO_ASK = "no-ask"
    NO_ARK = "no-ark"
    NO_REVOCATION_LIST = "no-revocation-list"
    NO_TCB_INFO = "no-tcb-info"
    NO_TCB_INFO_CHAIN = "no-tcb-info-chain"
    NO_QE_IDENTITY = "no-qe-identity"
    NO_QE_IDENTITY_CHAIN = "no-qe-identity-chain"
    NO_PCK_CRL = "no-pck-crl"
    NO_PCK_CRL_CHAIN = "no-pck-crl-chain"
    NO_ROOT_CA_CRL = "no-root-ca-crl"
    COLLATERAL_EXPIRED = "collateral-expired"
    COLLATERAL_TOO_OLD = "collateral-too-old"
    COLLATERAL_MISMATCH = "collateral-mismatch"
    TCB_MISMATCH = "tcb-mismatch"
    TCB_NOT_RECOGNIZED = "tcb-not-recognized"
    TCB_REVOKED = "tcb-revoked"
    TCB_STATUS_NOT_ACCEPTED = "tcb-status-not-accepted"
    ADVISORY_NOT_ACCEPTED = "advisory-not-accepted"
    TCB_STATUS_TOLERATED = "tcb-status-tolerated"
    ADVISORY_TOLERATED = "advisory-tolerated"
    TCB_NOT_ACCEPTED = "tcb-not-accepted"
    CHIP_MISMATCH = "chip-mismatch"
    PRODUCT_NOT_IN_POLICY = "product-not-in-policy"
    CHIP_NOT_IN_POLICY = "chip-not-in-policy"
    KEY_NOT_IN_POLICY = "key-not-in-policy"
    CLOUD_NOT_IN_POLICY = "cloud-not-in-policy"
    KEY_BINDING_MISMATCH = "key-binding-mismatch"
    CHALLENGE_UNKNOWN = "challenge-unknown"
    MEASUREMENT_NOT_IN_POLICY = "measurement-not-in-policy"
    PUBLISHER_NOT_IN_POLICY = "publisher-not-in-policy"
    SVN_TOO_LOW = "svn-too-low"
    MEASUREMENT_NOT_PINNED = "measurement-not-pinned"
    DEBUG_ENABLED = "debug-enabled"
    MIGRATABLE = "migratable"
    SERVICE_TD = "service-td"
    NOT_STATED = "not-stated"
    RUNTIME_UNMEASURED = "runtime-unmeasured"
    SEPT_VE_ENABLED = "sept-ve-enabled"
    ATTRIBUTE_UNKNOWN = "attribute-unknown"
    FEATURE_ABSENT = "feature-absent"
    PRIVILEGE_LEVEL = "privilege-level"
    EVIDENCE_TOO_OLD = "evidence-too-old"

    # Signed documents
    SIGNATURES_TOO_FEW = "signatures-too-few"
    VERSION_NOT_NEWER = "version-not-newer"
    PREDECESSOR_MISMATCH = "predecessor-mismatch"
    FORKED = "forked"
    VERSION_GAP = "version-gap"
    REVOCATIONS_MISSING = "revocations-missing"
    FORMER_OPERATOR = "former-operator"
    KEY_NOT_PROVEN = "key-not-proven"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    WRONG_MESH = "wrong-mesh"

    # Admission, sessions, frames
    NOT_AUTHENTIC = "not-authentic"
    REPLAYED = "replayed"
    TOO_LARGE = "too-large"
    UNSUPPORTED_SUITE = "unsupported-suite"
    SESSION_UNKNOWN = "session-unknown"
    TOO_MANY_HALF_OPEN = "too-many-half-open"
    ROLE_NOT_PERMITTED = "role-not-permitted"
    CLIENT_NOT_IN_POLICY = "client-not-in-policy"
    INSTANCE_REVOKED = "instance-revoked"
    INSTANCE_UNKNOWN = "instance-unknown"
    QUARANTINED = "quarantined"
    STATE_ROLLED_BACK = "state-rolled-back"
    TERM_NOT_ACCEPTED = "term-not-accepted"
    EQUIVOCATION = "equivocation"
    NOT_LIVE = "not-live"

    # The gate, tasks, tools
    NO_GRANT = "no-grant"
    DENIED_BY_RULE = "denied-by-rule"
    CONSTRAINT_VIOLATED = "constraint-violated"
    EPOCH_CLOSED = "epoch-closed"
    EPOCH_UNKNOWN = "epoch-unknown"
    DEADLINE_PASSED = "deadline-passed"
    SEEN_SET_FULL = "seen-set-full"
    UNDELIVERABLE = "undeliverable"
    LEASE_REFUSED = "lease-refused"
    HANDLER_FAILED = "handler-failed"
    NO_HANDLER = "no-handler"
    ARGUMENTS_INVALID = "arguments-invalid"
    UNAVAILABLE = "unavailable"


class SealbusError(Exception):
    """The root of every error that sealbus raises on purpose."""


class UsageError(SealbusError):
    """The caller can mend it; the text says how."""


class PeerError(SealbusError):
    """The other side sent something that must be refused; `reason` says why."""

    reason: Reason

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


class MalformedError(PeerError):
    """The bytes are not what they claim to be."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.MALFORMED, detail)
