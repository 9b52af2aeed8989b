"""The system call under the devices: numbers as the headers have them, memory that the kernel fills."""

import array
import ctypes
import errno
import os
import subprocess
import termios
from pathlib import Path

import pytest

from attestation import AttesterError
from attestation.attesters import nsm as nitro_device
from attestation.attesters import sev_guest as snp_device
from attestation.attesters.ioctl import Memory, iowr, kernel_ioctl, opened
from schemas.errors import Reason


def test_the_numbers_are_those_of_the_kernels_headers() -> None:
    # As a C compiler made them from linux/sev-guest.h and linux/nsm.h on x86-64.
    assert snp_device.SNP_GET_REPORT == 0xC0205300
    assert snp_device.SNP_GET_EXT_REPORT == 0xC0205302
    assert nitro_device.NSM_IOCTL_RAW == 0xC0200A00
    assert iowr(ord("T"), 1, 64 + 1024) == 0xC4405401  # TDX_CMD_GET_REPORT0, a third one


def test_the_structures_have_the_sizes_of_the_kernels_headers() -> None:
    assert snp_device.GUEST_REQUEST.size == 32
    assert snp_device.REPORT_REQUEST.size == 96
    assert snp_device.EXTENDED_REQUEST.size == 112
    assert snp_device.RESPONSE_SIZE == 4000
    assert nitro_device.RAW.size == 32
    assert (nitro_device.MAX_REQUEST, nitro_device.MAX_RESPONSE) == (0x1000, 0x3000)


HEADER = Path("/usr/include/linux/sev-guest.h")
PROGRAM = r"""
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <linux/sev-guest.h>
int main(void) {
    printf("%u %u ", (unsigned)SNP_GET_REPORT, (unsigned)SNP_GET_EXT_REPORT);
    printf("%zu %zu ", sizeof(struct snp_guest_request_ioctl), sizeof(struct snp_report_req));
    printf("%zu %zu ", sizeof(struct snp_ext_report_req), sizeof(struct snp_report_resp));
    printf("%zu %zu ", offsetof(struct snp_guest_request_ioctl, req_data),
           offsetof(struct snp_guest_request_ioctl, resp_data));
    printf("%zu ", offsetof(struct snp_guest_request_ioctl, exitinfo2));
    printf("%zu %zu\n", offsetof(struct snp_ext_report_req, certs_address),
           offsetof(struct snp_ext_report_req, certs_len));
    return 0;
}
"""


def test_a_compiler_agrees(tmp_path: Path) -> None:
    if not HEADER.exists():
        pytest.skip("no linux/sev-guest.h here")
    source, program = tmp_path / "sizes.c", tmp_path / "sizes"
    source.write_text(PROGRAM)
    try:
        subprocess.run(["cc", source, "-o", program], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no C compiler that knows this header")
    told = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
    assert [int(number) for number in told] == [
        snp_device.SNP_GET_REPORT,
        snp_device.SNP_GET_EXT_REPORT,
        *(32, 96, 112, 4000),
        *(8, 16, 24),
        *(96, 104),
    ]


def test_the_kernel_writes_into_the_memory_that_is_handed_over() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"seven b")
        memory = Memory(bytes(array.array("i", [0]).itemsize))
        kernel_ioctl(reader, termios.FIONREAD, memory.address)
        assert int.from_bytes(memory.read(), "little") == 7
    finally:
        os.close(reader)
        os.close(writer)


def test_a_failed_call_is_the_systems_own_error() -> None:
    with opened(Path("/dev/null")) as descriptor, pytest.raises(OSError, match="ioctl") as failure:
        kernel_ioctl(descriptor, snp_device.SNP_GET_REPORT, Memory(bytes(32)).address)
    assert failure.value.errno == errno.ENOTTY


def test_memory_stays_where_it_is() -> None:
    memory = Memory(b"ab\0c")
    assert memory.read() == ctypes.string_at(memory.address, 4) == b"ab\0c"
    ctypes.memmove(memory.address, b"xyz\0", 4)
    assert memory.read() == b"xyz\0"


def test_a_device_is_inherited_by_no_child_and_closed_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.touch()
    with opened(path) as descriptor:
        assert not os.get_inheritable(descriptor)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


def test_a_device_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AttesterError, match="sealbus doctor") as refusal, opened(tmp_path / "sev-guest"):
        pass
    assert refusal.value.reason is Reason.UNAVAILABLE
