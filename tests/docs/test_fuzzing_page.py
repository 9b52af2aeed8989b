"""The page on fuzzing names every target once, in the table of what each reads."""

import re
from pathlib import Path

from tests.fuzz.targets import NAMES

PAGE = Path(__file__).parents[2] / "docs" / "fuzzing.md"


def _rows() -> list[list[str]]:
    _, _, after = PAGE.read_text("utf-8").partition("| Target | Reads | Changed as |\n| --- | --- | --- |\n")
    table, _, _ = after.partition("\n\n")
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


def test_every_target_is_in_the_table_of_what_each_reads_once() -> None:
    named = [name for row in _rows() for name in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(named) == sorted(NAMES)


def test_each_row_says_what_is_read_and_how_it_is_changed() -> None:
    rows = _rows()
    assert [row for row in rows if len(row) != 3 or not all(row)] == []
    # Counts of runs have a table of their own: a row of those was once pasted here.
    assert [row for row in rows if re.fullmatch(r"[\d,]+", row[1])] == []
