"""What parties say to the broker itself: who connects, what is subscribed, JetStream's requests and answers.

Pure, and strict: every word of it is of a form that sealbus has a use for, so that nothing else can be said
here. docs/leakage.md lists the same under "What a broker learns beside the messages".
"""

import json
import re
from collections.abc import Callable, Mapping

from lab.tap.stream import Frame
from schemas.errors import PeerError, Reason
from schemas.subjects import RESULT_STREAM, TASK_STREAM, Kind, Party

OPERATOR = "operator"  # connects as a client, by this name

_TOKEN = "[0-9a-f]{22}"  # noqa: S105 - a part of a subject, which the transport draws
_STREAM = rf"sealbus-[0-9a-f]{{32}}-(?:{TASK_STREAM}|{RESULT_STREAM})"
_CONSUMER = r"(?:class|reply)-[0-9a-f]{32}"
_INBOX = rf"_INBOX\.{_TOKEN}"
_UNHEARD = rf"{_INBOX}\.u\.(?:[0-9a-f]{{16}}|[0-9a-f]{{32}})"  # a session, or an init
_REPLY = rf"{_INBOX}\.(?:r\.\d{{1,12}}|c\.{_TOKEN})"
_MESH = rf"sb\.[0-9a-f]{{32}}\.(?:{'|'.join(Kind)})\.(?:(?:[0-9a-f]{{2}}){{1,32}}|\*)"
_ACK = rf"\$JS\.ACK\.{_STREAM}\.{_CONSUMER}(?:\.\d{{1,20}}){{5}}"

reply = re.compile(rf"{_REPLY}|{_UNHEARD}")
acknowledged = re.compile(_ACK)
_subscribed = re.compile(rf"(?:{_MESH}|{_REPLY}|{_INBOX}\.[ru]\.\*)  ?\d{{1,12}}")
_unsubscribed = re.compile(r"\d{1,12}(?: \d{1,12})?")
_acknowledgement = re.compile(rb'\+ACK|\+WPI|-NAK(?: \{"delay": \d{1,20}\})?')
_requests = {
    re.compile(rf"\$JS\.API\.STREAM\.(?:CREATE|UPDATE)\.{_STREAM}"): "stream",
    re.compile(rf"\$JS\.API\.CONSUMER\.CREATE\.{_STREAM}\.{_CONSUMER}"): "consumer",
    re.compile(rf"\$JS\.API\.CONSUMER\.MSG\.NEXT\.{_STREAM}\.{_CONSUMER}"): "pull",
    re.compile(rf"\$JS\.API\.CONSUMER\.DELETE\.{_STREAM}\.{_CONSUMER}"): "end",
}
# The words that a request may have besides names, numbers and yes or no.
_SAID = frozenset({"workqueue", "new", "file", "all", "instant", "explicit"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "stream": frozenset(
        {
            *(
                "name",
                "subjects",
                "retention",
                "discard",
                "storage",
                "max_consumers",
                "max_msgs",
                "max_bytes",
            ),
            *("max_age", "duplicate_window", "num_replicas"),
        }
    ),
    "consumer": frozenset(
        {
            *("stream_name", "config", "name", "durable_name", "filter_subjects", "deliver_policy"),
            *("replay_policy", "max_deliver", "ack_policy", "ack_wait", "max_ack_pending"),
            "inactive_threshold",
        }
    ),
    "pull": frozenset({"batch", "expires", "idle_heartbeat"}),
    "end": frozenset(),
}
_name = re.compile(rf"{_STREAM}|{_CONSUMER}|{_MESH}")
_OPTIONS: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(
        ("echo", "headers", "no_responders", "pedantic", "verbose", "tls_required"),
        lambda value: isinstance(value, bool),
    ),
    "protocol": lambda value: value in (0, 1),
    "lang": lambda value: value == "python3",
    "version": lambda value: _is(value, r"\d{1,3}\.\d{1,3}\.\d{1,3}"),
    "name": lambda value: value in {*Party, OPERATOR},
    "nkey": lambda value: _is(value, "U[A-Z2-7]{55}"),
    "sig": lambda value: _is(value, "[A-Za-z0-9+/_-]{86}(?:==)?"),
}


class Unclassified(PeerError):  # noqa: N818 - it is what the bytes are
    """Bytes that nothing accounts for."""

    def __init__(self, why: str) -> None:
        super().__init__(Reason.MALFORMED, why)


def check_line(frame: Frame) -> None:
    """Account for a line that is no message, as far as a party says it; a broker's own are its affair."""
    match frame.verb:
        case "CONNECT":
            _connects(frame.line)
        case "SUB" if not _fits(_subscribed, frame.line):
            raise Unclassified("a subscription to what nobody needs")
        case "UNSUB" if not _fits(_unsubscribed, frame.line):
            raise Unclassified("more than the end of a subscription")
        case "PING" | "PONG" if frame.line:
            raise Unclassified("more than a sign of life")


def check_request(frame: Frame) -> None:
    """Account for what a party says to JetStream."""
    if frame.headers:
        raise Unclassified("a header where JetStream needs none")
    if acknowledged.fullmatch(frame.subject):
        if not _acknowledgement.fullmatch(frame.body) or frame.reply:
            raise Unclassified("more than an acknowledgement")
        return
    for form, kind in _requests.items():
        if form.fullmatch(frame.subject):
            check_reply(frame)
            _plain(_object(frame.body), _FIELDS[kind])
            return
    raise Unclassified("a request that nobody makes")


def check_answer(frame: Frame) -> None:
    """Account for what JetStream says to a party: a status or JSON, in the broker's own words."""
    if frame.headers and not frame.headers.startswith(b"NATS/1.0 "):
        raise Unclassified("headers that are no status")
    if frame.body:
        _object(frame.body)


def check_reply(frame: Frame) -> None:
    """Account for where an answer is wanted."""
    if frame.reply and not (reply.fullmatch(frame.reply) or acknowledged.fullmatch(frame.reply)):
        raise Unclassified("an answer wanted where nobody listens")


def _connects(line: bytes) -> None:
    options = _object(line)
    for name, value in options.items():
        if name not in _OPTIONS or not _OPTIONS[name](value):
            raise Unclassified("a connection that says more than its kind of party")


def _object(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise Unclassified("neither JSON nor an acknowledgement") from error
    if not isinstance(found, dict):
        raise Unclassified("JSON of another form")
    return found


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # The last of two fields of one name would hide the first.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field twice")
    return found


def _plain(value: object, fields: frozenset[str]) -> None:
    if isinstance(value, dict):
        if not fields.issuperset(value):
            raise Unclassified("a request with a field that nobody needs")
        for each in value.values():
            _plain(each, fields)
    elif isinstance(value, list):
        for each in value:
            _plain(each, fields)
    elif isinstance(value, str):
        if value not in _SAID and not _name.fullmatch(value):
            raise Unclassified("a request with a word that nobody needs")
    elif not isinstance(value, int) or abs(value) >= 2**63:
        raise Unclassified("a request with a value that nobody needs")


def _fits(form: "re.Pattern[str]", line: bytes) -> bool:
    return form.fullmatch(line.decode("latin-1")) is not None


def _is(value: object, form: str) -> bool:
    return isinstance(value, str) and re.fullmatch(form, value) is not None
