"""/dev/sev-guest, byte for byte: what goes to the driver, and what becomes of each of its answers."""

import ctypes
import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from attestation import AttesterError, sev_snp
from attestation.attesters.sev_guest import (
    BUSY_TRIES,
    SNP_GET_EXT_REPORT,
    SNP_GET_REPORT,
    FirmwareError,
    HypervisorError,
    SevGuestAttester,
)
from lab.simulate.sev_snp import SevSnpChip
from schemas.errors import Reason, UsageError
from tests.attestation.tables import table_of

VECTORS = Path(
    os.environ.get("SEALBUS_EVIDENCE", Path(__file__).resolve().parents[3] / "shared" / "evidence")
)
KEY_BINDING = bytes(range(64))
CHALLENGE = bytes(32)
MEASUREMENTS = {"measurement": b"\x11" * 48, "host_data": b"\x22" * 32}
OTHERS = b"\xee" * 64
VMM = 1 << 32


def number_at(address: int, size: int) -> int:
    return int.from_bytes(ctypes.string_at(address, size), "little")


@dataclass
class Driver:
    """The kernel's end of the ioctl: plays the driver of linux/sev-guest.h in the caller's memory."""

    report: Callable[[bytes], bytes]
    table: bytes = b""
    failures: list[tuple[int, int]] = field(default_factory=list)  # errno and exitinfo2, one for each call
    status: int = 0
    size: int | None = None
    wants: list[int] = field(default_factory=list)  # rooms for certificates that it asks for
    calls: list[int] = field(default_factory=list)
    rooms: list[int] = field(default_factory=list)
    vmpl: int | None = None

    def __call__(self, descriptor: int, request: int, address: int) -> None:
        os.fstat(descriptor)
        self.calls.append(request)
        # struct snp_guest_request_ioctl: msg_version @0, req_data @8, resp_data @16, exitinfo2 @24.
        assert ctypes.string_at(address, 8) == b"\x01" + bytes(7)
        asked, answer = number_at(address + 8, 8), number_at(address + 16, 8)
        self._exit(address, 0xFF)
        if self.failures:
            number, exit_information = self.failures.pop(0)
            self._fail(address, number, exit_information)
        user_data = ctypes.string_at(asked, 64)
        self.vmpl = number_at(asked + 64, 4)
        assert ctypes.string_at(asked + 68, 28) == bytes(28), "reserved"
        if request == SNP_GET_EXT_REPORT:
            self._certificates(address, asked)
        report = self.report(user_data)
        size = len(report) if self.size is None else self.size
        header = self.status.to_bytes(4, "little") + size.to_bytes(4, "little") + bytes(24)
        ctypes.memmove(answer, (header + report)[:4000].ljust(4000, b"\0"), 4000)
        self._exit(address, 0)

    def _certificates(self, address: int, asked: int) -> None:
        place, room = number_at(asked + 96, 8), number_at(asked + 104, 4)
        assert ctypes.string_at(asked + 108, 4) == bytes(4), "padding"
        assert room % 4096 == 0
        assert 0 < room <= 16384, "SEV_FW_BLOB_MAX_SIZE"
        self.rooms.append(room)
        wanted = self.wants.pop(0) if self.wants else -(-len(self.table) // 4096) * 4096
        if wanted > room or self.wants:
            ctypes.memmove(asked + 104, wanted.to_bytes(4, "little"), 4)
            self._fail(address, errno.EIO, 1 * VMM)
        ctypes.memmove(place, self.table, len(self.table))

    def _exit(self, address: int, value: int) -> None:
        ctypes.memmove(address + 24, value.to_bytes(8, "little"), 8)

    def _fail(self, address: int, number: int, exit_information: int) -> None:
        self._exit(address, exit_information)
        raise OSError(number, os.strerror(number))


@pytest.fixture
def driver(chip: SevSnpChip) -> Driver:
    return Driver(lambda data: chip.sign(chip.body(MEASUREMENTS, data)))


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "sev-guest"
    path.touch()
    return path


async def ask(driver: Driver, device: Path, **how: Any) -> Any:
    pauses: list[float] = []
    attester = SevGuestAttester(device, ioctl=driver, pause=pauses.append, **how)
    evidence, endorsements = await attester.evidence(KEY_BINDING, CHALLENGE)
    return evidence, endorsements, pauses


async def refused(driver: Driver, device: Path, **how: Any) -> AttesterError:
    with pytest.raises(AttesterError) as refusal:
        await ask(driver, device, **how)
    return refusal.value


@pytest.mark.anyio
async def test_a_report_comes_with_its_hosts_certificates(
    driver: Driver, device: Path, chip: SevSnpChip
) -> None:
    certificates = {name: chip.endorsements[name] for name in ("vcek.der", "ask.der", "ark.der")}
    driver.table = table_of(certificates)
    evidence, endorsements, pauses = await ask(driver, device)
    assert evidence.type == sev_snp.MEDIA_TYPE
    assert sev_snp.parse(evidence.value).report_data == KEY_BINDING
    assert endorsements == certificates
    assert driver.calls == [SNP_GET_EXT_REPORT]
    assert driver.vmpl == 0
    assert pauses == []


@pytest.mark.anyio
async def test_a_host_without_certificates_still_gives_a_report(driver: Driver, device: Path) -> None:
    _, endorsements, _ = await ask(driver, device)
    assert endorsements == {}


@pytest.mark.anyio
async def test_a_host_that_is_not_asked_for_certificates_gets_the_plain_request(
    driver: Driver, device: Path
) -> None:
    evidence, endorsements, _ = await ask(driver, device, certificates=False, vmpl=2)
    assert sev_snp.parse(evidence.value).report_data == KEY_BINDING
    assert endorsements == {}
    assert driver.calls == [SNP_GET_REPORT]
    assert driver.vmpl == 2


@pytest.mark.anyio
async def test_room_for_certificates_grows_to_what_the_host_wants(
    driver: Driver, device: Path, chip: SevSnpChip
) -> None:
    padding = {"ecae0c0f-9502-43b1-afa2-0ae2e0d565b6": bytes(9000)}
    driver.table = table_of({"vcek.der": chip.endorsements["vcek.der"]}, padding)
    assert len(driver.table) > 8192
    _, endorsements, _ = await ask(driver, device)
    assert endorsements == {"vcek.der": chip.endorsements["vcek.der"]}
    assert driver.rooms == [8192, 12288]


@pytest.mark.anyio
async def test_a_driver_that_says_enospc_is_understood_too(driver: Driver, device: Path) -> None:
    driver.table = bytes(8193)
    original = driver._fail

    def fail(address: int, number: int, exit_information: int) -> None:
        original(address, errno.ENOSPC, exit_information)

    driver._fail = fail  # type: ignore[method-assign]  # one answer of the driver, otherwise the same
    await ask(driver, device)
    assert driver.rooms == [8192, 12288]


@pytest.mark.anyio
@pytest.mark.parametrize("wanted", [0, 8192, 8193, 20480, 0xFFFFF000])
async def test_a_host_that_wants_an_impossible_room_is_refused(
    wanted: int, driver: Driver, device: Path
) -> None:
    driver.wants = [wanted, 0]
    assert (await refused(driver, device)).reason is Reason.TOO_LARGE
    assert driver.rooms == [8192]


@pytest.mark.anyio
async def test_a_host_that_wants_ever_more_is_given_up(driver: Driver, device: Path) -> None:
    driver.wants = [12288, 16384, 20480, 0]
    assert (await refused(driver, device)).reason is Reason.TOO_LARGE
    assert driver.rooms == [8192, 12288, 16384]


@pytest.mark.anyio
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBUSY, errno.EIO])
async def test_a_host_that_throttles_is_asked_again_after_a_pause(
    number: int, driver: Driver, device: Path
) -> None:
    driver.failures = [(number, 2 * VMM)] * (BUSY_TRIES - 1)
    _, _, pauses = await ask(driver, device)
    assert pauses == [2.0] * (BUSY_TRIES - 1)


