"""`docs/protocol.md` says what the code does: its checked tables are compared with it, cell by cell."""

import importlib
import re
from pathlib import Path

import msgspec
import pytest

from schemas import collateral, documents, evidence, messages, pinning, policy, rules, scheduling
from schemas.audit import FACTS
from schemas.codec import Document, Message
from schemas.documents import ADMISSION_CLAIMS, GRANT_CLAIMS
from schemas.evidence import Evidence
from sealing import frames

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text("utf-8")
ENFORCING = ("sealing", "coordinator", "agent_runtime", "console")


def rows(name: str) -> list[list[str]]:
    """Return the cells of every row of the tables that are marked `<!-- checked: name -->`."""
    marked = TEXT.split(f"<!-- checked: {name} -->")[1:]
    assert marked, f"protocol.md has no table {name}"
    found = []
    for after in marked:
        lines = after.strip().splitlines()
        table = lines[: next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))]
        found += [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in table[2:]]
    return found


def bodies() -> dict[str, type[Message]]:
    """Return every body that `schemas` defines for the wire."""
    found = {
        name: kind
        for module in (messages, scheduling)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    }
    return found | {"Evidence": Evidence}


def records() -> dict[str, type[Document]]:
    """Return every document that is a map, by its name."""
    return {
        name: kind
        for module in (collateral, documents, evidence, pinning, policy, rules)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Document) and kind is not Document
    }


def test_every_body_stands_with_its_fields_in_order() -> None:
    said = {name.strip("`"): fields.split(", ") for name, fields in rows("bodies")}
    # The agent's message holds a receipt that the term's key signed: `LogReceipt`, among the documents.
    known = {name: list(kind.__struct_fields__) for name, kind in bodies().items() if name != "Receipt"}
    assert said == known


@pytest.mark.parametrize(
    ("name", "fields"), [(row[0].strip("`"), row[2].split(", ")) for row in rows("documents")]
)
def test_every_signed_document_stands_with_its_fields_in_order(name: str, fields: list[str]) -> None:
    assert list(getattr(documents, name).__struct_fields__) == fields


def test_no_signed_document_is_left_out() -> None:
    known = {
        name
        for name, kind in vars(documents).items()
        if isinstance(kind, type) and issubclass(kind, Message) and kind.__module__ == documents.__name__
    }
    assert known | {"Profile"} == {row[0].strip("`") for row in rows("documents")}


@pytest.mark.parametrize(("column", "claims"), [(1, ADMISSION_CLAIMS), (2, GRANT_CLAIMS)])
def test_claims_have_the_keys_that_stand_there(column: int, claims: dict[str, int]) -> None:
    said = {row[column]: int(row[0].split(",")[0].split()[0]) for row in rows("claims") if row[column]}
    assert said == claims


@pytest.mark.parametrize("row", rows("headers"), ids=lambda row: row[1])
def test_headers_have_the_layout_that_stands_there(row: list[str]) -> None:
    number, name, layout, size = row
    codes = {"u8": "B", "u32": "I", "u64": "Q"}
    fields = [part.rsplit(" ", 1)[1] for part in layout.split(", ")]
    packed = ">" + "".join(codes.get(field, f"{field}s") for field in fields)
    assert getattr(frames, f"KIND_{name}") == int(number)
    assert getattr(frames, f"{name}_HEADER").format == packed
    assert getattr(frames, f"{name}_HEADER").size == int(size)


@pytest.mark.parametrize("row", rows("constants"), ids=lambda row: row[0].strip("`"))
def test_constants_have_the_value_that_stands_there(row: list[str]) -> None:
    module, _, name = row[0].strip("`").rpartition(".")
    assert getattr(importlib.import_module(module), name) == int(row[1])


def test_every_label_that_stands_there_is_used() -> None:
    source = "".join(path.read_text("utf-8") for each in ENFORCING for path in (ROOT / each).glob("*.py"))
    labels = [label for row in rows("labels") for label in re.findall(r"`([^`]+)`", row[0])]
    assert [label for label in labels if f'"{label}"' not in source] == []


def test_every_context_that_sealing_makes_has_a_label_that_stands_there() -> None:
    labels = {label for row in rows("labels") for label in re.findall(r"`([^`]+)`", row[0])}
    source = "".join(path.read_text("utf-8") for path in (ROOT / "sealing").glob("*.py"))
    made = set(re.findall(r'\bctx\(\s*"([^"]+)"', source))
    made |= set(re.findall(r'\b(?:derive|token)\([^"()]*(?:\([^()]*\)[^"()]*)*"([^"]+)"', source))
    made |= set(re.findall(r'\b(?:sign|open_signed|sign_message)\([^"\n]*mesh, "([^"]+)"', source))
    assert len(made) >= 12
    assert made <= labels


@pytest.mark.parametrize(("name", "keys"), [(row[0].strip("`"), row[1]) for row in rows("records")])
def test_every_record_of_policy_and_profile_stands_with_its_keys(name: str, keys: str) -> None:
    said = {key.split()[0].rstrip(":") for key in keys.split(", ")}
    assert said == set(records()[name].__struct_fields__)


def test_no_record_is_left_out() -> None:
    elsewhere = {
        "CollateralFile",
        "Profile",
        "Admission",
        "Grant",
        "Constraints",
        "Condition",
        "EvidencePolicy",
        "AttestationResult",
    }
    assert set(records()) - elsewhere == {row[0].strip("`") for row in rows("records")}


def test_every_decision_of_the_audit_log_stands_with_its_facts() -> None:
    said = {row[0].strip("`"): tuple(row[1].split(", ")) for row in rows("facts")}
    assert said == FACTS


def test_every_body_is_an_array() -> None:
    assert all(
        msgspec.structs.fields(kind) and kind.__struct_config__.array_like for kind in bodies().values()
    )
