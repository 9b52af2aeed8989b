"""The vectors are what the code makes now, are made again without it, and turn with every input."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from schemas import peer
from schemas.errors import PeerError
from schemas.subjects import Kind
from sealing import frames
from tests.vectors import generate, independent, refused

HERE = Path(__file__).parent
TEXT = generate.FILE.read_text("utf-8")
SECTIONS: dict[str, list[dict[str, Any]]] = independent.read(json.loads(TEXT)["sections"])
CASES = [
    pytest.param(section, case, id=f"{section}: {case['name']}")
    for section, cases in SECTIONS.items()
    for case in cases
]
REFUSED = [
    pytest.param(section, case, id=f"{section}: {case['name']}")
    for section, cases in independent.read(json.loads(TEXT)["refused"]).items()
    for case in cases
]
PROTOCOL = (HERE.parents[1] / "docs" / "protocol.md").read_text("utf-8")


def test_the_file_is_what_the_code_makes_now() -> None:
    assert generate.generated() == TEXT, (
        "run `python -m tests.vectors.generate` and say why in docs/protocol.md"
    )


@pytest.mark.parametrize(("section", "case"), CASES)
def test_the_text_of_the_protocol_is_enough_to_make_a_vector_again(
    section: str, case: dict[str, Any]
) -> None:
    assert independent.SECTIONS[section](case["in"]) == case["out"]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every single value within plain data, and where it stands."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, (*path, name))
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from leaves(each, (*path, index))
    else:
        yield path, value


def other(value: Any) -> Any:
    """Return something of the same type that is not `value`."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case bytes():
            return bytes([value[0] ^ 1, *value[1:]]) if value else b"\x01"
        case str():
            return value + "x"
        case None:
            return b"\x01"
        case _:  # an empty list or map
            return ["x"]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return plain data with one value within replaced."""
    if not path:
        return new
    first, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[first] = changed(value[first], tuple(rest), new)
    return copy


def derived(section: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """Return a vector of these inputs, or None if there are none: no such suite, kind or claim."""
    try:
        return independent.SECTIONS[section](given)
    except KeyError:
        return None


@pytest.mark.parametrize("section", SECTIONS)
def test_one_input_changed_anywhere_changes_the_vector(section: str) -> None:
    for case in SECTIONS[section]:
        for path, value in leaves(case["in"]):
            mutant = changed(case["in"], path, other(value))
            assert derived(section, mutant) != case["out"], f"{case['name']}: nothing depends on {path}"


def test_the_independent_derivation_imports_nothing_of_this_project() -> None:
    tree = ast.parse((HERE / "independent.py").read_text("utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"cryptography", "nacl", "cbor2", "hashlib", "hmac", "json", "sys", "pathlib", "typing"}
    assert {name.split(".")[0] for name in imported} <= allowed
    # The one function of `cryptography` that would do HPKE is not used either.
    assert not any("hpke" in name for name in imported)


def test_as_a_command_it_checks_a_file(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "independent.py")]
    agreed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert agreed.stdout == f"{len(CASES)} vectors agree\n"
    wrong = json.loads(TEXT)
    wrong["sections"]["subjects"][0]["out"]["subject"] += "0"
    (tmp_path / "wrong.json").write_text(json.dumps(wrong), "utf-8")
    refused = subprocess.run(
        [*command, "wrong.json"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (refused.returncode, refused.stdout) == (1, "subjects: hello\n")


# Nothing is left out


def column(name: str, number: int = 0) -> set[str]:
    """Return the words in backticks of one column of protocol.md's tables of this name."""
    found = set()
    for after in PROTOCOL.split(f"<!-- checked: {name} -->")[1:]:
        for line in after.strip().splitlines()[2:]:
            if not line.startswith("|"):
                break
            found |= set(re.findall(r"`([^`]+)`", line.split("|")[number + 1]))
    return found


def test_every_label_of_the_protocol_has_a_vector() -> None:
    assert {case["in"]["label"] for case in SECTIONS["contexts"]} == column("labels")


def test_every_body_of_the_protocol_has_a_vector() -> None:
    assert {case["name"].split()[0] for case in SECTIONS["bodies"]} == column("bodies")


def test_every_signed_document_of_the_protocol_has_a_vector() -> None:
    labels = {case["in"]["label"] for name in ("documents", "cwts") for case in SECTIONS[name]}
    assert labels == column("documents", 1) | {"policy", "admission", "grant", "collateral"}


def test_every_kind_of_frame_and_subject_has_a_vector_under_every_suite() -> None:
    kinds = {getattr(frames, f"KIND_{case['in']['kind'].upper()}") for case in SECTIONS["frames"]}
    assert kinds == set(frames._HEADERS)
    assert {case["in"]["suite"] for case in SECTIONS["frames"]} == {1, 2}
    assert {case["in"]["kind"] for case in SECTIONS["subjects"]} == {kind.value for kind in Kind}


def test_every_kind_of_message_between_peers_has_a_vector() -> None:
    said = {message[0] for case in SECTIONS["peers"] for message in case["in"]["messages"]}
    assert said == {kind.__struct_config__.tag for kind in get_args(peer.PeerMessage)}


def test_every_section_is_explained() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", (HERE / "README.md").read_text("utf-8"), re.MULTILINE)
    assert explained == [*SECTIONS, *json.loads(TEXT)["refused"]]


@pytest.mark.parametrize(("section", "case"), REFUSED)
def test_what_is_nearly_right_is_refused_for_its_reason(section: str, case: dict[str, Any]) -> None:
    with pytest.raises(PeerError) as refusal:
        refused.SECTIONS[section][1](case["in"])
    assert refusal.value.reason.value == case["reason"]


def test_what_is_right_is_not_refused() -> None:
    # So that a refusal is of the one thing that its name says.
    for section, honest in refused.honest().items():
        refused.SECTIONS[section][1](honest)