@pytest.mark.anyio
async def test_a_host_that_throttles_for_long_is_given_up(driver: Driver, device: Path) -> None:
    driver.failures = [(errno.EAGAIN, 2 * VMM)] * BUSY_TRIES
    error = await refused(driver, device)
    assert isinstance(error, HypervisorError)
    assert error.code == 2
    assert len(driver.calls) == BUSY_TRIES


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("failure", "kind", "code", "reason", "says"),
    [
        ((errno.ETIMEDOUT, 2 * VMM), HypervisorError, 2, Reason.UNAVAILABLE, "throttles"),
        ((errno.EIO, 7 * VMM), HypervisorError, 7, Reason.UNAVAILABLE, "code 7"),
        ((errno.EIO, 0x16), FirmwareError, 0x16, Reason.ARGUMENTS_INVALID, "VMPL"),
        ((errno.EIO, 0x27), FirmwareError, 0x27, Reason.UNAVAILABLE, "restart the guest"),
        ((errno.EIO, 0x0B), FirmwareError, 0x0B, Reason.UNAVAILABLE, "0xb"),
        ((errno.ENOTTY, 0xFF), AttesterError, None, Reason.UNAVAILABLE, "VMPCK"),
        ((errno.EINVAL, 0xFF), AttesterError, None, Reason.UNAVAILABLE, "Invalid argument"),
        ((errno.EINTR, 0xFF), AttesterError, None, Reason.UNAVAILABLE, "Interrupted"),
        ((errno.EIO, 0), AttesterError, None, Reason.UNAVAILABLE, "Input/output"),
    ],
)
async def test_each_refusal_is_an_error_of_its_own_and_is_not_asked_again(
    failure: tuple[int, int],
    kind: type[AttesterError],
    code: int | None,
    reason: Reason,
    says: str,
    driver: Driver,
    device: Path,
) -> None:
    driver.failures = [failure]
    error = await refused(driver, device)
    assert type(error) is kind
    assert getattr(error, "code", None) == code
    assert error.reason is reason
    assert says in str(error)
    # Asking again after an error could cost the guest its key.
    assert len(driver.calls) == 1


