"""The vendors' services on loopback, with the faults of real ones, and a clock that nobody waits for."""

import threading
from base64 import encodebytes
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import anyio.lowlevel

from attestation.endorsements import Clock

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class Answer:
    """What a service says to one request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0  # bytes of the body that never come
    held: bool = False  # nothing is said until the service closes


class Service:
    """Answers by path and query, faults first. What was asked is on record."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.faults: deque[Answer] = deque()
        self.asked: list[str] = []
        self.arrived = threading.Event()
        self.hold = threading.Event()
        self.hold.set()
        self.closing = threading.Event()
        self.base = ""

    def answer(self, target: str) -> Answer:
        self.asked.append(target)
        self.arrived.set()
        self.hold.wait()
        if self.faults:
            return self.faults.popleft()
        return self.answers.get(target, Answer(status=404))

    def serve_amd(self, files: dict[str, bytes], product: str, vcek_target: str) -> None:
        """Serve a product's chain, CRL and one chip's VCEK."""
        chain = pem(files["ask.der"]) + pem(files["ark.der"])
        self.answers[f"/vcek/v1/{product}/cert_chain"] = Answer(chain)
        self.answers[f"/vcek/v1/{product}/crl"] = Answer(files["crl.der"])
        self.answers[vcek_target] = Answer(files["vcek.der"])

    def serve_intel(
        self, files: dict[str, bytes], fmspc: str, *, pccs: bool = False, authority: str = "platform"
    ) -> None:
        """Serve the collateral of one platform family; a PCCS names headers of v3 and speaks hexadecimal."""
        tcb = "SGX-TCB-Info-Issuer-Chain" if pccs else "TCB-Info-Issuer-Chain"
        self._chained(f"/tdx/certification/v4/tcb?fmspc={fmspc}", files, "tcb_info.json", tcb)
        identity = "SGX-Enclave-Identity-Issuer-Chain"
        self._chained("/tdx/certification/v4/qe/identity", files, "qe_identity.json", identity)
        crl = f"/sgx/certification/v4/pckcrl?ca={authority}&encoding=der"
        self._chained(crl, files, "pck_crl.der", "SGX-PCK-CRL-Issuer-Chain")
        if pccs:
            self.answers[crl].body = files["pck_crl.der"].hex().encode()
        root = files["root_ca_crl.der"]
        self.answers["/sgx/certification/v4/rootcacrl"] = Answer(root.hex().encode() if pccs else root)

    def _chained(self, target: str, files: dict[str, bytes], name: str, header: str) -> None:
        chain = files[name.rsplit(".", 1)[0] + "_chain.pem"]
        self.answers[target] = Answer(files[name], headers={header: quote(chain.decode("ascii"))})


@contextmanager
def running() -> Iterator[Service]:
    """Run a service on a free port of loopback."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = service.answer(self.path)
            if answer.held:
                service.closing.wait()
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) - answer.cut])
            self.close_connection = bool(answer.cut)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    service.base = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        service.closing.set()
        service.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Time:
    """A clock that stands still but for sleeps, which take no time."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self.passed = 0.0
        self.sleeps: list[float] = []

    def pass_by(self, duration: timedelta) -> None:
        self.now += duration
        self.passed += duration.total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.pass_by(timedelta(seconds=seconds))
        await anyio.lowlevel.checkpoint()

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.passed, self.sleep, lambda: 1.0)


def pem(certificate: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(certificate) + b"-----END CERTIFICATE-----\n"
