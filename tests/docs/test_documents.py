"""What the documents point to is there: files, folders, reason codes, decisions and their drawbacks."""

import re
from pathlib import Path

import pytest

from schemas.errors import Reason

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
FOLDERS = "schemas|sealing|attestation|transport|coordinator|scheduler|agent_runtime|console|lab|examples"
FOLDERS += "|tests|docs|models"

every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT))
)


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text("utf-8"))
    inside = [link for link in links if not link.startswith(("https://", "http://"))]
    assert [link for link in inside if not (document.parent / link).exists()] == []


@every_document
def test_paths_that_are_named_exist(document: Path) -> None:
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", document.read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


@every_document
def test_modules_and_their_names_exist(document: Path) -> None:
    named = re.findall(rf"`((?:{FOLDERS})(?:\.\w+)+)`", document.read_text("utf-8"))
    assert [dotted for dotted in named if not _is_there(dotted)] == []


def _is_there(dotted: str) -> bool:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        place, names = ROOT.joinpath(*parts[:count]), parts[count:]
        for module in (place.with_suffix(".py"), place / "__init__.py"):
            if module.is_file():
                return all(re.search(rf"\b{name}\b", module.read_text("utf-8")) for name in names)
    return False


def test_reason_codes_in_the_protocol_are_reasons() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    said = re.findall(r"(?:dropped|handed back|result is|as): ?`([a-z]+(?:-[a-z]+)+)`", text)
    said += re.findall(r"result is `([a-z-]+)`", text)
    assert said
    assert set(said) <= {reason.value for reason in Reason}


def test_decisions_are_numbered_without_a_gap_and_listed() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    index = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    assert [path.name for path in DECISIONS if f"({path.name})" not in index] == []


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_one_page_and_says_what_it_costs(decision: Path) -> None:
    text = decision.read_text("utf-8")
    assert text.startswith(f"# {int(decision.name[:4])}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Drawbacks"]
    assert len(text.splitlines()) <= 60
