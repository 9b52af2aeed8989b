"""configfs-tsm: a directory for each request, gone afterwards; a report over what was asked, or an error."""

import errno
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from attestation import AttesterError, sev_snp, tdx
from attestation.attesters.tsm import TRIES, TsmAttester
from lab.simulate.sev_snp import SevSnpChip
from schemas.errors import Reason, UsageError
from schemas.evidence import MAX_EVIDENCE
from tests.attestation.configfs import Kernel, missing, mounted

EVIDENCE = Path(
    os.environ.get("SEALBUS_EVIDENCE", Path(__file__).resolve().parents[3] / "shared" / "evidence")
)
REAL_SNP = EVIDENCE / "sev-snp" / "genoa-v3-vcek-veraison-tsm-report"
REAL_TDX = EVIDENCE / "tdx" / "v4-uptodate-00806f-gcp-oak"  # padded to 8000 bytes: more than a page

KEY_BINDING = bytes(range(64))
CHALLENGE = bytes(32)
TDX_DATA_AT = 48 + 0x208
MEASUREMENTS = {"measurement": b"\x11" * 48, "host_data": b"\x22" * 32}


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """The file system, mounted once."""
    if reason := missing():
        pytest.skip(f"configfs-tsm cannot be played: {reason}")
    with mounted(tmp_path_factory.mktemp("configfs")) as kernel:
        yield kernel


@pytest.fixture(scope="session")
def template(chip: SevSnpChip) -> str:
    return chip.sign(chip.body(MEASUREMENTS, bytes(64))).hex()


@pytest.fixture
def kernel(mount: Kernel, template: str) -> Iterator[Kernel]:
    """A SEV-SNP guest, which must be left as it was found."""
    mount.script(template=template)
    yield mount
    mount.go()
    mount.wait_until_empty()


def vector(folder: Path, name: str) -> bytes:
    if not folder.exists():
        pytest.skip("no vectors of real evidence: name their folder in SEALBUS_EVIDENCE")
    return (folder / name).read_bytes()


async def ask(kernel: Kernel, **how: Any) -> Any:
    return await TsmAttester(kernel.reports, **how).evidence(KEY_BINDING, CHALLENGE)


async def refused(kernel: Kernel, **how: Any) -> AttesterError:
    with pytest.raises(AttesterError) as refusal:
        await ask(kernel, **how)
    assert kernel.left() == []
    return refusal.value


@pytest.mark.anyio
async def test_a_sev_snp_report_binds_what_was_asked(kernel: Kernel, template: str) -> None:
    kernel.script(template=template)
    evidence, endorsements = await ask(kernel)
    assert evidence.type == sev_snp.MEDIA_TYPE
    assert sev_snp.parse(evidence.value).report_data == KEY_BINDING
    assert endorsements == {}
    assert kernel.journal() == ["mkdir", "privlevel", "inblob", "outblob", "auxblob", "rmdir"]


@pytest.mark.anyio
@pytest.mark.parametrize(("wanted", "own", "stated"), [(0, 0, 0), (2, 0, 2), (0, 2, 2), (1, 3, 3)])
async def test_no_level_is_stated_that_is_more_privileged_than_the_guests_own(
    wanted: int, own: int, stated: int, kernel: Kernel, template: str
) -> None:
    kernel.script(template=template, floor=own)
    evidence, _ = await ask(kernel, vmpl=wanted)
    assert sev_snp.parse(evidence.value).vmpl == stated


@pytest.mark.anyio
async def test_the_certificates_of_a_real_host_come_along_in_der(kernel: Kernel) -> None:
    report, table = vector(REAL_SNP, "report.bin"), vector(REAL_SNP, "auxblob.bin")
    kernel.script(template=report.hex(), table=table.hex())
    evidence, endorsements = await ask(kernel)
    assert evidence.value[:0x50] + evidence.value[0x90:] == report[:0x50] + report[0x90:]
    assert endorsements == {name: vector(REAL_SNP, name) for name in ("ark.der", "ask.der", "vcek.der")}


@pytest.mark.anyio
async def test_a_real_report_over_its_own_data_is_handed_on_unchanged(kernel: Kernel) -> None:
    report = vector(REAL_SNP, "report.bin")
    asked = bytes.fromhex(json.loads(vector(REAL_SNP, "meta.json"))["report_data"])
    kernel.script(answer=report.hex())
    evidence, _ = await TsmAttester(kernel.reports).evidence(asked, CHALLENGE)
    assert evidence.value == report


