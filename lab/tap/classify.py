"""What each byte of a message is to somebody without keys: framing, a listed field, or ciphertext.

Pure, and strict: what the subject table and the layouts do not account for is unclassified, and there must
be none (invariants 1 and 11). Names of fields are those of `schemas.subjects.TABLE`, so of docs/leakage.md.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.tap.asides import Unclassified, check_answer, check_line, check_reply, check_request
from lab.tap.stream import Frame
from schemas import codec
from schemas.errors import MalformedError
from schemas.messages import Hello, Offer
from schemas.scheduling import Assign, Load, TaskMessage
from schemas.subjects import PREFIX, TABLE, Kind, Row
from sealing.frames import (
    GROUP_HEADER,
    KIND_GROUP,
    KIND_RESULT,
    KIND_SESSION,
    KIND_TASK,
    RESULT_HEADER,
    SESSION_HEADER,
    TASK_HEADER,
)
from sealing.padding import MINIMUM, padme

ENCAPSULATION = 1088 + 32  # X-Wing: ML-KEM-768's ciphertext and an X25519 public key
_TAG = 16
_ROWS: Mapping[str, Row] = {row.kind.value: row for row in TABLE}
# So many bytes of a ciphertext have so many values among them, but for a chance of 2^-100; text, base64 and
# padding have fewer. What is compressed has as many: such a leak this cannot see.
_WINDOW, _VALUES = 256, 100
# A task's id and how often it was sent; a result's salt.
_headers_of_streams = re.compile(rb"NATS/1\.0\r\nNats-Msg-Id: ?([0-9a-f]{32}(?:-\d{1,10})?)\r\n\r\n")

CONNECTION, JETSTREAM = "connection", "jetstream"  # kinds of what is said to the broker itself

Clear = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sight:
    """What a message shows. `sealed` is the size of its ciphertext; `clear` names what is readable."""

    kind: str
    sealing: str
    size: int
    sealed: int = 0
    clear: Clear = field(default_factory=dict)


def classify(frame: Frame) -> Sight:
    """Account for every byte of a frame, or raise `Unclassified`."""
    if not frame.is_message:
        check_line(frame)
        return Sight(CONNECTION, "none", len(frame.line))
    size = len(frame.headers) + len(frame.body)
    words = frame.subject.split(".")
    if words[0] != PREFIX:
        return _machinery(frame, size)
    row = _row(words)
    check_reply(frame)
    clear: Clear = {}
    _headers(frame.headers, row, clear)
    try:
        sealed = _READERS[row.kind](frame.body, clear)
    except MalformedError as error:
        raise Unclassified(f"not what is said on {row.kind.value}") from error
    # The table is the promise: a field that is readable and not in it is a leak.
    if stray := {name for name in clear if name not in row.clear and name != "message id"}:
        raise Unclassified(f"the table does not list {', '.join(sorted(stray))}")
    return Sight(row.kind.value, row.sealing.value, size, sealed, clear)


def _row(words: list[str]) -> Row:
    row = _ROWS.get(words[2]) if len(words) == 4 else None
    try:
        named = row is not None and len(bytes.fromhex(words[1])) == 16 and len(bytes.fromhex(words[3])) > 0
    except ValueError:
        named = False
    if row is None or not named:
        raise Unclassified("no subject of the table")
    return row


def _headers(headers: bytes, row: Row, clear: Clear) -> None:
    if not headers:
        return
    found = _headers_of_streams.fullmatch(headers)
    if found is None or row.stream is None:
        raise Unclassified("a header of a kind that nobody needs")
    clear["message id"] = found[1].decode("ascii")


def _machinery(frame: Frame, size: int) -> Sight:
    """JetStream's own. What a stream delivers keeps the subject that it came on."""
    if frame.verb in ("PUB", "HPUB"):
        check_request(frame)
    elif frame.subject.startswith("_INBOX."):
        check_answer(frame)
    else:
        raise Unclassified("a subject of nobody's")
    return Sight(JETSTREAM, "none", size)


def _ciphertext(data: bytes) -> int:
    padded = len(data) - _TAG
    if padded < MINIMUM or padme(padded) != padded:
        raise MalformedError("not of a padded size")
    return _random(data)


def _random(data: bytes) -> int:
    for start in range(0, len(data) - _WINDOW, _WINDOW):
        if len(set(data[start : start + _WINDOW])) < _VALUES:
            raise MalformedError("a part of it is no ciphertext")
    if len(set(data[-_WINDOW:])) < _VALUES:
        raise MalformedError("its end is no ciphertext")
    return len(data)


