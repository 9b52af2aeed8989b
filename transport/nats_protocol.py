"""The bytes of NATS and JetStream that this transport speaks: no I/O, and any input gives a result.

Commands: docs.nats.io, client protocol. JetStream: ADR-1 (API), ADR-13 (pull), ADR-8 (key-value),
ADR-15 (acknowledgement subjects).
"""

import re
from typing import Annotated, Any

import msgspec

from transport.errors import ConflictError, FullError, TooLargeError, TransportError, UnavailableError
from transport.interface import BucketSpec, ConsumerSpec, Retention, StreamSpec

# nats-server's own ceiling for max_payload.
MAX_BROKER_PAYLOAD = 64 * 1024 * 1024
# An ephemeral consumer that nobody reads is forgotten by the broker after this.
EPHEMERAL_LIFETIME = 60.0
DURABLE_LIFETIME = 48 * 3600.0  # seconds: twice the age that a waiting message reaches

_NANO = 1_000_000_000
_REFUSED = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')

NOT_FOUND = 404
# JetStream's err_code (nats-server, server/errors.json).
NAME_IN_USE = 10058
NO_MESSAGE = 10037
_FULL = {10023, 10028, 10047, 10077, 10122}
_TOO_LARGE = {10054, 10097}
_RETRY_CODES = {503}
# What a broker puts before an empty message to the reply subject of what nobody listened to (ADR-4).
NOBODY = b"NATS/1.0 503"


Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ApiError(msgspec.Struct, frozen=True):
    """Why JetStream refused."""

    code: int = 500
    err_code: int = 0


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as the stream holds it."""

    seq: Sequence = 0
    data: bytes = b""
    hdrs: bytes = b""


class Answer(msgspec.Struct, frozen=True):
    """What is read of any JetStream answer."""

    error: ApiError | None = None
    seq: Sequence = 0
    num_pending: Sequence = 0
    message: StoredMessage | None = None


class AckSubject(msgspec.Struct, frozen=True, gc=False):
    """What a stream message's reply subject says: all of it the broker's word."""

    consumer: str
    delivered: int
    stream_seq: int
    consumer_seq: int
    pending: int


_answers = msgspec.json.Decoder(Answer)


def publish_frame(
    subject: str, payload: bytes, reply: str = "", headers: dict[str, str] | None = None
) -> bytes:
    """Encode PUB or HPUB; subject, reply and headers have been checked."""
    if headers is None:
        return b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply.encode(), len(payload), payload)
    block = header_block(headers)
    size = len(block) + len(payload)
    line = b"HPUB %s %s %d %d\r\n" % (subject.encode(), reply.encode(), len(block), size)
    return b"".join((line, block, payload, b"\r\n"))


def header_block(headers: dict[str, str]) -> bytes:
    """Encode headers."""
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def subscribe_frame(subject: str, queue: str | None, sid: int) -> bytes:
    """Encode SUB."""
    return f"SUB {subject} {queue or ''} {sid}\r\n".encode()


def unsubscribe_frame(sid: int) -> bytes:
    """Encode UNSUB."""
    return f"UNSUB {sid}\r\n".encode()


def parse_headers(block: bytes) -> tuple[int, dict[str, str]]:
    """Read a header block as (status or 0, headers); what is not one reads as nothing."""
    first, *lines = block.split(b"\r\n")
    status = first[9:12] if first.startswith(b"NATS/1.0 ") else b""
    headers = {}
    for line in lines:
        key, colon, value = line.partition(b":")
        if colon:
            headers[key.strip().decode("ascii", "replace")] = value.strip().decode("ascii", "replace")
    return (int(status) if status.isdigit() else 0), headers


def parse_count(text: str | None) -> int | None:
    """Read a small decimal, or None."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


def parse_ack_subject(reply: str) -> AckSubject | None:
    """Read `$JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>`, with or without
    domain and account before the stream (ADR-15); None for what is neither."""
    tokens = reply.split(".")
    if len(tokens) >= 11:
        del tokens[2:4]
    if len(tokens) < 9 or tokens[:2] != ["$JS", "ACK"]:
        return None
    numbers = [parse_count(token) for token in (tokens[4], tokens[5], tokens[6], tokens[8])]
    delivered, stream_seq, consumer_seq, pending = numbers
    if delivered is None or stream_seq is None or consumer_seq is None or pending is None:
        return None
    return AckSubject(tokens[3], max(1, delivered), stream_seq, consumer_seq, pending)


