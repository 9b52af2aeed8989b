"""A service's faults: what is asked again and how often, what is refused, and that all of it has bounds."""

from datetime import timedelta

import anyio
import anyio.to_thread
import httpx
import pytest

from attestation.endorsements import (
    EndorsementError,
    Http,
    NoSuchDocumentError,
    Patience,
    ServiceUnavailableError,
    WrongDocumentError,
)
from schemas.errors import Reason, UsageError
from tests.endorsements.conftest import Desk
from tests.endorsements.world import NOW, Answer, Service, Time

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def document(service: Service) -> None:
    service.answers["/document"] = Answer(b"what was asked for")


async def test_an_answer_comes_with_its_bytes_and_lower_case_headers(desk: Desk, service: Service) -> None:
    service.answers["/document"].headers = {"SGX-Chain": "of two"}
    response = await desk.http.get(f"{service.base}/document", limit=100)
    assert response.body == b"what was asked for"
    assert response.headers["sgx-chain"] == "of two"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_trouble_that_passes_is_waited_out_with_growing_patience(
    status: int, desk: Desk, service: Service, time: Time
) -> None:
    service.faults.extend([Answer(status=status)] * 3)
    response = await desk.http.get(f"{service.base}/document", limit=100)
    assert response.body == b"what was asked for"
    assert time.sleeps == [2.0, 4.0, 8.0]
    assert len(desk.notices) == 3
    assert f"HTTP {status}" in desk.notices[0]


async def test_a_service_says_how_long_to_wait_in_seconds(desk: Desk, service: Service, time: Time) -> None:
    service.faults.append(Answer(status=429, headers={"Retry-After": "120"}))
    await desk.http.get(f"{service.base}/document", limit=100)
    assert time.sleeps == [120.0]


async def test_a_service_says_how_long_to_wait_by_a_date(desk: Desk, service: Service, time: Time) -> None:
    assert time.now == NOW
    service.faults.append(Answer(status=503, headers={"Retry-After": "Mon, 23 Nov 2026 12:01:30 GMT"}))
    await desk.http.get(f"{service.base}/document", limit=100)
    assert time.sleeps == [90.0]


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "soon",
        "-5",
        "1e9",
        "٣",
        "Mon, 99 Nov 2026 12:01:30 GMT",
        "Mon, 01 Nov 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Nov 2026 00:00:00 +99999999999999",
    ],
)
async def test_a_retry_after_that_says_nothing_is_backed_off_from(
    nonsense: str, client: httpx.AsyncClient, service: Service, time: Time
) -> None:
    service.faults.append(Answer(status=429, headers={"Retry-After": nonsense.encode().decode("latin-1")}))
    await Http(client, clock=time.clock).get(f"{service.base}/document", limit=100)
    assert time.sleeps == [2.0]


