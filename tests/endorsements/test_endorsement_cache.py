"""What is kept, for how long, and when it is not believed: age, expiry, damage, crashes, many at once."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.endorsements import (
    Cache,
    EndorsementError,
    How,
    NoSuchDocumentError,
    ServiceUnavailableError,
    Subject,
    WrongDocumentError,
)
from attestation.endorsements.cache import Entry
from attestation.endorsements.flights import Flights
from attestation.endorsements.http import Response
from attestation.whole_files import write_whole
from lab.simulate import sev_snp
from lab.simulate.tdx_issuer import tcb_info
from schemas.errors import Reason, UsageError
from tests.attestation.tdx_forge import Forge
from tests.endorsements.conftest import FMSPC, Desk
from tests.endorsements.world import NOW, Answer, Service, Time

pytestmark = pytest.mark.anyio

TCB_INFO = Subject("tcb-info", (FMSPC.lower(),))
TARGET = f"/tdx/certification/v4/tcb?fmspc={FMSPC}"
DOWN = Answer(status=503)


def only_entry(desk: Desk) -> Path:
    (entry,) = desk.cache.iterdir()
    return entry


async def test_what_was_fetched_today_is_not_asked_for_again(desk: Desk, service: Service) -> None:
    first = await desk.pcs.get(TCB_INFO)
    second = await desk.pcs.get(TCB_INFO)
    assert (first.how, second.how) == (How.FETCHED, How.CACHED)
    assert second.files == first.files
    assert second.fetched == first.fetched
    assert service.asked == [TARGET]


async def test_collateral_is_asked_for_again_the_next_day(desk: Desk, service: Service, time: Time) -> None:
    await desk.pcs.get(TCB_INFO)
    time.pass_by(timedelta(days=1))
    assert (await desk.pcs.get(TCB_INFO)).how is How.FETCHED
    assert len(service.asked) == 2


async def test_a_chips_certificate_is_asked_for_once_in_years(
    desk: Desk, service: Service, vcek: Subject, time: Time
) -> None:
    await desk.kds.get(vcek)
    asked = len(service.asked)
    time.pass_by(timedelta(days=5 * 365))
    assert (await desk.kds.get(vcek)).how is How.CACHED
    assert len(service.asked) == asked


@pytest.mark.parametrize(
    "fault",
    [DOWN, Answer(b"<html>"), Answer(status=404), Answer(b"x" * 400_000), Answer(status=302)],
    ids=["down", "junk", "not found", "oversized", "redirect"],
)
async def test_while_the_service_fails_what_is_kept_and_valid_serves(
    fault: Answer, desk: Desk, service: Service, time: Time
) -> None:
    first = await desk.pcs.get(TCB_INFO)
    time.pass_by(timedelta(days=2))
    service.faults.append(fault)
    kept = await desk.pcs.get(TCB_INFO)
    assert kept.how is How.KEPT
    assert kept.why
    assert kept.files == first.files
    # With something in hand nobody is kept waiting.
    assert time.sleeps == []


async def test_what_has_expired_never_serves_even_if_the_service_is_down(
    desk: Desk, service: Service, time: Time
) -> None:
    await desk.pcs.get(TCB_INFO)
    time.pass_by(timedelta(days=31))
    service.faults.extend([DOWN] * 9)
    with pytest.raises(ServiceUnavailableError):
        await desk.pcs.get(TCB_INFO)


async def test_what_expires_while_the_service_is_asked_does_not_serve(
    desk: Desk, service: Service, time: Time, intel: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.pcs.get(TCB_INFO)
    time.pass_by(timedelta(days=29))
    http = desk.http

    async def fails_late(url: str, *, limit: int, once: bool = False) -> None:
        time.pass_by(timedelta(days=2))
        raise ServiceUnavailableError("gone")

    monkeypatch.setattr(http, "get", fails_late)
    with pytest.raises(ServiceUnavailableError):
        await desk.pcs.get(TCB_INFO)


async def test_what_has_expired_is_fetched_anew(
    desk: Desk, service: Service, time: Time, intel: Forge
) -> None:
    await desk.pcs.get(TCB_INFO)
    time.pass_by(timedelta(days=31))
    service.answers[TARGET].body = intel.issuer.sign("tcbInfo", tcb_info(time.now))
    assert (await desk.pcs.get(TCB_INFO)).how is How.FETCHED


async def test_an_older_document_does_not_replace_a_newer_one(
    desk: Desk, service: Service, time: Time, intel: Forge
) -> None:
    newest = (await desk.pcs.get(TCB_INFO)).files
    time.pass_by(timedelta(days=2))
    older = intel.issuer.sign("tcbInfo", tcb_info(NOW - timedelta(days=5)))
    service.answers[TARGET].body = older
    kept = await desk.pcs.get(TCB_INFO)
    assert (kept.how, kept.files) == (How.KEPT, newest)


async def test_an_evaluation_number_does_not_fall(
    desk: Desk, service: Service, time: Time, intel: Forge
) -> None:
    newest = (await desk.pcs.get(TCB_INFO)).files
    time.pass_by(timedelta(hours=25))
    lower = {**tcb_info(time.now), "tcbEvaluationDataNumber": 17}
    service.answers[TARGET].body = intel.issuer.sign("tcbInfo", lower)
    kept = await desk.pcs.get(TCB_INFO)
    assert (kept.how, kept.older, kept.files) == (How.KEPT, True, newest)
    assert "evaluation 17" in kept.why


async def test_an_evaluation_number_does_not_fall_when_what_is_kept_has_expired(
    desk: Desk, service: Service, time: Time, intel: Forge
) -> None:
    await desk.pcs.get(TCB_INFO)
    time.pass_by(timedelta(days=40))
    lower = {**tcb_info(time.now), "tcbEvaluationDataNumber": 17}
    service.answers[TARGET].body = intel.issuer.sign("tcbInfo", lower)
    with pytest.raises(WrongDocumentError, match="evaluation 17") as caught:
        await desk.pcs.get(TCB_INFO)
    assert caught.value.reason is Reason.VERSION_NOT_NEWER


async def test_what_another_process_kept_in_the_meantime_is_not_taken_back(
    desk: Desk, service: Service, time: Time, intel: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = (await desk.pcs.get(TCB_INFO)).files["tcb_info_chain.pem"]
    time.pass_by(timedelta(days=2))
    newest = intel.issuer.sign("tcbInfo", tcb_info(time.now))
    get = desk.http.get

    async def overtaken(url: str, *, limit: int, once: bool = False) -> Response:
        files = {"tcb_info.json": newest, "tcb_info_chain.pem": chain}
        Cache(desk.cache).save(url, Entry(files, time.now))
        return await get(url, limit=limit, once=once)

    monkeypatch.setattr(desk.http, "get", overtaken)
    service.answers[TARGET].body = intel.issuer.sign("tcbInfo", tcb_info(NOW + timedelta(days=1)))
    assert (await desk.pcs.get(TCB_INFO)).files["tcb_info.json"] == newest
    again = Cache(desk.cache).load(service.base + TARGET)
    assert again is not None
    assert again.files["tcb_info.json"] == newest


# --- whose cache it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720])
async def test_where_others_can_write_nothing_is_kept_and_nobody_asked(
    mode: int, desk: Desk, service: Service
) -> None:
    await desk.pcs.get(TCB_INFO)
    desk.cache.chmod(mode)
    with pytest.raises(UsageError, match=f"others may write to it \\(mode {mode:o}\\)"):
        await desk.pcs.get(TCB_INFO)
    with pytest.raises(UsageError, match="no safe cache"):
        Cache(desk.cache).save("request", Entry({}, NOW))
    assert service.asked == [TARGET]


def test_another_users_folder_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    cache.save("request", Entry({}, NOW))
    stranger = os.geteuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: stranger)
    with pytest.raises(UsageError, match="it is another user's"):
        cache.load("request")


def test_what_others_could_write_before_they_were_kept_out_is_not_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.save("request", Entry({}, NOW))
    assert cache.load("request") is not None
    cache._path("request").chmod(0o666)
    assert cache.load("request") is None


def test_what_is_no_file_is_neither_waited_for_nor_followed(tmp_path: Path) -> None:
    cache, good = Cache(tmp_path / "cache"), tmp_path / "good"
    cache.save("request", Entry({}, NOW))
    entry = cache._path("request")
    entry.rename(good)
    os.mkfifo(entry)
    assert cache.load("request") is None
    entry.unlink()
    entry.symlink_to(good)
    assert cache.load("request") is None
    entry.unlink()
    entry.mkdir()
    assert cache.load("request") is None


def test_an_entry_of_any_size_is_not_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.save("request", Entry({}, NOW))
    os.truncate(cache._path("request"), 2**40)
    assert cache.load("request") is None


def test_reading_leaves_no_file_open(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.save("request", Entry({}, NOW))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(9):
        assert cache.load("request") is not None
        assert cache.load("no such") is None
    assert len(os.listdir("/proc/self/fd")) == before


def cut(data: bytes) -> bytes:
    return data[:-1]


def flip(data: bytes) -> bytes:
    return data[:-100] + bytes((data[-100] ^ 1,)) + data[-99:]


@pytest.mark.parametrize("damage", [cut, flip, lambda _: b"", lambda data: data + b"x", lambda _: b"\0" * 99])
async def test_a_damaged_entry_is_fetched_again(
    damage: Callable[[bytes], bytes], desk: Desk, service: Service
) -> None:
    good = await desk.pcs.get(TCB_INFO)
    entry = only_entry(desk)
    entry.write_bytes(damage(entry.read_bytes()))
    again = await desk.pcs.get(TCB_INFO)
    assert (again.how, again.files) == (How.FETCHED, good.files)
    assert len(service.asked) == 2


async def test_an_entry_that_somebody_made_up_is_fetched_again(
    desk: Desk, service: Service, time: Time
) -> None:
    forged = Forge().endorsements()
    files = {name: forged[name] for name in ("tcb_info.json", "tcb_info_chain.pem")}
    Cache(desk.cache).save(service.base + TARGET, Entry(files, time.now))
    fetched = await desk.pcs.get(TCB_INFO)
    assert fetched.how is How.FETCHED
    assert fetched.files != files


@pytest.mark.parametrize("name", ["../x", "/etc/x", "quote.bin", "crl.der", ""])
async def test_an_entry_with_a_file_too_many_is_fetched_again(
    name: str, desk: Desk, service: Service, time: Time
) -> None:
    good = await desk.pcs.get(TCB_INFO)
    Cache(desk.cache).save(service.base + TARGET, Entry({**good.files, name: b"x"}, time.now))
    again = await desk.pcs.get(TCB_INFO)
    assert (again.how, again.files) == (How.FETCHED, good.files)


async def test_a_list_that_strayed_into_a_kept_chain_does_not_stand_in_for_the_one_fetched(
    desk: Desk, service: Service, chip: sev_snp.SevSnpChip, time: Time
) -> None:
    chain = await desk.kds.get(Subject("chain", ("Genoa", "vcek")))
    request = service.base + "/vcek/v1/Genoa/cert_chain"
    assert Cache(desk.cache).load(request) is not None
    Cache(desk.cache).save(request, Entry({**chain.files, "crl.der": b"an old list"}, time.now))
    listing = await desk.kds.get(Subject("crl", ("Genoa", "vcek")))
    assert listing.files["crl.der"] == chip.endorsements["crl.der"]


async def test_an_entry_under_another_requests_name_is_fetched_again(desk: Desk, service: Service) -> None:
    await desk.pcs.get(TCB_INFO)
    entry = only_entry(desk)
    cache = Cache(desk.cache)
    other = service.base + "/tdx/certification/v4/qe/identity"
    entry.rename(cache._path(other))
    assert cache.load(other) is None
    assert (await desk.pcs.get(Subject("qe-identity"))).how is How.FETCHED


async def test_an_entry_from_the_future_is_fetched_again(desk: Desk, service: Service, time: Time) -> None:
    await desk.pcs.get(TCB_INFO)
    time.now -= timedelta(minutes=30)
    assert (await desk.pcs.get(TCB_INFO)).how is How.FETCHED


async def test_nothing_wrong_is_ever_kept(desk: Desk, service: Service) -> None:
    service.answers[TARGET].body = b"{}"
    with pytest.raises(EndorsementError):
        await desk.pcs.get(TCB_INFO)
    assert not desk.cache.exists()


async def test_a_disk_that_fails_keeps_nobody_from_their_document(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Cache, request: str, entry: Entry) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cache, "save", full)
    assert (await desk.pcs.get(TCB_INFO)).how is How.FETCHED


@given(st.binary(max_size=200))
def test_no_bytes_on_disk_break_the_cache(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    cache = Cache(tmp_path_factory.getbasetemp() / "junk")
    cache._folder.mkdir(exist_ok=True, mode=0o700)
    cache._path("request").write_bytes(data)
    assert cache.load("request") is None


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "entry"
    write_whole(target, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["entry"]
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_crash_in_the_middle_of_a_write_leaves_the_old_entry(moment: str, tmp_path: Path) -> None:
    cache, old = Cache(tmp_path), Entry({"crl.der": b"old"}, NOW)
    cache.save("request", old)
    script = (
        "import os, sys\n"
        "from datetime import UTC, datetime\n"
        "from pathlib import Path\n"
        "from attestation.endorsements.cache import Cache, Entry\n"
        f"os.{moment} = lambda *_: os._exit(9)\n"
        "Cache(Path(sys.argv[1])).save('request', Entry({'crl.der': b'new'}, datetime.now(UTC)))\n"
    )
    died = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert died.returncode == 9
    assert cache.load("request") == old
    cache.save("request", Entry({"crl.der": b"newer"}, NOW))
    loaded = cache.load("request")
    assert loaded is not None
    assert loaded.files == {"crl.der": b"newer"}


async def test_many_who_want_the_same_ask_once(desk: Desk, service: Service) -> None:
    service.hold.clear()
    found: list[bytes] = []

    async def want() -> None:
        found.append((await desk.pcs.get(TCB_INFO)).files["tcb_info.json"])

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(want)
        await anyio.to_thread.run_sync(service.arrived.wait)
        service.hold.set()
    assert service.asked == [TARGET]
    assert found == [service.answers[TARGET].body] * 20


async def test_many_who_want_the_same_are_told_the_same_error(desk: Desk, service: Service) -> None:
    del service.answers[TARGET]
    service.hold.clear()
    refused: list[EndorsementError] = []

    async def want() -> None:
        try:
            await desk.pcs.get(TCB_INFO)
        except NoSuchDocumentError as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(want)
        await anyio.to_thread.run_sync(service.arrived.wait)
        service.hold.set()
    assert len(refused) == 5
    assert service.asked == [TARGET]


async def test_if_the_one_who_asks_is_cancelled_the_next_one_asks() -> None:
    flights, begun, release = Flights[int](), anyio.Event(), anyio.Event()
    made: list[str] = []
    results: list[int] = []

    async def slow() -> int:
        made.append("slow")
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def quick() -> int:
        made.append("quick")
        await release.wait()
        return 7

    async def leader(scope: anyio.CancelScope) -> None:
        with scope:
            await flights.fly("name", slow)

    async def follower() -> None:
        results.append(await flights.fly("name", quick))

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leader, scope)
        await begun.wait()
        tasks.start_soon(follower)
        tasks.start_soon(follower)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert made == ["slow", "quick"]
    assert results == [7, 7]


def test_a_simulated_tcb_is_what_the_tests_ask_for() -> None:
    assert (sev_snp.TCB[0], sev_snp.TCB[6], sev_snp.TCB[7]) == (4, 24, 219)
