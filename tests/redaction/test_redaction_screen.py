"""The words on what the broker saw: nothing is called well that was not shown, and no input is told."""

from collections import Counter
from dataclasses import replace

import pytest

from examples.redaction.screen import _saw, _wire
from lab.saw import RECORDING, STORE, Saw
from lab.search import Found
from sealing.own_keys import OwnKeys

FOUND = Found(
    words=40,
    left_out=3,
    hits=Counter(),
    controls=frozenset({RECORDING, STORE}),
    size={RECORDING: 9000, STORE: 700},
    passes=1,
)
CLEAN = Saw(
    messages=12,
    size=9000,
    broker_messages=12,
    found=FOUND,
    unclassified=0,
    own_keys={"coordinator": OwnKeys(9, 0, True), "worker": OwnKeys(5, 0, True)},
    enclaves=2,
)
HIT = replace(FOUND, hits=Counter({(STORE, "hex"): 2}))
BAD = {
    "a hit": (replace(CLEAN, found=HIT), "FOUND 2 as hex in the store"),
    "a control missed": (
        replace(CLEAN, found=replace(FOUND, controls=frozenset({RECORDING}))),
        "what was planted was MISSED",
    ),
    "a message missed": (replace(CLEAN, broker_messages=13), "it counted 13 itself"),
    "bytes that nothing accounts for": (replace(CLEAN, unclassified=4), "4 messages that nothing"),
    "a key found": (replace(CLEAN, own_keys={**CLEAN.own_keys, "worker": OwnKeys(5, 1, True)}), "FOUND 1"),
    "an enclave without its control": (
        replace(CLEAN, own_keys={**CLEAN.own_keys, "worker": OwnKeys(5, 0, False)}),
        "1 enclaves could not tell",
    ),
    "a silent enclave": (replace(CLEAN, enclaves=3), "1 enclaves could not tell"),
}


def said(saw: Saw) -> str:
    return "\n".join(text for _, text in _saw(saw))


def test_nothing_found_is_said_with_what_makes_it_mean_something() -> None:
    text = said(CLEAN)
    assert CLEAN.nothing
    assert "[red]" not in text
    for part in ("12 messages", "700 bytes in its store", "40 lines", "3 too short", "14 secrets"):
        assert part in text


@pytest.mark.parametrize("name", BAD)
def test_whatever_is_amiss_is_said_and_is_not_nothing(name: str) -> None:
    saw, words = BAD[name]
    assert not saw.nothing
    assert words in said(saw)
    assert "[red]" in said(saw)


def test_a_broker_of_others_is_not_said_to_have_counted() -> None:
    found = replace(FOUND, size={RECORDING: 9000}, controls=frozenset({RECORDING}))
    theirs = replace(CLEAN, broker_messages=None, found=found, own_keys={}, enclaves=0)
    assert theirs.nothing
    assert "could not be asked to confirm" in said(theirs)
    assert "not asked" in said(theirs)
    assert _wire(theirs)["store_bytes"] is None


def test_programs_read_the_keys_that_the_design_names() -> None:
    wire = _wire(replace(CLEAN, found=HIT))
    named = {"messages": 12, "bytes": 9000, "broker_in_msgs": 12, "needles": 40, "hits": 2}
    assert named.items() <= wire.items()
    assert wire["control_found"] is True