@pytest.mark.anyio
async def test_a_status_in_the_response_is_the_firmwares_refusal(driver: Driver, device: Path) -> None:
    driver.status = 0x16
    error = await refused(driver, device)
    assert isinstance(error, FirmwareError)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [0, 1183, 1185, 4001, 0xFFFFFFFF])
async def test_a_report_of_another_size_is_refused(size: int, driver: Driver, device: Path) -> None:
    driver.size = size
    assert (await refused(driver, device)).reason is Reason.MALFORMED


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (bytes(1184), Reason.UNSUPPORTED_VERSION),
        (b"\xff" * 1184, Reason.UNSUPPORTED_VERSION),
        (b"\x03" + bytes(1183), Reason.UNSUPPORTED_VERSION),  # of no signature that is known
    ],
)
async def test_a_report_that_is_nonsense_is_refused(
    report: bytes, reason: Reason, driver: Driver, device: Path
) -> None:
    driver.report = lambda _: report
    assert (await refused(driver, device)).reason is reason


@pytest.mark.anyio
async def test_anothers_report_is_refused(driver: Driver, device: Path, chip: SevSnpChip) -> None:
    driver.report = lambda _: chip.sign(chip.body(MEASUREMENTS, OTHERS))
    assert (await refused(driver, device)).reason is Reason.KEY_BINDING_MISMATCH


@pytest.mark.anyio
async def test_a_table_that_is_nonsense_is_refused(driver: Driver, device: Path) -> None:
    driver.table = b"\xff" * 4096
    error = await refused(driver, device)
    assert error.reason is Reason.MALFORMED
    assert "host's certificates" in str(error)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["milan-v2-vcek-virtee", "genoa-v5-vcek-lunal", "turin-v5-vcek-oak-oc"])
async def test_a_real_report_is_handed_on_unchanged(name: str, driver: Driver, device: Path) -> None:
    folder = VECTORS / "sev-snp" / name
    if not folder.exists():
        pytest.skip("no vectors of real evidence: name their folder in SEALBUS_EVIDENCE")
    report = (folder / "report.bin").read_bytes()
    asked = bytes.fromhex(json.loads((folder / "meta.json").read_text())["report_data"])
    driver.report = lambda _: report
    evidence, _ = await SevGuestAttester(device, ioctl=driver).evidence(asked, CHALLENGE)
    assert evidence.value == report


@pytest.mark.anyio
async def test_who_hands_in_no_digest_is_told_before_the_driver_is_asked(
    driver: Driver, device: Path
) -> None:
    with pytest.raises(UsageError):
        await SevGuestAttester(device, ioctl=driver).evidence(bytes(63), CHALLENGE)
    assert driver.calls == []


@pytest.mark.anyio
async def test_certificates_that_are_too_large_together_are_refused(
    driver: Driver, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The driver's room is smaller than what a verifier takes, so the limit comes down.
    monkeypatch.setattr("attestation.attesters.asked.MAX_ENDORSEMENTS", 10)
    driver.table = table_of({"vcek.der": bytes(5), "ask.der": bytes(6)})
    assert (await refused(driver, device)).reason is Reason.TOO_LARGE
