"""What mends itself: consumers that the broker forgot, gaps, lost acknowledgements. And TLS."""

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab import broker as broker_module
from lab.broker import Broker
from transport import BucketSpec, ConsumerSpec, Delivery, StreamSpec, UnavailableError, connect
from transport.nats_transport import NatsTransport

pytestmark = pytest.mark.anyio
MEBIBYTE = 1024 * 1024


@pytest.fixture
async def alice(anyio_backend: str, broker: Broker) -> AsyncIterator[NatsTransport]:
    """A party of the real broker."""
    async with connect(broker.url, name="alice") as transport:
        yield transport


async def append(transport: NatsTransport, name: str, numbers: range) -> None:
    for number in numbers:
        await transport.append(f"{name}.a", b"%d" % number, message_id=str(number))


async def test_a_consumer_that_the_broker_forgot_is_made_again(alice: NatsTransport, unique: str) -> None:
    await alice.ensure_stream(StreamSpec(name=unique, subjects=(f"{unique}.>",), max_bytes=MEBIBYTE))
    consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>", durable="workers"))
    await append(alice, unique, range(1))
    async with asyncio.timeout(90):
        first = await anext(consumer)
    # So the broker has our pull request and will say that it is void; otherwise only silence would tell.
    await first.ack()
    await alice._session.api(f"CONSUMER.DELETE.{unique}.workers", {})
    await append(alice, unique, range(1, 2))
    async with asyncio.timeout(90):
        assert b"1" in {(await anext(consumer)).payload, (await anext(consumer)).payload}


async def test_an_ordered_consumer_closes_a_gap(alice: NatsTransport, unique: str) -> None:
    await alice.ensure_stream(StreamSpec(name=unique, subjects=(f"{unique}.>",), max_bytes=MEBIBYTE))
    consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>"))
    await append(alice, unique, range(3))
    async with asyncio.timeout(90):
        got = [(await anext(consumer)).payload for _ in range(3)]
    # As if a message had been lost on the way.
    consumer._next_consumer_seq += 1
    await append(alice, unique, range(3, 6))
    async with asyncio.timeout(90):
        got += [(await anext(consumer)).payload for _ in range(3)]
    assert got == [b"%d" % number for number in range(6)]


async def test_an_ephemeral_consumer_leaves_nothing_at_the_broker(alice: NatsTransport, unique: str) -> None:
    await alice.ensure_stream(StreamSpec(name=unique, subjects=(f"{unique}.>",), max_bytes=MEBIBYTE))
    consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>"))
    await consumer.close()
    await alice.flush()
    answer = await alice._session.api(f"CONSUMER.INFO.{unique}.{consumer._name}", {})
    assert answer.error is not None
    assert answer.error.code == 404


async def test_a_put_whose_acknowledgement_was_lost_does_not_conflict_with_itself(
    alice: NatsTransport, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.ensure_bucket(BucketSpec(name=unique, max_bytes=MEBIBYTE))
    monkeypatch.setattr(alice._session, "new_token", lambda: "the-same")
    revision = await alice.kv_put(unique, "key", b"x", revision=0)
    assert await alice.kv_put(unique, "key", b"x", revision=0) == revision


async def test_a_cancelled_block_closes_its_connection(broker: Broker) -> None:
    with anyio.CancelScope() as scope:
        async with connect(broker.url, name="carol") as carol:
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert carol.state == "closed"
    assert carol._session.wire is None


async def test_two_errors_at_once_are_both_told(broker: Broker, unique: str) -> None:
    async def handler(delivery: Delivery) -> None:
        raise ZeroDivisionError

    async def use() -> None:
        async with connect(broker.url, name="carol") as carol:
            await carol.subscribe(unique, handler)
            await carol.publish(unique, b"")
            try:
                await anyio.sleep_forever()
            finally:
                raise KeyError

    with pytest.raises(BaseExceptionGroup) as errors:
        await use()
    assert {type(error) for error in errors.value.exceptions} == {ZeroDivisionError, KeyError}


# TLS


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that is its own root."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


@pytest.fixture
async def tls_broker(
    anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Broker, Path]]:
    """A broker that wants TLS, and the root of its certificate."""
    certificate, key = make_certificate(tmp_path)
    plain = broker_module.server_config

    def with_tls(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return plain(*args, **kwargs) | {"tls": {"cert_file": str(certificate), "key_file": str(key)}}

    monkeypatch.setattr(broker_module, "server_config", with_tls)
    async with Broker(tmp_path / "broker") as broker:
        yield broker, certificate


async def test_a_broker_with_a_trusted_certificate_is_used(
    tls_broker: tuple[Broker, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, root = tls_broker
    monkeypatch.setenv("SSL_CERT_FILE", str(root))
    async with connect(f"tls://127.0.0.1:{broker.port}", name="alice") as alice:
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        await alice.subscribe("a", lambda delivery: heard.put(delivery.payload))
        await alice.publish("a", b"x" * 500_000)
        async with asyncio.timeout(90):
            assert len(await heard.get()) == 500_000
        assert alice._session.wire is not None
        assert alice._session.wire._streams()[1].get_extra_info("cipher") is not None


async def test_a_broker_with_another_certificate_is_not_used(tls_broker: tuple[Broker, Path]) -> None:
    broker, _ = tls_broker
    with pytest.raises(UnavailableError):
        async with connect(f"tls://127.0.0.1:{broker.port}", name="alice", patience=0.5):
            pass


async def test_a_tls_url_never_goes_on_in_the_clear(broker: Broker) -> None:
    with pytest.raises(UnavailableError):
        async with connect(f"tls://127.0.0.1:{broker.port}", name="alice", patience=0.3):
            pass
