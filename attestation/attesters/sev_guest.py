"""Evidence from `/dev/sev-guest`, the device of a SEV-SNP guest (linux/sev-guest.h).

A failed request can cost the guest its key to the firmware (VMPCK) until it is restarted. So only what the
interface names as worth asking again is asked again, and that a few times.
"""

import errno
import os
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attestation.attesters.asked import check_answer, check_question
from attestation.attesters.blocking import DEADLINE, OneAtATime
from attestation.attesters.ioctl import Ioctl, Memory, iowr, kernel_ioctl, opened
from attestation.errors import AttesterError, EvidenceMalformedError
from attestation.sev_snp import MEDIA_TYPE
from attestation.sev_snp.parse import REPORT_SIZE
from attestation.sev_snp.table import read_table
from schemas.errors import Reason
from schemas.evidence import Endorsements, Evidence

DEVICE = Path("/dev/sev-guest")

GUEST_REQUEST = struct.Struct("<B7xQQQ")  # struct snp_guest_request_ioctl: msg_version, req, resp, exitinfo2
REPORT_REQUEST = struct.Struct("<64sI28x")  # struct snp_report_req: user_data, vmpl
EXTENDED_REQUEST = struct.Struct("<64sI28xQI4x")  # struct snp_ext_report_req: with certs_address, certs_len
RESPONSE_SIZE = 4000  # struct snp_report_resp
RESPONSE_HEADER = struct.Struct("<II24x")  # MSG_REPORT_RSP: status, report_size

SNP_GET_REPORT = iowr(ord("S"), 0, GUEST_REQUEST.size)
SNP_GET_EXT_REPORT = iowr(ord("S"), 2, GUEST_REQUEST.size)
MESSAGE_VERSION = 1

PAGE = 4096
FIRST_CERTIFICATES = 2 * PAGE  # three certificates in DER are 5 KiB
MAX_CERTIFICATES = 4 * PAGE  # SEV_FW_BLOB_MAX_SIZE: the driver refuses more
GROWTHS = 3

NO_FIRMWARE_CALL = 0xFF  # what the driver puts in before it calls
VMM_INVALID_LENGTH, VMM_BUSY = 1, 2
FIRMWARE_INVALID_PARAMETER, FIRMWARE_INVALID_KEY = 0x16, 0x27

BUSY_TRIES = 5
BUSY_PAUSE = 2.0  # seconds: hosts let one report pass in two
_WORTH_WAITING = (errno.EAGAIN, errno.EBUSY, errno.EIO)


class FirmwareError(AttesterError):
    """The security processor refused; `code` is its status (SEV-SNP firmware ABI, status codes)."""

    def __init__(self, code: int) -> None:
        bad_argument = code == FIRMWARE_INVALID_PARAMETER
        reason = Reason.ARGUMENTS_INVALID if bad_argument else Reason.UNAVAILABLE
        meaning = {
            FIRMWARE_INVALID_PARAMETER: ": a parameter, perhaps a VMPL above the guest's own",
            FIRMWARE_INVALID_KEY: ": the key for messages, so restart the guest",
        }.get(code, "")
        super().__init__(reason, f"the firmware refused with status {code:#x}{meaning}")
        self.code = code


class HypervisorError(AttesterError):
    """The hypervisor refused or throttled; `code` is its own (GHCB specification, SNP guest request)."""

    def __init__(self, code: int) -> None:
        busy = code == VMM_BUSY
        meaning = "throttles reports: ask less often" if busy else f"refused with code {code}"
        super().__init__(Reason.UNAVAILABLE, f"the hypervisor {meaning}")
        self.code = code


