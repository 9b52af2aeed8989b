"""Finding takes time linear in the text, whatever the text is made of."""

import time
from collections.abc import Callable

import pytest

from examples.redaction import mail, slices
from examples.redaction.detection import detect, survey
from examples.redaction.lexicon import Lexicon
from examples.redaction.messages import PersonName, Syntax

LEXICON = Lexicon([PersonName("martha", "keller"), PersonName("a", "an")])

# Each makes some pattern try, and fail, at every place.
HOSTILE = {
    "one letter": "a",
    "local parts": "a.",
    "addresses without end": "a@a.",
    "percent signs": "a%40",
    "digits": "1",
    "pairs of digits": "12 ",
    "phone-like": "030 1234 ",
    "zeros": "0 ",
    "plus signs": "+1 ",
    "card groups": "4111 ",
    "IBAN starts": "DE89 ",
    "brackets": "(((1",
    "angle brackets": "A <a",
    "quotes": '"',
    "keys": '"name":"A","',
    "given keys": '"first_name":"A B",',
    "family keys": '"last_name":"A","first_name":"B",',
    "backslashes": "\\",
    "escapes": "\\u0041",
    "fields": "\nName: A",
    "labels": "Name " * 8 + "\n",
    "pipes": "|",
    "greetings": "\nDear A",
    "greeting borders": ">>>>>>>",
    "family names": "Keller ",
    "capitals before a family name": "A B C Keller",
    "particles": "von Keller ",
    "marks": "\u0301",
    "spaces": " ",
    "newlines": "\n",
    "commas": ",",
    "from headers": "\nFrom: A B",
    "words for numbers": "tel 12345678 ",
}


def seconds(work: Callable[[int], object], size: int) -> float:
    start = time.process_time()  # of this process alone, however busy the machine is
    work(size)
    return time.process_time() - start


def is_linear(work: Callable[[int], object], size: int) -> bool:
    """Tell whether four times the text takes about four times as long, in one of two attempts."""
    large = small = float("inf")
    for _ in range(2):
        large = min(large, seconds(work, size))
        # Quadratic work would take sixteen times as long. What is over at once proves itself.
        if large < 0.05:
            return True
        small = min(small, seconds(work, size // 4), seconds(work, size // 4))
        if large < 8 * small:
            return True
    return False


@pytest.mark.parametrize("syntax", [Syntax.TEXT, Syntax.JSON, Syntax.CSV])
@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_four_times_the_text_takes_about_four_times_as_long(unit: str, syntax: Syntax) -> None:
    def work(size: int) -> None:
        piece = slices.whole((unit * size)[:size], syntax)
        survey(piece)
        detect(piece, LEXICON)

    assert is_linear(work, 16_000)


@pytest.mark.parametrize(
    "unit", ["&a", "&#", "data:a/", "data:a/a;base64,A", "=?utf-8?q?", "\n ", "a: b\n", "\n--=_0_"]
)
def test_mails_are_read_in_linear_time(unit: str) -> None:
    def work(size: int) -> None:
        body = (unit * size)[:size]
        mail.readable(f"Subject: {body}\nContent-Type: text/html\n\n{body}".encode())

    assert is_linear(work, 80_000)
