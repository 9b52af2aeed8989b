"""The table of the wire: who says what kind to whom, how it is sealed and how large; never contents."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from lab.attached import BROKER_URL
from lab.mesh import WIRE
from lab.state import State, hold_part
from lab.tap import Frame, Towards
from lab.tap.recording import Recorder
from lab.wire import Wire, bucket, table, wire_command
from schemas import codec
from schemas.errors import UsageError
from schemas.messages import Hello
from schemas.subjects import Kind, subject
from sealing.frames import GROUP_HEADER, KIND_GROUP

MESH = bytes(range(32))
HELLO = codec.encode(Hello(1, MESH, b"n" * 32))
BEACON = GROUP_HEADER.pack(1, KIND_GROUP, b"t" * 16, 1, b"h" * 76, 1) + bytes(range(256)) + bytes(range(16))


def write(recorder: Recorder, party: str, towards: Towards, kind: Kind, body: bytes) -> None:
    verb, sid = ("PUB", "") if towards is Towards.BROKER else ("MSG", "1")
    frame = Frame(verb, subject=subject(MESH, kind), sid=sid, body=body)
    recorder.write(1, party, towards, frame.encode(), None)
    recorder.flush()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(tmp_path / WIRE)
    for number in range(1, 4):
        write(made, f"redactor-{number}", Towards.BROKER, Kind.HELLO, HELLO)
        write(made, "coordinator", Towards.PARTY, Kind.HELLO, HELLO)
        write(made, f"redactor-{number}", Towards.PARTY, Kind.BEACON, BEACON)
    write(made, "coordinator", Towards.BROKER, Kind.BEACON, BEACON)
    made.write(1, "coordinator", Towards.BROKER, b"PING\r\n", None)
    made.flush()
    yield made
    made.close()


def shown(wire: Wire, width: int = 140) -> str:
    output = io.StringIO()
    Console(file=output, width=width).print(table(wire, now=2**41))
    return output.getvalue()


def test_a_row_for_each_kind_says_who_and_how_it_is_sealed(recorder: Recorder, tmp_path: Path) -> None:
    wire = Wire()
    wire.follow(tmp_path / WIRE)
    text = shown(wire)
    (hello,) = [line for line in text.splitlines() if "hello" in line]
    assert ["anybody" in hello, "redactor-*" in hello, "coordinator" in hello, "≤ 128 B" in hello] == [
        True
    ] * 4
    (beacon,) = [line for line in text.splitlines() if "beacon" in line]
    assert "admitted parties" in beacon
    assert "UNCLASSIFIED" not in text


def test_it_fits_a_terminal_a_row_in_a_line(recorder: Recorder, tmp_path: Path) -> None:
    wire = Wire()
    wire.follow(tmp_path / WIRE)
    text = shown(wire, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) == 2 + len({kind for _, _, kind in wire.lines})


def test_what_nothing_accounts_for_has_a_row_of_its_own_without_its_contents(
    recorder: Recorder, tmp_path: Path
) -> None:
    write(recorder, "vault", Towards.BROKER, Kind.BEACON, b"a secret that slipped out")
    wire = Wire()
    wire.follow(tmp_path / WIRE)
    assert "UNCLASSIFIED" in shown(wire)
    assert "slipped" not in shown(wire)


def test_it_goes_on_from_where_it_was(recorder: Recorder, tmp_path: Path) -> None:
    wire = Wire()
    wire.follow(tmp_path / WIRE)
    before = wire.frames
    wire.follow(tmp_path / WIRE)
    assert wire.frames == before
    write(recorder, "vault", Towards.BROKER, Kind.HELLO, HELLO)
    wire.follow(tmp_path / WIRE)
    assert wire.frames == before + 1


def test_programs_get_one_object(recorder: Recorder, tmp_path: Path) -> None:
    result = CliRunner().invoke(wire_command, ["--dir", str(tmp_path), "--json"])
    found = json.loads(result.output)
    assert found["unclassified"] == 0
    (line,) = [each for each in found["lines"] if each["party"] == "redactor-1" and each["kind"] == "hello"]
    assert (line["towards"], line["sealing"], line["messages"]) == ("broker", "none", 1)
    assert line["clear"] == ["challenge", "mesh", "suite"]


def test_a_demos_own_control_is_named_as_such_and_nothing_else_is(recorder: Recorder, tmp_path: Path) -> None:
    write(recorder, "client", Towards.BROKER, Kind.HELLO, b"control " + b"0f" * 16)
    wire = Wire()
    wire.follow(tmp_path / WIRE)
    (planted,) = [line for line in shown(wire).splitlines() if "planted" in line]
    assert "a demo's control" in planted
    assert "UNCLASSIFIED" not in shown(wire)
    write(recorder, "client", Towards.BROKER, Kind.HELLO, b"control " + b"0f" * 16 + b" and a secret")
    wire.follow(tmp_path / WIRE)
    assert "UNCLASSIFIED" in shown(wire)


def test_a_recording_of_a_lab_that_ended_is_not_shown_as_live(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BROKER_URL, raising=False)
    os.utime(tmp_path / WIRE, (0, 0))
    result = CliRunner().invoke(wire_command, ["--dir", str(tmp_path)])  # and ends by itself
    assert "not running: recording of 1970-01-01 00:00:00" in result.output
    found = json.loads(CliRunner().invoke(wire_command, ["--dir", str(tmp_path), "--json"]).output)
    assert (found["running"], found["ended"]) == (False, "1970-01-01 00:00:00+00:00")


@pytest.mark.parametrize("part", ["up", "tap"])
def test_what_a_lab_records_now_is_shown_as_live(recorder: Recorder, tmp_path: Path, part: str) -> None:
    with hold_part(State(tmp_path), part):
        result = CliRunner().invoke(wire_command, ["--dir", str(tmp_path), "--once"])
    assert "the wire: 11 frames" in result.output
    assert "not running" not in result.output


def test_a_broker_elsewhere_may_have_a_tap(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BROKER_URL, "nats://127.0.0.1:1")
    result = CliRunner().invoke(wire_command, ["--dir", str(tmp_path), "--once"])
    assert "not running" not in result.output


def test_without_a_recording_the_next_step_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(wire_command, ["--dir", str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    assert "lab up --tap" in str(result.exception)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "≤ 1 B"), (1, "≤ 1 B"), (300, "≤ 512 B"), (512, "≤ 512 B"), (513, "≤ 1 KiB"), (2**20, "≤ 1 MiB")],
)
def test_sizes_are_told_as_powers_of_two(size: int, text: str) -> None:
    assert bucket(size) == text
