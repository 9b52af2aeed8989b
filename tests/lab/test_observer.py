"""The observer of the broker: it misses nothing, finds what is there, and leaves nothing behind."""

import os
from pathlib import Path

import pytest

from lab import observer
from lab.broker import Broker
from lab.observer import CHUNK, Observed, observing
from transport import connect

pytestmark = pytest.mark.anyio


async def test_it_sees_every_message_of_every_subject_and_finds_words_in_them(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        observing(broker.url, tmp_path) as observed,
        connect(broker.url, name="speaker") as speaker,
    ):
        for number in range(500):
            await speaker.publish(f"some.subject.{number}", b"payload %d" % number)
        await speaker.publish("last", b"the end")
        await speaker.flush()
        await observed.wait_for(b"the end")
        found = observed.search([b"payload 499", b"some.subject.7\n", b"never said"])
    assert observed.messages == 501
    assert found == {b"payload 499": 1, b"some.subject.7\n": 1}
    assert os.listdir(tmp_path) == []


async def test_a_word_across_two_chunks_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "CHUNK", 64)
    monkeypatch.setattr(observer, "LONGEST", 16)
    with (tmp_path / "recording").open("w+b") as file:
        observed = Observed(file)
        for offset in range(40, 80):
            file.seek(0)
            file.truncate()
            file.write(b"." * offset + b"needle" + b"." * 100)
            assert observed.search([b"needle"]) == {b"needle": 1}, offset
    assert CHUNK > 64