class SevGuestAttester:
    """The attester of a SEV-SNP guest by ioctl, with the certificates that its host offers."""

    def __init__(
        self,
        path: Path = DEVICE,
        *,
        ioctl: Ioctl = kernel_ioctl,
        vmpl: int = 0,
        certificates: bool = True,
        pause: Callable[[float], None] = time.sleep,
        deadline: float = DEADLINE,
    ) -> None:
        """`vmpl` is the privilege level to state, 0 to 3; without `certificates` the host isn't asked any."""
        self._path = path
        self._ioctl = ioctl
        self._vmpl = vmpl
        self._certificates = certificates
        self._pause = pause
        self._device = OneAtATime(deadline)

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        """Obtain a report over `key_binding`, or raise `AttesterError`; it has no room for a challenge."""
        check_question(key_binding, challenge)
        report, table = await self._device.run(partial(self._ask, key_binding))
        try:
            endorsements = read_table(table)
        except EvidenceMalformedError as error:
            raise AttesterError(error.reason, f"the host's certificates: {error.detail}") from error
        evidence = Evidence(MEDIA_TYPE, report)
        check_answer(evidence, endorsements, key_binding=key_binding, challenge=challenge)
        return evidence, endorsements

    def _ask(self, report_data: bytes) -> tuple[bytes, bytes]:
        with opened(self._path) as descriptor:
            if self._certificates:
                return self._extended(descriptor, report_data)
            request = Memory(REPORT_REQUEST.pack(report_data, self._vmpl))
            return self._call(descriptor, SNP_GET_REPORT, request), b""

    def _extended(self, descriptor: int, report_data: bytes) -> tuple[bytes, bytes]:
        size = FIRST_CERTIFICATES
        for _ in range(GROWTHS):
            table = Memory(bytes(size))
            request = Memory(EXTENDED_REQUEST.pack(report_data, self._vmpl, table.address, size))
            try:
                report = self._call(descriptor, SNP_GET_EXT_REPORT, request)
            except HypervisorError as error:
                if error.code != VMM_INVALID_LENGTH:
                    raise
                *_, wanted = EXTENDED_REQUEST.unpack(request.read())
                if not size < wanted <= MAX_CERTIFICATES or wanted % PAGE:
                    raise AttesterError(
                        Reason.TOO_LARGE, "the host wants an impossible room for its certificates"
                    ) from error
                size = wanted
            else:
                return report, table.read()
        raise AttesterError(Reason.TOO_LARGE, "the host's certificates grow faster than room is made")

    def _call(self, descriptor: int, number: int, request: Memory) -> bytes:
        tries = 1
        while True:
            response = Memory(bytes(RESPONSE_SIZE))
            call = Memory(GUEST_REQUEST.pack(MESSAGE_VERSION, request.address, response.address, 0))
            try:
                self._ioctl(descriptor, number, call.address)
            except OSError as error:
                *_, exit_information = GUEST_REQUEST.unpack(call.read())
                refusal = _refusal(error, exit_information)
                throttled = isinstance(refusal, HypervisorError) and refusal.code == VMM_BUSY
                # After its own minute of waiting the driver has given the key up: asking again is in vain.
                if not throttled or error.errno not in _WORTH_WAITING or tries == BUSY_TRIES:
                    raise refusal from error
                tries += 1
                self._pause(BUSY_PAUSE)
            else:
                return _report(response.read())


def _refusal(error: OSError, exit_information: int) -> AttesterError:
    firmware, hypervisor = exit_information & 0xFFFFFFFF, exit_information >> 32
    if hypervisor:
        return HypervisorError(hypervisor)
    if firmware not in (0, NO_FIRMWARE_CALL):
        return FirmwareError(firmware)
    if error.errno == errno.ENOTTY:
        detail = "the guest has lost its key for messages (VMPCK), or this is no sev-guest: restart the guest"
    else:
        detail = f"the sev-guest driver refused: {os.strerror(error.errno or 0)}"
    return AttesterError(Reason.UNAVAILABLE, detail)


def _report(response: bytes) -> bytes:
    status, size = RESPONSE_HEADER.unpack_from(response)
    if status:
        raise FirmwareError(status)
    if size != REPORT_SIZE:
        raise AttesterError(Reason.MALFORMED, "the firmware's report is not of its size")
    return response[RESPONSE_HEADER.size : RESPONSE_HEADER.size + size]