def _begins(frame: bytes, kind: int, size: int) -> None:
    if len(frame) < size or frame[1] != kind:
        raise MalformedError("not a frame of this kind")


def _group(body: bytes, clear: Clear) -> int:
    _begins(body, KIND_GROUP, GROUP_HEADER.size)
    suite, _, token, epoch, handle, counter = GROUP_HEADER.unpack_from(body)
    _say(clear, suite=suite, epoch_token=token, epoch=epoch, handle=handle, counter=counter)
    return _ciphertext(body[GROUP_HEADER.size :])


def _session(body: bytes, clear: Clear) -> int:
    _begins(body, KIND_SESSION, SESSION_HEADER.size)
    suite, _, session, counter = SESSION_HEADER.unpack_from(body)
    clear["receiver's session id"] = session.hex()
    _say(clear, suite=suite, counter=counter)
    return _ciphertext(body[SESSION_HEADER.size :])


def _result(body: bytes, clear: Clear) -> int:
    _begins(body, KIND_RESULT, RESULT_HEADER.size)
    suite, _, token, epoch, task_id, salt = RESULT_HEADER.unpack_from(body)
    _say(clear, suite=suite, epoch_token=token, epoch=epoch, task_id=task_id, salt=salt)
    return _ciphertext(body[RESULT_HEADER.size :])


def _task(body: bytes, clear: Clear) -> int:
    message = codec.decode(body, TaskMessage)
    hints, frame = message.hints, message.frame
    _begins(frame, KIND_TASK, TASK_HEADER.size)
    suite, _, token, epoch, handle, counter, task_id = TASK_HEADER.unpack_from(frame)
    _say(clear, class_token=hints.class_token, priority=hints.priority, deadline=hints.deadline)
    _say(clear, size_class=hints.size_class, suite=suite, epoch_token=token, epoch=epoch, handle=handle)
    _say(clear, counter=counter, task_id=task_id)
    if hints.affinity is not None:
        _say(clear, affinity=hints.affinity)
    return _ciphertext(frame[TASK_HEADER.size :])


def _assign(body: bytes, clear: Clear) -> int:
    assign = codec.decode(body, Assign)
    clear["the task message as published"] = ""  # its fields are those of `task`
    clear["dead-letter flag"] = str(assign.dead)
    return _task(assign.task, {})


def _hpke(body: bytes, clear: Clear) -> int:
    del clear
    return _random(body[:ENCAPSULATION]) + _ciphertext(body[ENCAPSULATION:])


def _hello(body: bytes, clear: Clear) -> int:
    hello = codec.decode(body, Hello)
    _say(clear, suite=hello.suite, mesh=hello.mesh, challenge=hello.nonce)
    return 0


def _offer(body: bytes, clear: Clear) -> int:
    offer = codec.decode(body, Offer)
    clear["hash of the hello"] = offer.hello.hex()
    clear["Merkle path"] = f"{offer.index} of {offer.count}"
    clear["coordinator's Evidence, endorsements and public keys"] = offer.evidence.type
    clear["signed profile"] = f"{len(offer.profile)} signatures"
    clear["term and its record"] = str(offer.term)
    clear["changes of operators"] = f"{len(offer.operators)} changes"
    return 0


def _load(body: bytes, clear: Clear) -> int:
    load = codec.decode(body, Load)
    _say(clear, assign_token=load.assign_token, credits=load.credits, load_level=load.level)
    clear["class tokens"] = str(len(load.class_tokens))
    clear["task ids and their progress"] = str(len(load.statuses))
    _say(clear, draining=load.draining)
    return 0


def _say(clear: Clear, **fields: bytes | int | bool) -> None:
    for name, value in fields.items():
        clear[name.replace("_", " ")] = value.hex() if isinstance(value, bytes) else str(value)


_READERS: Mapping[Kind, Callable[[bytes, Clear], int]] = {
    Kind.HELLO: _hello,
    Kind.OFFER: _offer,
    Kind.BOOT: _hpke,
    Kind.INBOX: _group,
    Kind.ACCEPT: _hpke,
    Kind.SESSION: _session,
    Kind.BEACON: _group,
    Kind.TASK: _task,
    Kind.LOAD: _load,
    Kind.ASSIGN: _assign,
    Kind.RESULT: _result,
}