@pytest.mark.anyio
async def test_a_tdx_quote_of_more_than_a_page_arrives_whole(kernel: Kernel) -> None:
    quote = vector(REAL_TDX, "quote.bin")
    kernel.script(provider="tdx_guest", template=quote.hex(), data_at=TDX_DATA_AT)
    evidence, endorsements = await ask(kernel)
    assert evidence.type == tdx.MEDIA_TYPE
    assert len(evidence.value) == len(quote) > 4096
    assert evidence.value[TDX_DATA_AT:][:64] == KEY_BINDING
    assert endorsements == {}
    # TDX has neither privilege levels nor certificates.
    assert kernel.journal() == ["mkdir", "inblob", "outblob", "rmdir"]


@pytest.mark.anyio
async def test_each_request_has_a_directory_of_its_own(kernel: Kernel) -> None:
    attester = TsmAttester(kernel.reports)
    names = set()
    for number in range(3):
        kernel.script(hold=True, template="00" * 1184)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(_ignoring, attester, bytes([number]) * 64))
            await to_thread.run_sync(kernel.wait_until_held)
            names.update(kernel.left())
            kernel.go()
    assert len(names) == 3


async def _ignoring(attester: TsmAttester, key_binding: bytes) -> None:
    with pytest.raises(AttesterError):
        await attester.evidence(key_binding, CHALLENGE)


@pytest.mark.anyio
@pytest.mark.parametrize("races", [1, TRIES - 1])
async def test_another_writer_makes_the_request_be_asked_again(
    races: int, kernel: Kernel, template: str
) -> None:
    kernel.script(template=template, races=races)
    evidence, _ = await ask(kernel)
    assert sev_snp.parse(evidence.value).report_data == KEY_BINDING
    assert kernel.journal().count("inblob") == races + 1
    assert kernel.journal().count("mkdir") == 1


@pytest.mark.anyio
async def test_a_writer_who_does_not_rest_is_given_up(kernel: Kernel, template: str) -> None:
    kernel.script(template=template, races=TRIES)
    assert (await refused(kernel)).reason is Reason.UNAVAILABLE
    assert kernel.journal().count("inblob") == TRIES


@pytest.mark.anyio
async def test_anothers_report_is_refused_though_the_generation_fits(kernel: Kernel, template: str) -> None:
    kernel.script(template=template, theft=True)
    assert (await refused(kernel)).reason is Reason.KEY_BINDING_MISMATCH


@pytest.mark.anyio
async def test_anothers_quote_is_refused(kernel: Kernel) -> None:
    kernel.script(provider="tdx_guest", answer=vector(REAL_TDX, "quote.bin").hex())
    assert (await refused(kernel)).reason is Reason.KEY_BINDING_MISMATCH


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["mkdir", "privlevel", "outblob", "auxblob", "rmdir"])
@pytest.mark.parametrize("number", [errno.EINTR, errno.EBUSY])
async def test_an_interruption_is_survived(where: str, number: int, kernel: Kernel, template: str) -> None:
    kernel.script(template=template, errors={where: [number]})
    evidence, _ = await ask(kernel)
    assert sev_snp.parse(evidence.value).report_data == KEY_BINDING
    assert kernel.left() == []


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["mkdir", "privlevel", "outblob"])
async def test_what_stays_busy_is_given_up(where: str, kernel: Kernel, template: str) -> None:
    kernel.script(template=template, errors={where: [errno.EBUSY] * (TRIES + 1)})
    assert (await refused(kernel)).reason is Reason.UNAVAILABLE
    assert kernel.journal().count(where) == TRIES


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("behaviour", "reason", "says"),
    [
        ({"provider": ""}, Reason.UNAVAILABLE, "load the driver"),
        ({"provider": "arm_cca_guest"}, Reason.UNSUPPORTED_PLATFORM, "provider"),
        ({"errors": {"outblob": [errno.EIO]}}, Reason.UNAVAILABLE, "quote generation service"),
        ({"errors": {"outblob": [errno.EFBIG]}}, Reason.UNAVAILABLE, "larger than this kernel takes"),
        ({"errors": {"mkdir": [errno.EACCES]}}, Reason.UNAVAILABLE, "run as root"),
        ({"texts": {"generation": "many\n"}}, Reason.MALFORMED, "not a number"),
        ({"texts": {"privlevel_floor": "-1"}}, Reason.MALFORMED, "privlevel_floor"),
        ({"texts": {"generation": "9" * 65}}, Reason.TOO_LARGE, "generation"),
        ({"texts": {"provider": "\u00e9\n"}}, Reason.UNSUPPORTED_PLATFORM, "provider"),
        ({"answer": ""}, Reason.MALFORMED, "no evidence"),
        ({"answer": "00" * 1184}, Reason.UNSUPPORTED_VERSION, "no evidence"),
        ({"answer": "ff" * 100}, Reason.MALFORMED, "no evidence"),
        ({"answer": "00" * (MAX_EVIDENCE + 1)}, Reason.TOO_LARGE, "outblob"),
        ({"table": "00" * (64 * 1024 + 1)}, Reason.TOO_LARGE, "auxblob"),
        ({"table": "ff" * 100}, Reason.MALFORMED, "certificate table"),
        ({"provider": "tdx_guest", "answer": "04000200"}, Reason.MALFORMED, "no evidence"),
        ({"provider": "tdx_guest", "answer": "d28443a10126" + "00" * 9000}, None, "no evidence"),
    ],
)
async def test_a_kernel_that_fails_or_answers_nonsense_is_an_error_that_says_so(
    behaviour: dict[str, Any], reason: Reason | None, says: str, kernel: Kernel, template: str
) -> None:
    kernel.script(**{"template": template, **behaviour})
    error = await refused(kernel)
    assert reason is None or error.reason is reason
    assert says in str(error)