def parse_answer(data: bytes) -> Answer:
    """Read an answer; what is not one is an answer with an error."""
    try:
        return _answers.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Answer(error=ApiError(code=500))


def parse_refusal(text: str) -> tuple[str, str] | None:
    """Read `-ERR 'Permissions Violation ...'`, lower-cased by nats-py, as (kind, subject)."""
    found = _REFUSED.search(text)
    return (found[1], found[2]) if found else None


def retryable(error: ApiError) -> bool:
    """Say whether JetStream only is not ready yet."""
    return error.code in _RETRY_CODES and error.err_code not in _FULL


def acknowledged(answer: Answer, what: str) -> int:
    """Return the sequence number under which a message was stored, or raise why it was not."""
    if answer.error is not None:
        raise as_exception(answer.error, what)
    if answer.seq == 0:
        raise UnavailableError(f"{what}: the broker's answer is no acknowledgement")
    return answer.seq


def as_exception(error: ApiError, what: str) -> TransportError:
    """Name a refusal by what a caller can do about it; the broker's own words stay out."""
    text = f"{what}: the broker answered {error.code}/{error.err_code}"
    if error.err_code in _FULL:
        return FullError(text)
    if error.err_code in _TOO_LARGE:
        return TooLargeError(text)
    if error.code == 400:
        return ConflictError(text)
    return UnavailableError(text)


def stream_config(spec: StreamSpec) -> dict[str, Any]:
    """Describe a stream to JetStream."""
    window = spec.duplicate_window if spec.max_age is None else min(spec.duplicate_window, spec.max_age)
    return {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "retention": "workqueue" if spec.retention is Retention.WORK_QUEUE else "limits",
        "discard": "new",
        "storage": "file",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": spec.max_bytes,
        "max_age": _nano(spec.max_age or 0.0),
        "duplicate_window": _nano(window),
        "num_replicas": spec.replicas,
    }


def bucket_stream(spec: BucketSpec) -> dict[str, Any]:
    """Describe a bucket as the stream that it is (ADR-8)."""
    subjects = (f"$KV.{spec.name}.>",)
    stream = StreamSpec(
        name=f"KV_{spec.name}",
        subjects=subjects,
        max_bytes=spec.max_bytes,
        max_age=spec.max_age,
        replicas=spec.replicas,
    )
    extra = {"max_msgs_per_subject": 1, "allow_rollup_hdrs": True, "deny_delete": True, "allow_direct": True}
    return stream_config(stream) | extra


def consumer_config(spec: ConsumerSpec, name: str, after: int | None) -> dict[str, Any]:
    """Describe a consumer; `after` resumes one without `durable` behind a sequence number."""
    config: dict[str, Any] = {
        "name": name,
        "filter_subjects": [spec.subject],
        "deliver_policy": spec.start.value,
        "replay_policy": "instant",
        "max_deliver": -1,
    }
    if spec.durable is not None:
        explicit = {
            "ack_policy": "explicit",
            "ack_wait": _nano(spec.ack_wait),
            "max_ack_pending": spec.max_pending,
            # Names of classes and of submitters end; what nobody came back to for so long is forgotten.
            "inactive_threshold": _nano(DURABLE_LIFETIME),
        }
        return config | explicit | {"durable_name": name}
    config |= {
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": _nano(EPHEMERAL_LIFETIME),
    }
    if after is not None:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
    return config


def pull_request(batch: int, expires: float, heartbeat: float) -> bytes:
    """Ask for up to `batch` messages (ADR-13)."""
    return msgspec.json.encode(
        {"batch": batch, "expires": _nano(expires), "idle_heartbeat": _nano(heartbeat)}
    )


def nak_body(delay: float) -> bytes:
    """Encode a negative acknowledgement."""
    return b"-NAK" if delay <= 0 else b'-NAK {"delay": %d}' % _nano(delay)


def _nano(seconds: float) -> int:
    return round(seconds * _NANO)
