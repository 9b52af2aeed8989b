"""A document worked in parts gives what it gives in one piece."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.redaction import replacing, slices
from examples.redaction.detection import Occurrence, detect, survey
from examples.redaction.lexicon import Lexicon
from examples.redaction.messages import Kind, PersonName, Slice, Syntax
from examples.redaction.pseudonyms import pseudonym

NAMES = [PersonName("martha", "keller"), PersonName("juergen", "weiss"), PersonName("", "lang")]
LEXICON = Lexicon(NAMES)

# What identifiers, their contexts and their borders are made of, so that cuts fall into all of them.
PIECES = [
    "martha.keller@example.org",
    "a@b.org",
    "@",
    ".",
    "%40",
    "DE89 3704 0044 0532 0130 00",
    "DE89370400440532013000",
    "4111 1111 1111 1111",
    "1111 1111",
    "378282246310005",
    "756.9217.0769.85",
    "1 85 05 78 006 084 91",
    "+49 30 23125 123",
    "030 23125-123",
    "Tel. ",
    "Order ",
    "(212) 555-0123",
    "Martha Keller",
    "Keller, Martha",
    "Ms Keller",
    "Dear Ms Keller,\n",
    "Dear Martha,\n",
    "\nName: Eva Lang\n",
    "\nVorname: Eva\nNachname: Lang\n",
    "Eva Lang <eva@example.org>",
    '"Lang, Eva" <eva@example.org>',
    "Ju\u0308rgen Weiß",
    "Jürgen\n> Weiss",
    "\u0301\u0302\u0303",
    "\nFrom: Eva Lang\nSubject: x\n",
    " and words ",
    "12 34 56 ",
    "x" * 70,
    "1" * 45,
    "\U0001d400",
    '"name": "Eva Lang", ',
    '"first_name": "Eva", "last_name": "Lang"',
    "{",
    "}",
    "\\",
    '"',
    "|",
    ",",
    ";",
    "\n",
    "\r\n",
    " ",
]


def composed(seed: int, pieces: int, fewer: int) -> str:
    chance = random.Random(seed)
    some = chance.sample(PIECES, fewer)
    return "".join(chance.choices(some, k=pieces))


# Each takes a tenth of a second and more.
FEW = settings().max_examples // 5

# Longer than the context to either side of a part: or every part would see the whole.
LONG_TEXTS = st.builds(composed, st.integers(0, 2**32), st.integers(500, 900), st.integers(3, 20))
SIZES = st.integers(300, 1200)


def in_parts(piece: Slice, size: int) -> tuple[Occurrence, ...]:
    segments = slices.cut(piece, size * 3)
    return tuple(
        o for segment in segments for part in slices.cut(segment, size) for o in detect(part, LEXICON)
    )


def surveyed_in_parts(piece: Slice, size: int) -> set[PersonName]:
    return {name for part in slices.cut(piece, size) for name in survey(part)}


@settings(max_examples=FEW, deadline=None)
@given(LONG_TEXTS, SIZES)
def test_text_in_parts_is_the_whole(text: str, size: int) -> None:
    piece = slices.whole(text)
    assert in_parts(piece, size) == detect(piece, LEXICON)
    assert surveyed_in_parts(piece, size) == set(survey(piece))


@settings(max_examples=FEW // 2, deadline=None)
@given(LONG_TEXTS, SIZES, st.booleans())
def test_json_in_parts_is_the_whole(text: str, size: int, ascii_only: bool) -> None:
    value = {"note": text, "name": "Eva Lang", "text": [text[:300]]}
    piece = slices.whole(json.dumps(value, ensure_ascii=ascii_only), Syntax.JSON)
    assert in_parts(piece, size) == detect(piece, LEXICON)
    assert surveyed_in_parts(piece, size) == set(survey(piece))


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(LONG_TEXTS, SIZES)
def test_json_that_is_none_in_parts_is_the_whole(text: str, size: int) -> None:
    piece = slices.whole(text, Syntax.JSON)
    assert in_parts(piece, size) == detect(piece, LEXICON)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(20, 200), st.integers(1, 400))
def test_csv_in_parts_is_the_whole(seed: int, rows: int, size: int) -> None:
    chance = random.Random(seed)
    some = chance.sample(PIECES, 12)
    cells = ("".join(chance.choices(some, k=chance.randrange(4))) for _ in range(3 * rows))
    text = "name,phone,note\n" + "".join(
        ",".join(row) + "\n" for row in zip(cells, cells, cells, strict=True)
    )
    piece = slices.whole(text, Syntax.CSV)
    assert in_parts(piece, size) == detect(piece, LEXICON)
    assert surveyed_in_parts(piece, size) == set(survey(piece))


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(LONG_TEXTS, SIZES)
def test_csv_without_rows_in_parts_is_the_whole(text: str, size: int) -> None:
    piece = Slice(text, 0, 0, len(text), Syntax.CSV_LINES, ",")
    assert in_parts(piece, size) == detect(piece, LEXICON)


def test_a_table_with_an_endless_record_is_read_line_by_line() -> None:
    assert slices.whole('a,b\n"' + "x" * slices.MAX_RECORD, Syntax.CSV).syntax is Syntax.CSV_LINES
    assert slices.whole("a,b\n" * slices.MAX_RECORD, Syntax.CSV).syntax is Syntax.CSV


@settings(max_examples=FEW // 2, deadline=None)
@given(LONG_TEXTS, SIZES, st.randoms(use_true_random=False))
def test_the_order_of_answers_does_not_matter(text: str, size: int, chance: random.Random) -> None:
    piece = slices.whole(text)
    answers = [
        replacing.findings(found, {o.identifier: pseudonym(b"k", *_both(o)) for o in found})
        for part in slices.cut(piece, size)
        for found in [detect(part, LEXICON)]
    ]
    shuffled = list(answers)
    chance.shuffle(shuffled)
    assert replacing.merged(answers) == replacing.merged(shuffled)
    assert replacing.resolved(answers) == replacing.resolved([replacing.merged(shuffled)])


def _both(occurrence: Occurrence) -> tuple[Kind, str]:
    return occurrence.identifier.kind, occurrence.identifier.value


@given(st.text(max_size=3000), st.integers(1, 500), st.sampled_from(list(Syntax)))
def test_slices_own_every_character_once(text: str, size: int, syntax: Syntax) -> None:
    piece = slices.whole(text, Syntax.CSV if syntax is Syntax.CSV_LINES else syntax)
    position = 0
    for part in slices.cut(piece, size):
        assert part.low == position
        assert part.text == text[part.origin : part.origin + len(part.text)]
        assert part.origin <= part.low <= part.high <= part.origin + len(part.text)
        position = part.high
    assert position == len(text)


@pytest.mark.parametrize(
    "identifier", ["martha.keller@example.org", "DE89 3704 0044 0532 0130 00", "Martha Keller"]
)
def test_an_identifier_across_a_cut_is_found_once_and_whole(identifier: str) -> None:
    text = "word " * 100 + identifier + " word" * 100
    for size in range(480, 540):
        found = in_parts(slices.whole(text), size)
        assert [text[o.start : o.end] for o in found] == [identifier]


def test_a_part_of_a_segment_carries_the_context_of_the_segment() -> None:
    text = "a" * 50_000
    (first, second) = slices.cut(slices.whole(text), 25_000)
    assert len(first.text) == 25_000 + slices.REACH * 3
    assert next(slices.cut(second, 10_000)).origin == second.origin
