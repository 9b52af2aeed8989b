"""Asking a public service politely and with bounds: one request at a time, back-off, deadlines, sizes.

What comes back is bytes that nobody vouches for: TLS says which server spoke, and that decides nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from secrets import SystemRandom

import anyio
import httpx

from attestation.endorsements.errors import NoSuchDocumentError, ServiceUnavailableError, WrongDocumentError
from schemas.errors import Reason, UsageError

_LATER = frozenset({429, 500, 502, 503, 504})
_NEVER = frozenset({404, 410})  # Intel withdraws old TCB evaluation numbers with 410


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on asking. Times are in seconds."""

    attempts: int = 7
    connections: int = 4  # attempts that reach nobody: more often than a host is away, an address is wrong
    first_wait: float = 2.0  # doubled each time, less up to half by chance
    longest_wait: float = 90.0
    in_all: float = 300.0  # AMD's service is known to throttle for longer than two minutes
    deadline: float = 30.0  # of one attempt, connection and whole answer
    connecting: float = 10.0  # of that, until the service is reached


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, sleep and chance, so that tests need none of them."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = anyio.current_time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = SystemRandom().random


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its body as it was served, and its headers by lower-case name."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class _LaterError(Exception):
    """One attempt failed in a way that may pass; `after` is how many seconds the service asks to wait."""

    def __init__(self, why: str, after: float = 0.0, *, reached: bool = True) -> None:
        super().__init__(why)
        self.after = after
        self.reached = reached


class Http:
    """GET with manners over a client that the caller owns, for one event loop.

    `notice` is told in a sentence why it waits, for whoever waits too.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        patience: Patience | None = None,
        clock: Clock | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._patience = patience or Patience()
        self._clock = clock or Clock()
        self._notice = notice
        self._turns: dict[str, anyio.Lock] = {}
        self._quiet_until: dict[str, float] = {}

    async def get(self, url: str, *, limit: int, once: bool = False) -> Response:
        """Return what `url` serves, of at most `limit` bytes; `once`: without a second attempt or a wait.

        Raises `ServiceUnavailableError`, `NoSuchDocumentError`, `WrongDocumentError`; `UsageError` for a URL
        that is none.
        """
        host = _host(url)
        attempts = 1 if once else self._patience.attempts
        tried, unreached, waited, why = 0, 0, 0.0, "it asked to wait"
        while True:
            # A service that throttles is asked one thing at a time: more would only prolong it.
            async with self._turns.setdefault(host, anyio.Lock()):
                wait = self._quiet_until.get(host, -inf) - self._clock.monotonic()
                if wait <= 0:
                    try:
                        return await self._attempt(url, host, limit)
                    except _LaterError as error:
                        why, wait = str(error), max(error.after, self._backoff(tried))
                        self._quiet_until[host] = self._clock.monotonic() + wait
                        unreached += not error.reached
                    tried += 1
            waited += wait
            if unreached == self._patience.connections:
                raise ServiceUnavailableError(
                    f"{url}: {why}; check the address, and whether there is a network"
                )
            if once or tried == attempts or waited > self._patience.in_all:
                raise ServiceUnavailableError(f"{host}: {why}; ask again in {wait:.0f} s")
            self._notice(f"{host}: {why}; asking again in {wait:.0f} s")
            await self._clock.sleep(wait)

    def _backoff(self, attempt: int) -> float:
        wait = min(self._patience.first_wait * 2.0**attempt, self._patience.longest_wait)
        return wait * (0.5 + self._clock.random() / 2)

    async def _attempt(self, url: str, host: str, limit: int) -> Response:
        try:
            # httpx's own timeouts are between two bytes: a server that drips would hold us for ever.
            with anyio.fail_after(self._patience.deadline):
                return await self._read(url, host, limit)
        except TimeoutError as error:
            raise _LaterError(f"no whole answer in {self._patience.deadline:g} s") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            why = f"the connection failed ({type(error).__name__}: nobody answers there)"
            raise _LaterError(why, reached=False) from error
        except httpx.TransportError as error:
            raise _LaterError(f"the connection failed ({type(error).__name__})") from error
        except (httpx.InvalidURL, UnicodeError) as error:
            # The address that was asked for has been read by now: this is one in the answer.
            raise WrongDocumentError(Reason.MALFORMED, f"{host} names an address that is none") from error

    async def _read(self, url: str, host: str, limit: int) -> Response:
        # Uncompressed, so that a bound on what arrives is a bound on what it becomes.
        headers = {"accept-encoding": "identity"}
        async with self._client.stream("GET", url, headers=headers, follow_redirects=False) as response:
            self._judge(response, host)
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    raise WrongDocumentError(
                        Reason.TOO_LARGE, f"{host} sent more than {limit} bytes, which no genuine answer has"
                    )
            return Response(bytes(body), {name.lower(): value for name, value in response.headers.items()})

    def _judge(self, response: httpx.Response, host: str) -> None:
        status = response.status_code
        if status in _LATER:
            what = "it throttles us" if status == httpx.codes.TOO_MANY_REQUESTS else "it is in trouble"
            after = _retry_after(response.headers.get("retry-after", ""), self._clock.now())
            raise _LaterError(f"{what} (HTTP {status})", after)
        if status in _NEVER:
            raise NoSuchDocumentError(f"{host} has no such document (HTTP {status})")
        if response.is_redirect:
            raise WrongDocumentError(
                Reason.NO_COLLATERAL,
                f"{host} redirects (HTTP {status}), which is not followed: name the service's own address",
            )
        if status != httpx.codes.OK:
            raise WrongDocumentError(Reason.NO_COLLATERAL, f"{host} refused the request (HTTP {status})")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise WrongDocumentError(Reason.MALFORMED, f"{host} sent a compressed answer unasked")


def _host(url: str) -> str:
    try:
        parsed = httpx.URL(url)
        scheme, host, netloc = parsed.scheme, parsed.host, parsed.netloc.decode("ascii")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise UsageError("that is no address of a service: write it as https://HOST") from error
    if scheme not in ("http", "https") or not host:
        raise UsageError(f"{url} is no address of a service: write it as https://HOST")
    return netloc


def _retry_after(value: str, now: datetime) -> float:
    """Read Retry-After (RFC 9110 section 10.2.3), seconds or a date; 0 if it is absent or nonsense."""
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