async def test_a_wait_beyond_all_patience_is_told_at_once(desk: Desk, service: Service, time: Time) -> None:
    service.faults.append(Answer(status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(ServiceUnavailableError, match="ask again in 86400 s"):
        await desk.http.get(f"{service.base}/document", limit=100)
    assert time.sleeps == []


async def test_a_service_that_throttles_is_left_alone_by_the_next_request_too(
    desk: Desk, service: Service, time: Time
) -> None:
    service.faults.append(Answer(status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(ServiceUnavailableError):
        await desk.http.get(f"{service.base}/document", limit=100)
    asked = len(service.asked)
    with pytest.raises(ServiceUnavailableError, match="ask again in 86400 s"):
        await desk.http.get(f"{service.base}/document", limit=100)
    assert len(service.asked) == asked
    time.pass_by(timedelta(days=1))
    assert (await desk.http.get(f"{service.base}/document", limit=100)).body


async def test_trouble_that_does_not_pass_ends_in_an_error(desk: Desk, service: Service) -> None:
    service.faults.extend([Answer(status=500)] * 9)
    with pytest.raises(ServiceUnavailableError) as caught:
        await desk.http.get(f"{service.base}/document", limit=100)
    assert caught.value.reason is Reason.UNAVAILABLE
    assert len(service.asked) == 4


async def test_whoever_has_something_else_asks_once(desk: Desk, service: Service, time: Time) -> None:
    service.faults.append(Answer(status=500))
    with pytest.raises(ServiceUnavailableError):
        await desk.http.get(f"{service.base}/document", limit=100, once=True)
    assert len(service.asked) == 1
    assert time.sleeps == []


async def test_a_service_that_says_nothing_is_given_up_at_the_deadline(
    client: httpx.AsyncClient, service: Service, time: Time
) -> None:
    service.faults.extend([Answer(held=True)] * 2)
    http = Http(client, patience=Patience(attempts=2, deadline=0.05), clock=time.clock)
    with pytest.raises(ServiceUnavailableError, match="no whole answer"):
        await http.get(f"{service.base}/document", limit=100)


async def test_a_service_that_is_not_there_is_unavailable(client: httpx.AsyncClient, time: Time) -> None:
    http = Http(client, patience=Patience(attempts=2), clock=time.clock)
    with pytest.raises(ServiceUnavailableError, match="the connection failed"):
        await http.get("http://127.0.0.1:1/document", limit=100)


async def test_an_address_where_nobody_answers_is_given_up_sooner_and_named(
    client: httpx.AsyncClient, time: Time
) -> None:
    with pytest.raises(ServiceUnavailableError, match=r"http://127\.0\.0\.1:1/document: .*check the address"):
        await Http(client, clock=time.clock).get("http://127.0.0.1:1/document", limit=100)
    assert time.sleeps == [2.0, 4.0, 8.0]


async def test_a_service_that_was_reached_is_not_given_up_for_one_lost_connection(
    desk: Desk, service: Service, client: httpx.AsyncClient, time: Time
) -> None:
    service.faults.extend([Answer(b"what was asked for", cut=5)] * 4)
    response = await Http(client, clock=time.clock).get(f"{service.base}/document", limit=100)
    assert response.body == b"what was asked for"


async def test_an_answer_that_breaks_off_is_asked_for_again(desk: Desk, service: Service) -> None:
    service.faults.append(Answer(b"what was asked for", cut=5))
    response = await desk.http.get(f"{service.base}/document", limit=100)
    assert response.body == b"what was asked for"
    assert len(service.asked) == 2


async def test_an_answer_is_read_no_further_than_its_bound(desk: Desk, service: Service) -> None:
    service.answers["/document"] = Answer(b"x" * 101)
    with pytest.raises(WrongDocumentError) as caught:
        await desk.http.get(f"{service.base}/document", limit=100)
    assert caught.value.reason is Reason.TOO_LARGE


async def test_an_answer_that_unfolds_is_refused(desk: Desk, service: Service) -> None:
    service.answers["/document"].headers = {"Content-Encoding": "gzip"}
    with pytest.raises(WrongDocumentError, match="compressed"):
        await desk.http.get(f"{service.base}/document", limit=100)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int, desk: Desk, service: Service) -> None:
    service.answers["/document"] = Answer(status=status, headers={"Location": f"{service.base}/other"})
    service.answers["/other"] = Answer(b"from elsewhere")
    with pytest.raises(WrongDocumentError, match="redirects"):
        await desk.http.get(f"{service.base}/document", limit=100)
    assert service.asked == ["/document"]


@pytest.mark.parametrize("location", ["https://xn--/", "http://xn--zz99999/", "//xn--a-ecp.ru"])
async def test_an_answer_that_names_no_address_is_refused(
    location: str, desk: Desk, service: Service
) -> None:
    service.answers["/document"] = Answer(status=302, headers={"Location": location})
    with pytest.raises(WrongDocumentError, match="address"):
        await desk.http.get(f"{service.base}/document", limit=100)


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_not_there_is_not_asked_for_again(status: int, desk: Desk, service: Service) -> None:
    service.answers["/document"] = Answer(status=status)
    with pytest.raises(NoSuchDocumentError):
        await desk.http.get(f"{service.base}/document", limit=100)
    assert len(service.asked) == 1


@pytest.mark.parametrize("status", [204, 400, 401, 403])
async def test_any_other_status_is_a_refusal(status: int, desk: Desk, service: Service) -> None:
    service.answers["/document"] = Answer(status=status)
    with pytest.raises(EndorsementError, match=f"HTTP {status}"):
        await desk.http.get(f"{service.base}/document", limit=100)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "kds",
        "ftp://host/",
        "http://",
        "http://host:port/",
        "file:///etc/passwd",
        "https://xn--/",
        "https://é\u0080.x/",
    ],
)
async def test_an_address_that_is_none_is_the_callers_to_mend(address: str, desk: Desk) -> None:
    with pytest.raises(UsageError, match="https://HOST"):
        await desk.http.get(address, limit=100)


async def test_one_service_is_asked_one_thing_at_a_time(desk: Desk, service: Service) -> None:
    service.hold.clear()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(lambda: desk.http.get(f"{service.base}/document", limit=100))
        await anyio.to_thread.run_sync(service.arrived.wait)
        asked_meanwhile = len(service.asked)
        service.hold.set()
    assert asked_meanwhile == 1
    assert len(service.asked) == 3
