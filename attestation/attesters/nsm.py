"""Evidence from `/dev/nsm`, the Nitro Security Module of an enclave.

Its specifications are linux/nsm.h and aws-nitro-enclaves-nsm-api.
"""

import os
import struct
from functools import partial
from pathlib import Path

import cbor2

from attestation.attesters.asked import check_answer, check_question
from attestation.attesters.blocking import OneAtATime
from attestation.attesters.ioctl import Ioctl, Memory, iowr, kernel_ioctl, opened
from attestation.errors import AttesterError, EvidenceMalformedError
from attestation.nitro import MEDIA_TYPE, cbor
from schemas.errors import Reason
from schemas.evidence import Endorsements, Evidence

DEVICE = Path("/dev/nsm")

RAW = struct.Struct("<QQQQ")  # struct nsm_raw: address and length of request and response
NSM_IOCTL_RAW = iowr(0x0A, 0, RAW.size)
MAX_REQUEST = 0x1000  # NSM_REQUEST_MAX_SIZE
MAX_RESPONSE = 0x3000  # NSM_RESPONSE_MAX_SIZE; into less room an answer is cut without a word
DEADLINE = 125.0  # seconds; the driver gives up after 120

# ErrorCode of the API: what the module may refuse with.
ERROR_CODES = {
    "InvalidArgument": Reason.ARGUMENTS_INVALID,
    "InvalidIndex": Reason.ARGUMENTS_INVALID,
    "InvalidResponse": Reason.MALFORMED,
    "ReadOnlyIndex": Reason.ARGUMENTS_INVALID,
    "InvalidOperation": Reason.UNAVAILABLE,
    "BufferTooSmall": Reason.TOO_LARGE,
    "InputTooLarge": Reason.TOO_LARGE,
    "InternalError": Reason.UNAVAILABLE,
}


class NsmAttester:
    """The attester of a Nitro enclave; a document carries its own chain, so there are no Endorsements."""

    def __init__(
        self, path: Path = DEVICE, *, ioctl: Ioctl = kernel_ioctl, deadline: float = DEADLINE
    ) -> None:
        self._path = path
        self._ioctl = ioctl
        self._device = OneAtATime(deadline)

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        """Obtain a document over both, or raise `AttesterError`."""
        check_question(key_binding, challenge)
        response = await self._device.run(partial(self._ask, request_attestation(key_binding, challenge)))
        evidence = Evidence(MEDIA_TYPE, read_attestation(response))
        check_answer(evidence, {}, key_binding=key_binding, challenge=challenge)
        return evidence, {}

    def _ask(self, body: bytes) -> bytes:
        request, response = Memory(body), Memory(bytes(MAX_RESPONSE))
        raw = Memory(RAW.pack(request.address, request.size, response.address, response.size))
        with opened(self._path) as descriptor:
            try:
                self._ioctl(descriptor, NSM_IOCTL_RAW, raw.address)
            except OSError as error:
                detail = f"the security module's driver refused: {os.strerror(error.errno or 0)}"
                raise AttesterError(Reason.UNAVAILABLE, detail) from error
        *_, length = RAW.unpack(raw.read())
        if length > MAX_RESPONSE:
            raise AttesterError(Reason.TOO_LARGE, "the security module's answer is longer than its room")
        return response.read()[:length]


def request_attestation(user_data: bytes, nonce: bytes) -> bytes:
    """Return the request in CBOR, byte for byte as AWS's own library writes it."""
    fields = {"user_data": user_data, "nonce": nonce, "public_key": None}
    return cbor2.dumps({"Attestation": fields})


def read_attestation(response: bytes) -> bytes:
    """Return the document in a response, or raise `AttesterError`."""
    try:
        answer = cbor.read(response)
    except EvidenceMalformedError as error:
        raise AttesterError(error.reason, "the security module's answer is not CBOR") from error
    match answer:
        case {"Attestation": {"document": bytes() as document}} if document:
            return document
        case {"Error": str() as code} if code in ERROR_CODES:
            raise AttesterError(ERROR_CODES[code], f"the security module refused: {code}")
    raise AttesterError(Reason.MALFORMED, "the security module answered something else")
