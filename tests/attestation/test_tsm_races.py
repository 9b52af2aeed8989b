"""configfs-tsm with another writer at every moment of a request: a report of ours, or none.

The kernel's part is played in memory (drivers/virt/coco/guest/report.c), so that this runs everywhere; the
file system itself is played in `test_tsm.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

from attestation import AttesterError, sev_snp
from attestation.attesters import tsm
from attestation.attesters.tsm import TRIES, TsmAttester
from lab.simulate.sev_snp import SevSnpChip
from schemas.errors import Reason

KEY_BINDING = bytes(range(64))
OTHERS_DATA, OTHERS_LEVEL = b"\xee" * 64, b"3"
MEASUREMENTS = {"measurement": b"\x11" * 48, "host_data": b"\x22" * 32}
VMPL, REPORT_DATA = 0x030, 0x050

# What somebody else writes to our directory, a name and a value each.
WRITES = {
    "data": (("inblob", OTHERS_DATA),),
    "level": (("privlevel", OTHERS_LEVEL),),
    "both": (("inblob", OTHERS_DATA), ("privlevel", OTHERS_LEVEL)),
}
MOMENTS = (
    8  # accesses of one attempt: provider, generation, floor, level, data, report, certificates, generation
)


class Directory:
    """One directory of reports: every write counts, and a report is made anew when it is read after one."""

    def __init__(self, template: bytes, others: dict[int, str]) -> None:
        self._template = template
        self._others = others  # what another writes before our access of that number
        self._accesses = 0
        self._written = self._read = 0
        self._values = {"inblob": b"", "privlevel": b"0"}
        self._report = b""

    def write(self, path: Path, data: bytes) -> None:
        """Write as we do."""
        self._let_others()
        self._set(path.name, data)

    def read(self, path: Path, most: int) -> bytes:
        """Read as we do."""
        del most
        self._let_others()
        if path.name in ("outblob", "auxblob"):
            if self._read != self._written:
                self._report, self._read = self._made(), self._written
            return self._report if path.name == "outblob" else b""
        return {
            "provider": b"sev_guest\n",
            "generation": b"%d\n" % self._written,
            "privlevel_floor": b"0\n",
        }[path.name]

    def _let_others(self) -> None:
        for name, data in WRITES.get(self._others.get(self._accesses, ""), ()):
            self._set(name, data)
        self._accesses += 1

    def _set(self, name: str, data: bytes) -> None:
        self._values[name] = data
        self._written += 1

    def _made(self) -> bytes:
        report = bytearray(self._template)
        report[REPORT_DATA : REPORT_DATA + 64] = self._values["inblob"].ljust(64, b"\0")
        report[VMPL] = int(self._values["privlevel"])
        return bytes(report)


@pytest.fixture(scope="module")
def template(chip: SevSnpChip) -> bytes:
    return chip.sign(chip.body(MEASUREMENTS, bytes(64)))


def play(monkeypatch: pytest.MonkeyPatch, directory: Directory) -> None:
    @contextmanager
    def made(reports: Path) -> Iterator[Path]:
        yield reports / "ours"

    monkeypatch.setattr(tsm, "_directory", made)
    monkeypatch.setattr(tsm, "_read", directory.read)
    monkeypatch.setattr(tsm, "_write", directory.write)


def asked(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> sev_snp.Report:
    play(monkeypatch, directory)
    # What the thread in the kernel does: without a loop, thousands of requests take a second.
    return sev_snp.parse(TsmAttester()._ask(KEY_BINDING).value)


@pytest.mark.parametrize("first", WRITES)
@pytest.mark.parametrize("second", WRITES)
def test_a_report_is_what_was_asked_whenever_another_writes(
    first: str, second: str, template: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one, other in product(range(2 * MOMENTS), repeat=2):
        report = asked(Directory(template, {one: first, other: second}), monkeypatch)
        assert (report.report_data, report.vmpl) == (KEY_BINDING, 0), (one, other)


def test_whoever_writes_again_and_again_gets_an_error_out_of_us_and_no_report(
    template: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    always = dict.fromkeys(range(MOMENTS * TRIES), "level")
    with pytest.raises(AttesterError, match="does something else write to our reports") as refusal:
        asked(Directory(template, always), monkeypatch)
    assert refusal.value.reason is Reason.UNAVAILABLE
