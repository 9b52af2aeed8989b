"""`docs/leakage.md` lists what the subject table says is readable, and a place for every kind of subject."""

import re
from pathlib import Path

import msgspec
import pytest

from console import leakage
from schemas.codec import Message
from schemas.errors import UsageError
from schemas.messages import Hello, Offer
from schemas.scheduling import Assign, Load, TaskHints
from schemas.subjects import TABLE, Kind, Row

DOCUMENT = Path(__file__).parents[2] / "docs" / "leakage.md"


def test_leakage_table_is_the_subject_table() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert leakage.renewed(text) == text, "run: python -m console.leakage docs/leakage.md"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.kind.value)
def test_leakage_table_names_every_readable_field(row: Row) -> None:
    [line] = [line for line in leakage.table().splitlines() if line.startswith(f"| `{row.kind.value}` |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == [", ".join(row.publishers), ", ".join(row.subscribers)]
    assert cells[5].split("; ") == list(row.clear or ("nothing",))


def test_leakage_says_of_every_kind_what_its_token_tells() -> None:
    _, _, rest = DOCUMENT.read_text("utf-8").partition("## What stands in the last token of a subject")
    tokens, _, _ = rest.partition("\n## ")
    first_cells = [line.split("|")[1] for line in tokens.splitlines() if line.startswith("|")]
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == {kind.value for kind in Kind}


# How the document calls the fields of what travels without a seal. A new field needs a word here and there.
WORDS: dict[type[Message], dict[str, str]] = {
    Hello: {"suite": "suite", "mesh": "mesh", "nonce": "challenge"},
    Offer: {
        "hello": "hash of the hello",
        "index": "Merkle path",
        "path": "Merkle path",
        "count": "Merkle path",
        "evidence": "Evidence",
        "endorsements": "endorsements",
        "signing_key": "public keys",
        "kem_key": "public keys",
        "profile": "signed profile",
        "term": "term",
        "term_record": "term and its record",
        "operators": "changes of operators",
    },
    TaskHints: {
        "class_token": "class token",
        "priority": "priority",
        "deadline": "deadline",
        "size_class": "size class",
        "affinity": "affinity",
    },
    Load: {
        "assign_token": "assign token",
        "class_tokens": "class tokens",
        "credits": "credits",
        "level": "load level",
        "statuses": "task ids and their progress",
        "draining": "whether the agent drains",
    },
    Assign: {"task": "the task message as published", "dead": "dead-letter flag"},
}


@pytest.mark.parametrize("message", WORDS, ids=lambda message: message.__name__)
def test_leakage_has_a_word_for_every_field_of_a_message_in_the_clear(message: type[Message]) -> None:
    text = DOCUMENT.read_text("utf-8")
    assert {field.name for field in msgspec.structs.fields(message)} == set(WORDS[message])
    assert [word for word in WORDS[message].values() if word not in text] == []


def test_document_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(UsageError, match="has no place for the table"):
        leakage.renewed("# What leaks\n")
