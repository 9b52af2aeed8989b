"""The table in `docs/leakage.md`, from the one that makes the subjects: what is readable on the wire.

    python -m console.leakage docs/leakage.md

rewrites that file's table in place. A test holds the file to it.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from schemas.errors import UsageError
from schemas.subjects import TABLE, Row

BEGIN = "<!-- table: python -m console.leakage docs/leakage.md -->"
END = "<!-- end of table -->"

_HEAD = ("subject kind", "published by", "read by", "stream", "sealing", "readable besides subject and size")


def table() -> str:
    """Return the table in Markdown, a row for each kind of subject."""
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    return "\n".join([*lines, *(_line(_cells(row)) for row in TABLE)])


def renewed(text: str) -> str:
    """Return a document with the present table between its two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"the document has no place for the table: put {BEGIN} and {END} into it")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _cells(row: Row) -> list[str]:
    return [
        f"`{row.kind.value}`",
        ", ".join(row.publishers),
        ", ".join(row.subscribers),
        row.stream or "",
        row.sealing.value,
        "; ".join(row.clear) or "nothing",
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        document = Path(argument)
        document.write_text(renewed(document.read_text("utf-8")), "utf-8")