@pytest.mark.anyio
@pytest.mark.parametrize("cut", [1, 0x90, 1183])
async def test_a_report_that_is_cut_short_is_refused(cut: int, kernel: Kernel, template: str) -> None:
    report = bytearray.fromhex(template)
    report[0x50:0x90] = KEY_BINDING
    kernel.script(answer=report[:cut].hex())
    assert (await refused(kernel)).reason is Reason.MALFORMED


@pytest.mark.anyio
async def test_a_missing_configfs_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AttesterError, match="sealbus doctor"):
        await TsmAttester(tmp_path / "report").evidence(KEY_BINDING, CHALLENGE)


@pytest.mark.anyio
async def test_a_cancelled_request_leaves_no_directory(kernel: Kernel, template: str) -> None:
    kernel.script(template=template, hold=True)
    attester = TsmAttester(kernel.reports)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attester.evidence, KEY_BINDING, CHALLENGE)
        await to_thread.run_sync(kernel.wait_until_held)
        tasks.cancel_scope.cancel()
    # The kernel still has our thread; until it lets go the device is refused, not queued for.
    assert len(kernel.left()) == 1
    with pytest.raises(AttesterError, match="given up"):
        await attester.evidence(KEY_BINDING, CHALLENGE)
    kernel.go()
    await to_thread.run_sync(kernel.wait_until_empty)
    kernel.script(template=template)


@pytest.mark.anyio
async def test_a_kernel_that_does_not_answer_is_given_up(kernel: Kernel, template: str) -> None:
    kernel.script(template=template, hold=True)
    with pytest.raises(AttesterError, match="in time") as refusal:
        await ask(kernel, deadline=0.05)
    assert refusal.value.reason is Reason.UNAVAILABLE
    # Its thread may only now have come that far.
    await to_thread.run_sync(kernel.wait_until_held)
    kernel.go()


@pytest.mark.anyio
async def test_a_directory_that_cannot_be_removed_is_logged_and_the_report_is_good(
    kernel: Kernel, template: str, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.script(template=template, errors={"rmdir": [errno.EPERM]})
    await ask(kernel)
    assert "stays behind" in caplog.text
    (left,) = kernel.left()
    (kernel.reports / left).rmdir()


@pytest.mark.anyio
@pytest.mark.parametrize(("binding", "challenge"), [(63, 32), (64, 31)])
async def test_who_hands_in_no_digest_is_told_before_the_kernel_is_asked(
    binding: int, challenge: int, kernel: Kernel
) -> None:
    with pytest.raises(UsageError):
        await TsmAttester(kernel.reports).evidence(bytes(binding), bytes(challenge))
    assert kernel.journal() == []
