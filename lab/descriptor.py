"""What a simulated machine says to its child over descriptor 3.

Frames both ways are a length (u32, big-endian) and one deterministic CBOR array:
`["evidence", key_binding 64, challenge 32]` -> `["evidence", type, value, endorsements]`;
`["host"]` -> `["host", {text: text}]`, settings that nothing measures; else `["error", code]`.

Pure: bytes in, bytes out. `attestation.attesters.attester.DescriptorAttester` is the other end.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.codec import decode_any, encode
from schemas.errors import MalformedError, Reason
from schemas.evidence import Endorsements, Evidence

LENGTH = struct.Struct(">I")
MAX_REQUEST = 1024  # the longest genuine request has 112 bytes
KEY_BINDING_SIZE = 64
CHALLENGE_SIZE = 32


@dataclass(frozen=True)
class EvidenceRequest:
    """The child asks for Evidence over these."""

    key_binding: bytes
    challenge: bytes


@dataclass(frozen=True)
class HostRequest:
    """The child asks for the host's settings."""


def read_request(body: bytes) -> EvidenceRequest | HostRequest:
    """Read a request, or raise `MalformedError`."""
    match decode_any(body, "request"):
        case ["evidence", bytes() as key_binding, bytes() as challenge] if (
            len(key_binding) == KEY_BINDING_SIZE and len(challenge) == CHALLENGE_SIZE
        ):
            return EvidenceRequest(key_binding, challenge)
        case ["host"]:
            return HostRequest()
        case _:
            raise MalformedError("not a request to a machine")


def write_evidence(evidence: Evidence, endorsements: Endorsements) -> bytes:
    """Frame the answer to an `EvidenceRequest`."""
    return _frame(["evidence", evidence.type, evidence.value, endorsements])


def write_host(settings: Mapping[str, str]) -> bytes:
    """Frame the answer to a `HostRequest`."""
    return _frame(["host", dict(settings)])


def write_error(reason: Reason) -> bytes:
    """Frame a refusal."""
    return _frame(["error", reason.value])


def _frame(body: list[object]) -> bytes:
    data = encode(body)
    return LENGTH.pack(len(data)) + data
