"""An error in TOML points at the line and column where its author will look for it."""

from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from schemas.toml_place import Path, Place, dotted, nearest, places

TEXT = """\
title = "a # in text"  # and a comment [not.a.header]

[owner]
name = 'Ada'
born.on = 1815-12-10
born."at place" = "London"

[servers.alpha]
ip = "10.0.0.1"
ports = [ 8000, # the first
  8001,
  [ 1, { deep = true } ],
]
point = { x = 1, y.z = 2, "q r" = '''
] not the end''' }

[[fruit]]
name = "apple"

[fruit.skin]
colour = "red"

[[fruit.kind]]
name = "red delicious"

[[fruit.kind]]
name = "granny smith"

[[fruit]]
name = \"\"\"ban"an""a\"\"\"
kind = []

[ "quoted table" . b ]
c = 1
"""

EXPECTED: dict[Path, tuple[int, int]] = {
    ("title",): (1, 1),
    ("owner",): (3, 1),
    ("owner", "name"): (4, 1),
    ("owner", "born"): (5, 1),
    ("owner", "born", "on"): (5, 6),
    ("owner", "born", "at place"): (6, 6),
    ("servers",): (8, 1),
    ("servers", "alpha"): (8, 1),
    ("servers", "alpha", "ip"): (9, 1),
    ("servers", "alpha", "ports"): (10, 1),
    ("servers", "alpha", "ports", 0): (10, 11),
    ("servers", "alpha", "ports", 1): (11, 3),
    ("servers", "alpha", "ports", 2): (12, 3),
    ("servers", "alpha", "ports", 2, 0): (12, 5),
    ("servers", "alpha", "ports", 2, 1): (12, 8),
    ("servers", "alpha", "ports", 2, 1, "deep"): (12, 10),
    ("servers", "alpha", "point"): (14, 1),
    ("servers", "alpha", "point", "x"): (14, 11),
    ("servers", "alpha", "point", "y"): (14, 18),
    ("servers", "alpha", "point", "y", "z"): (14, 20),
    ("servers", "alpha", "point", "q r"): (14, 27),
    ("fruit",): (17, 1),
    ("fruit", 0): (17, 1),
    ("fruit", 0, "name"): (18, 1),
    ("fruit", 0, "skin"): (20, 1),
    ("fruit", 0, "skin", "colour"): (21, 1),
    ("fruit", 0, "kind"): (23, 1),
    ("fruit", 0, "kind", 0): (23, 1),
    ("fruit", 0, "kind", 0, "name"): (24, 1),
    ("fruit", 0, "kind", 1): (26, 1),
    ("fruit", 0, "kind", 1, "name"): (27, 1),
    ("fruit", 1): (29, 1),
    ("fruit", 1, "name"): (30, 1),
    ("fruit", 1, "kind"): (31, 1),
    ("quoted table",): (33, 1),
    ("quoted table", "b"): (33, 1),
    ("quoted table", "b", "c"): (34, 1),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["unix", "windows"])
def test_every_key_and_element_has_its_place(ending: str) -> None:
    assert places(TEXT.replace("\n", ending)) == {path: Place(*at) for path, at in EXPECTED.items()}


def test_the_own_header_of_a_table_is_its_place_even_if_a_child_came_first() -> None:
    assert places("[a.b]\nx = 1\n[a]\ny = 2\n")[("a",)] == Place(3, 1)


def test_what_stands_nowhere_is_at_the_closest_that_holds_it() -> None:
    found = places(TEXT)
    assert nearest(found, ("fruit", 1, "colour")) == Place(29, 1)
    assert nearest(found, ("nothing", "of", "this")) == Place(1, 1)


def test_a_path_is_written_as_its_author_would_write_it() -> None:
    assert dotted(("rules", 1, "may")) == "rules[1].may"
    assert dotted(("classes", 'x "y"', "role")) == 'classes."x \\"y\\"".role'
    assert dotted(()) == ""


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
SCALARS = (
    st.integers(-9, 9)
    | st.booleans()
    | st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\"'\\#[]{},=\n"), max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def paths(data: Any, path: Path = ()) -> set[Path]:
    """Return every path of plain data."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(data, dict):
        inner = list(data.items())
    elif isinstance(data, list):
        inner = list(enumerate(data))
    return {path} - {()} | {each for key, value in inner for each in paths(value, (*path, key))}


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.booleans())
def test_whatever_a_writer_writes_each_of_its_paths_is_found_and_no_other(
    data: dict[str, Any], multiline: bool
) -> None:
    text = tomli_w.dumps(data, multiline_strings=multiline)
    found = places(text)
    assert set(found) == paths(data)
    lines = text.replace("\r\n", "\n").split("\n")
    for path, place in found.items():
        there = lines[place.line - 1][place.column - 1 :]
        if there.startswith("[") or isinstance(path[-1], int):
            continue  # a header or an element, which begins with no key
        assert there.startswith((path[-1], '"')), (path, place)
