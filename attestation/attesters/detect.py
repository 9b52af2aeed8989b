"""Which TEE this machine is, by what exists. Looks only: nothing is opened, made or asked.

What cannot be known without a request is not claimed: whether configfs-tsm has a provider shows at the first
mkdir, and a vTPM may or may not belong to a paravisor.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attestation.attesters.attester import Attester
from attestation.attesters.nsm import NsmAttester
from attestation.attesters.sev_guest import SevGuestAttester
from attestation.attesters.tsm import TsmAttester
from schemas.evidence import NITRO, SEV_SNP, TDX

TSM_REPORTS = "sys/kernel/config/tsm/report"
SEV_DEVICE = "dev/sev-guest"
TDX_DEVICE = "dev/tdx_guest"
NSM_DEVICE = "dev/nsm"
TPM_DEVICE = "dev/tpmrm0"
CPU = "proc/cpuinfo"


@dataclass(frozen=True, slots=True)
class Interface:
    """One way to Evidence, and whether this machine has it."""

    name: str
    path: Path
    found: bool
    usable: bool
    why: str


@dataclass(frozen=True, slots=True)
class Detected:
    """What was found, the preferred interface first; `platform` and `attester` of the one to use, if any."""

    interfaces: tuple[Interface, ...]
    platform: str | None
    chosen: Interface | None
    attester: Callable[[], Attester] | None


def detect(root: Path = Path("/")) -> Detected:
    """Look below `root`, and choose the first usable interface.

    1. configfs-tsm, which serves two platforms and survives new drivers, where a guest device says that a
       driver stands behind it.
    2. `/dev/sev-guest`, for kernels before 6.7.
    3. `/dev/nsm`.
    """
    sev, tdx = (root / SEV_DEVICE).exists(), (root / TDX_DEVICE).exists()
    tsm = _tsm(root / TSM_REPORTS, guest=sev or tdx)
    sev_guest = _device("sev-guest", root / SEV_DEVICE, "the driver of SEV-SNP guests")
    nsm = _device("nsm", root / NSM_DEVICE, "the security module of Nitro enclaves")
    interfaces = (tsm, sev_guest, nsm, _tdx_guest(root), _tpm(root))
    choices: tuple[tuple[Interface, str, Callable[[], Attester]], ...] = (
        (tsm, TDX if tdx else SEV_SNP, lambda: TsmAttester(tsm.path)),
        (sev_guest, SEV_SNP, lambda: SevGuestAttester(sev_guest.path)),
        (nsm, NITRO, lambda: NsmAttester(nsm.path)),
    )
    for interface, platform, attester in choices:
        if interface.usable:
            return Detected(interfaces, platform, interface, attester)
    return Detected(interfaces, None, None, None)


def _tsm(path: Path, *, guest: bool) -> Interface:
    name = "configfs-tsm"
    if not path.is_dir():
        why = "not there: needs Linux 6.7 with CONFIG_TSM_REPORTS, and configfs mounted"
        return Interface(name, path, found=False, usable=False, why=why)
    if not guest:
        why = "there, but no guest driver stands behind it: neither /dev/sev-guest nor /dev/tdx_guest"
        return Interface(name, path, found=True, usable=False, why=why)
    if not os.access(path, os.W_OK | os.X_OK):
        why = "there, but this user may make no report in it: run as root"
        return Interface(name, path, found=True, usable=False, why=why)
    return Interface(name, path, found=True, usable=True, why="reports of SEV-SNP and TDX guests")


def _device(name: str, path: Path, what: str) -> Interface:
    if not path.exists():
        return Interface(name, path, found=False, usable=False, why=f"not there: it is {what}")
    if not os.access(path, os.R_OK | os.W_OK):
        why = "there, but this user may not open it: run as root, or give the user the device"
        return Interface(name, path, found=True, usable=False, why=why)
    return Interface(name, path, found=True, usable=True, why=what)


def _tdx_guest(root: Path) -> Interface:
    path = root / TDX_DEVICE
    if path.exists():
        why = "the driver of TDX guests; quotes come through configfs-tsm alone"
    elif "tdx_guest" in _cpu_flags(root / CPU):
        why = "not there, but the processor says that this is a TDX guest: load the module tdx-guest"
    else:
        why = "not there: it is the driver of TDX guests"
    return Interface("tdx-guest", path, found=path.exists(), usable=False, why=why)


def _tpm(root: Path) -> Interface:
    path = root / TPM_DEVICE
    if path.exists():
        why = "a TPM; if a paravisor's (Azure), its evidence is of a lower class and not supported"
    else:
        why = "not there; Evidence of a vTPM would not be supported"
    return Interface("tpm", path, found=path.exists(), usable=False, why=why)


def _cpu_flags(path: Path) -> frozenset[str]:
    try:
        text = path.read_text("ascii", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()
