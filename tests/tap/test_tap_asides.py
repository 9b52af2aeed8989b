"""What is said to the broker itself: what sealbus has a use for, and not a word more."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.tap import CONNECTION, JETSTREAM, Frame, Unclassified, classify
from schemas.subjects import RESULT_STREAM, TASK_STREAM, Kind, every, stream_name, subject
from transport import ConsumerSpec, Retention, StreamSpec
from transport.nats_protocol import consumer_config, nak_body, pull_request, stream_config

MESH = bytes(range(32))
TASKS, RESULTS = stream_name(MESH, TASK_STREAM), stream_name(MESH, RESULT_STREAM)
DURABLE = "class-" + "0f" * 16
INBOX = "_INBOX." + "0f" * 11
ANSWER, PULLED = f"{INBOX}.r.7", f"{INBOX}.c." + "1e" * 11
ACK = f"$JS.ACK.{TASKS}.{DURABLE}.1.23.7.1795691135096090258.1"
CREATE = f"$JS.API.CONSUMER.CREATE.{TASKS}.{DURABLE}"
CONSUMER = {
    "stream_name": TASKS,
    "config": consumer_config(
        ConsumerSpec(stream=TASKS, subject=every(MESH, Kind.TASK), durable=DURABLE), DURABLE, None
    ),
}
CONNECT = {
    "echo": True,
    "headers": True,
    "lang": "python3",
    "name": "agent",
    "nkey": "U" + "A2" * 27 + "A",
    "sig": "a" * 86 + "==",
    "protocol": 1,
    "verbose": False,
    "version": "2.16.0",
}


def request(name: str, body: object, answer: str = ANSWER) -> Frame:
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Frame("PUB", subject=name, reply=answer, body=said)


def line(verb: str, text: object) -> Frame:
    return Frame(verb, text if isinstance(text, bytes) else json.dumps(text).encode())


@pytest.mark.parametrize(
    "frame",
    [
        request(
            f"$JS.API.STREAM.CREATE.{TASKS}",
            stream_config(
                StreamSpec(
                    name=TASKS,
                    subjects=(every(MESH, Kind.TASK),),
                    max_bytes=2**20,
                    retention=Retention.WORK_QUEUE,
                )
            ),
        ),
        request(CREATE, CONSUMER),
        request(f"$JS.API.CONSUMER.MSG.NEXT.{RESULTS}.{DURABLE}", pull_request(64, 30, 5), PULLED),
        request(f"$JS.API.CONSUMER.DELETE.{RESULTS}.{DURABLE}", {}),
        request(ACK, b"+ACK", ""),
        request(ACK, b"+WPI", ""),
        request(ACK, nak_body(0), ""),
        request(ACK, nak_body(2.5), ""),
        Frame("MSG", subject=ANSWER, sid="1", body=b'{"stream":"s","seq":33}'),
        Frame("HMSG", subject=PULLED, sid="1", headers=b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"),
    ],
    ids=lambda frame: f"{frame.subject.split('.')[0]} {frame.body[:12].decode()}",
)
def test_what_the_transport_says_to_jetstream_and_hears_is_known(frame: Frame) -> None:
    assert classify(frame).kind == JETSTREAM


@pytest.mark.parametrize(
    "frame",
    [
        line("CONNECT", CONNECT),
        line("CONNECT", CONNECT | {"name": "operator"}),
        line("SUB", f"{INBOX}.r.*  1".encode()),
        line("SUB", f"{PULLED}  3".encode()),
        line("SUB", f"{subject(MESH, Kind.ASSIGN, bytes(16))}  4".encode()),
        line("SUB", f"{every(MESH, Kind.LOAD)}  5".encode()),
        line("UNSUB", b"5"),
        line("PING", b""),
        line("PONG", b""),
        line("INFO", b'{"server_id":"of the broker\'s own choice"}'),
        line("-ERR", b"'Permissions Violation'"),
    ],
    ids=lambda frame: frame.verb,
)
def test_what_a_connection_needs_is_known(frame: Frame) -> None:
    assert classify(frame).kind == CONNECTION


@pytest.mark.parametrize(
    "options",
    [
        CONNECT | {"name": "Jane Doe's agent"},
        CONNECT | {"lang": "a secret"},
        CONNECT | {"version": "a secret"},
        CONNECT | {"nkey": "a secret"},
        CONNECT | {"sig": "a secret"},
        CONNECT | {"echo": "a secret"},
        CONNECT | {"protocol": 4711},
        CONNECT | {"note": True},
        [CONNECT],
        b'{"name": "a secret", "name": "agent"}',
        b"[" * 50_000,
        b"a secret",
    ],
    ids=repr,
)
def test_a_connection_says_its_kind_of_party_and_no_more(options: object) -> None:
    with pytest.raises(Unclassified):
        classify(line("CONNECT", options))


@pytest.mark.parametrize(
    "frame",
    [
        line("SUB", b"a.secret 1"),
        line("SUB", f"{every(MESH, Kind.LOAD)} a-secret-group 5".encode()),
        line("SUB", b"_INBOX.jane.r.* 1"),
        line("UNSUB", b"a secret"),
        line("PING", b"a secret"),
        line("PONG", b"a secret"),
    ],
    ids=lambda frame: f"{frame.verb} {frame.line[:16].decode()}",
)
def test_lines_cannot_carry_words_of_ones_own(frame: Frame) -> None:
    with pytest.raises(Unclassified):
        classify(frame)


def changed(**fields: object) -> dict[str, object]:
    return {"stream_name": TASKS, "config": {**CONSUMER["config"], **fields}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "frame",
    [
        request(CREATE, changed(description="a secret")),
        request(CREATE, changed(metadata={"a": "secret"})),
        request(CREATE, changed(durable_name="a secret")),
        request(CREATE, changed(ack_wait="a secret")),
        request(CREATE, changed(ack_wait=2**64)),
        request(CREATE, changed(ack_wait=0.5)),
        request(CREATE, b"[]"),
        request(f"$JS.API.CONSUMER.DELETE.{RESULTS}.{DURABLE}", {"batch": 1}),
        request(CREATE, b'{"stream_name": "a secret", "stream_name": "%s"}' % TASKS.encode()),
        request(CREATE, CONSUMER, "a.secret"),
        Frame("HPUB", subject=CREATE, headers=b"NATS/1.0\r\nA: secret\r\n\r\n", body=b"{}"),
        request("$JS.API.CONSUMER.CREATE.a-secret.x", CONSUMER),
        request("$JS.API.STREAM.MSG.GET.x", b"{}"),
        request(ACK, b"+ACK a secret", ""),
        request(ACK, b"-NAK a secret", ""),
        request(ACK, b"+ACK", ANSWER),
        request(ACK, b"", ""),
        request(ACK + ".secret", b"+ACK", ""),
        request("_INBOX.of.somebody", b"{}", ""),
        request("a.secret", b"", ""),
        Frame("MSG", subject="a.secret", sid="1", body=b"{}"),
        Frame("MSG", subject=ANSWER, sid="1", body=b"a secret"),
        Frame("HMSG", subject=ANSWER, sid="1", headers=b"a secret\r\n\r\n"),
    ],
    ids=range(23),
)
def test_a_request_cannot_carry_words_of_ones_own(frame: Frame) -> None:
    with pytest.raises(Unclassified):
        classify(frame)


@given(
    st.builds(
        Frame,
        st.sampled_from(["CONNECT", "SUB", "UNSUB", "PUB", "HPUB", "MSG", "HMSG"]),
        line=st.binary(max_size=60),
        subject=st.text(max_size=20) | st.sampled_from([CREATE, ACK, ANSWER]),
        reply=st.text(max_size=20),
        headers=st.binary(max_size=40),
        body=st.binary(max_size=60) | st.just(b"{}"),
    )
)
def test_any_frame_is_known_or_unclassified(frame: Frame) -> None:
    with contextlib.suppress(Unclassified):
        classify(frame)
