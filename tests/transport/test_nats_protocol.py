"""Whatever a broker says reads as something; what we say is what NATS's documents say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import ConflictError, FullError, TooLargeError, TransportError, UnavailableError
from transport.interface import BucketSpec, ConsumerSpec, Retention, Start, StreamSpec
from transport.nats_protocol import (
    AckSubject,
    ApiError,
    as_exception,
    bucket_stream,
    consumer_config,
    nak_body,
    parse_ack_subject,
    parse_answer,
    parse_headers,
    parse_refusal,
    publish_frame,
    pull_request,
    retryable,
    stream_config,
    subscribe_frame,
    unsubscribe_frame,
)

STREAM = StreamSpec(name="s", subjects=("s.>",), max_bytes=1000)


def test_commands_are_those_of_the_client_protocol() -> None:
    assert publish_frame("a.b", b"xy") == b"PUB a.b  2\r\nxy\r\n"
    assert publish_frame("a", b"", "r") == b"PUB a r 0\r\n\r\n"
    assert publish_frame("a", b"xy", "r", {"K": "v"}) == b"HPUB a r 18 20\r\nNATS/1.0\r\nK: v\r\n\r\nxy\r\n"
    assert subscribe_frame("a", "q", 3) == b"SUB a q 3\r\n"
    assert subscribe_frame("a", None, 3) == b"SUB a  3\r\n"
    assert unsubscribe_frame(3) == b"UNSUB 3\r\n"
    assert nak_body(0) == b"-NAK"
    assert nak_body(1.5) == b'-NAK {"delay": 1500000000}'
    assert json.loads(pull_request(5, 2.0, 1.0)) == {
        "batch": 5,
        "expires": 2_000_000_000,
        "idle_heartbeat": 1_000_000_000,
    }


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.S.c.2.30.4.1795476184164914340.5",
        "$JS.ACK._.hash.S.c.2.30.4.1795476184164914340.5",
        "$JS.ACK.domain.hash.S.c.2.30.4.1795476184164914340.5.random",
    ],
)
def test_an_acknowledgement_subject_reads_in_each_of_its_forms(reply: str) -> None:
    assert parse_ack_subject(reply) == AckSubject("c", 2, 30, 4, 5)


@pytest.mark.parametrize(
    "reply",
    ["", "_INBOX.x", "$JS.ACK", "$JS.ACK.S.c.x.1.1.1.1", "$JS.ACK.S.c.1.-1.1.1.1", "$JS.FC.S.c.1.1.1.1.1"],
)
def test_what_is_no_acknowledgement_subject_is_none(reply: str) -> None:
    assert parse_ack_subject(reply) is None


def test_a_delivered_count_is_at_least_one() -> None:
    at = parse_ack_subject("$JS.ACK.S.c.0.1.1.1.0")
    assert at is not None
    assert at.delivered == 1


def test_a_status_reads_with_its_headers() -> None:
    block = b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\nA:b\r\n\r\n"
    assert parse_headers(block) == (408, {"Nats-Pending-Messages": "3", "A": "b"})
    assert parse_headers(b"NATS/1.0\r\nK: v\r\n\r\n") == (0, {"K": "v"})


@given(st.binary())
def test_any_header_block_reads_as_something(block: bytes) -> None:
    status, fields = parse_headers(block)
    assert 0 <= status <= 999
    assert all(name.isascii() or "�" in name for name in fields)


@given(st.text())
def test_any_reply_subject_reads_as_something(reply: str) -> None:
    at = parse_ack_subject(reply)
    assert at is None or at.delivered >= 1


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_answer_reads_as_an_answer_and_junk_as_a_failure(data: bytes) -> None:
    answer = parse_answer(data)
    assert answer.error is not None or data.strip().startswith(b"{")


def test_a_deeply_nested_answer_is_a_failure() -> None:
    assert parse_answer(b'{"x":' * 100_000).error == ApiError(code=500)


@given(st.text())
def test_any_refusal_reads_as_something(text: str) -> None:
    found = parse_refusal(text)
    assert found is None or found[0] in ("publish", "subscription")


def test_a_refusal_names_what_was_refused() -> None:
    text = """'permissions violation for subscription to "a.>" using queue "q"'"""
    assert parse_refusal(text) == ("subscription", "a.>")
    assert parse_refusal("""'permissions violation for publish to "b"'""") == ("publish", "b")
    assert parse_refusal("'authorization violation'") is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ApiError(400, 10071), ConflictError),
        (ApiError(400, 10058), ConflictError),
        (ApiError(400, 10077), FullError),
        (ApiError(503, 10077), FullError),
        (ApiError(500, 10047), FullError),
        (ApiError(400, 10054), TooLargeError),
        (ApiError(404, 10059), UnavailableError),
        (ApiError(500, 0), UnavailableError),
    ],
)
def test_each_refusal_is_what_a_caller_can_do_about_it(error: ApiError, kind: type[TransportError]) -> None:
    assert type(as_exception(error, "x")) is kind


def test_only_a_broker_that_is_not_ready_is_asked_again() -> None:
    assert retryable(ApiError(503, 10008))
    assert not retryable(ApiError(503, 10077))
    assert not retryable(ApiError(404, 10059))


def test_a_stream_refuses_new_messages_and_never_drops_old_ones() -> None:
    config = stream_config(STREAM)
    assert (config["discard"], config["retention"], config["storage"]) == ("new", "limits", "file")
    assert config["duplicate_window"] == 120_000_000_000
    queue = StreamSpec(
        name="s", subjects=("s",), max_bytes=1, retention=Retention.WORK_QUEUE, max_age=60.0, replicas=3
    )
    config = stream_config(queue)
    assert (config["retention"], config["num_replicas"]) == ("workqueue", 3)
    # nats-server refuses a window that is longer than messages live.
    assert config["duplicate_window"] == config["max_age"] == 60_000_000_000


def test_a_bucket_is_a_stream_that_other_clients_know_as_one() -> None:
    config = bucket_stream(BucketSpec(name="b", max_bytes=1))
    assert (config["name"], config["subjects"], config["max_msgs_per_subject"]) == ("KV_b", ["$KV.b.>"], 1)


def test_a_consumer_without_durable_resumes_behind_what_it_had() -> None:
    spec = ConsumerSpec(stream="s", subject="s.>", start=Start.LAST_PER_SUBJECT)
    assert consumer_config(spec, "n", None)["deliver_policy"] == "last_per_subject"
    resumed = consumer_config(spec, "n", 7)
    assert (resumed["deliver_policy"], resumed["opt_start_seq"]) == ("by_start_sequence", 8)
    assert resumed["ack_policy"] == "none"
