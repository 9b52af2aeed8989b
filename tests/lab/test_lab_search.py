"""The search: every form at every place is found, what is not there is not, and chance is ruled out."""

import base64
import gzip
import json
import os
import random
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import search as module
from lab.forms import INFLATED_MOST, LONGEST, NAMES, forms, inflated
from lab.search import Haystacks, Words, files_below, least_length, search

CONTROL = "control 0123456789abcdef0123456789abcdef"
SECRET = "Martha Keller, Gärtnerstraße 7"
TEXTS = st.text(min_size=12, max_size=80).filter(lambda text: len(set(text)) > 8 and text.strip() == text)


def hits(words: list[str], *haystacks: bytes) -> dict[str, int]:
    """Return how often each form was found in one place."""
    found = search(words, {"wire": lambda: [*haystacks, CONTROL.encode()]}, control=CONTROL)
    assert found.controls == {"wire"}
    return {form: count for (_, form), count in found.hits.items()}


ENCODED = {
    "utf-8": SECRET.encode(),
    "utf-16-le": SECRET.encode("utf-16-le"),
    "utf-16-be": SECRET.encode("utf-16-be"),
    "hex": SECRET.encode().hex().encode(),
    "HEX": SECRET.encode().hex().upper().encode(),
    "json": json.dumps({"name": SECRET}).encode(),
    "percent": f"name={quote(SECRET)}".encode(),
    "zlib": zlib.compress(f"before {SECRET} behind".encode()),
    "gzip": gzip.compress(f"before {SECRET} behind".encode() * 30),
    **{f"base64 {shift}": base64.b64encode(b"x" * shift + SECRET.encode() + b"behind") for shift in range(3)},
    "url-safe": base64.urlsafe_b64encode(b"??" + SECRET.encode() + b"??"),
}


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("place", ["alone", "amid noise"])
def test_each_form_is_found(name: str, place: str) -> None:
    noise = random.Random(1).randbytes(5000) if place == "amid noise" else b""
    assert hits([SECRET], noise + ENCODED[name] + noise)


def test_the_names_of_forms_are_those_that_are_told() -> None:
    assert {name for name, _ in forms(SECRET)} == set(NAMES)


@given(TEXTS, st.integers(0, 40), st.integers(0, 40), st.integers(0, 12))
def test_any_text_is_found_in_each_of_its_forms_wherever_it_stands(
    text: str, before: int, behind: int, which: int
) -> None:
    every = list(forms(text))
    name, data = every[which % len(every)]
    assert name in hits([text], b"\xfe" * before + data + b"\xfe" * behind)


@given(TEXTS, st.integers(0, 2))
def test_base64_is_found_at_every_alignment(text: str, shift: int) -> None:
    encoded = base64.b64encode(os.urandom(shift) + text.encode() + os.urandom(5))
    assert "base64" in hits([text], encoded)


def test_what_is_not_there_is_not_found() -> None:
    words = [f"a line of the input with the number {number}" for number in range(500)]
    assert hits(words, random.Random(2).randbytes(2_000_000)) == {}


def test_a_word_is_not_put_together_of_two_records() -> None:
    assert hits([SECRET], SECRET.encode()[:15], SECRET.encode()[15:]) == {}


def test_a_longer_line_is_found_by_its_beginning() -> None:
    line = "a line that goes on and on " * 20
    assert hits([line], line.encode()[: LONGEST + 3]) == {"utf-8": 1}


def test_a_search_without_its_control_says_so() -> None:
    places: dict[str, Haystacks] = {
        "here": lambda: [CONTROL.encode()],
        "there": lambda: [b"nothing was planted"],
    }
    assert search([SECRET], places, control=CONTROL).controls == {"here"}
    assert search([], places, control=CONTROL).controls == {"here"}


def test_short_words_are_left_out_and_counted() -> None:
    found = search(["Ada", SECRET], {"wire": lambda: [b"Ada " * 100]}, control=CONTROL)
    assert (found.words, found.left_out, found.total) == (1, 1, 0)


@pytest.mark.parametrize(("positions", "words"), [(10**6, 10**3), (10**10, 20_000 * 14), (1, 1)])
def test_chance_finds_nothing(positions: int, words: int) -> None:
    length = least_length(positions, words)
    assert positions * words / 256.0**length <= module.ACCIDENT
    assert length <= 12


def test_many_words_go_through_in_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PASS", 100)
    words = [f"a line of the input with the number {number:04}" for number in range(60)]
    found = search(words, {"wire": lambda: [words[3].encode(), words[59].encode()]}, control=CONTROL)
    assert found.passes > 3
    assert found.hits == {("wire", "utf-8"): 2}


def test_what_unpacks_without_end_costs_no_more_than_its_bound() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    assert [len(data) for data in inflated(bomb)] == [INFLATED_MOST]
    assert list(inflated(b"\x78\x9c" * 10_000)) == []


def test_every_file_below_a_folder_is_searched(tmp_path: Path) -> None:
    (tmp_path / "streams" / "tasks").mkdir(parents=True)
    (tmp_path / "streams" / "tasks" / "1.blk").write_bytes(b"\0" * 1000 + SECRET.encode())
    (tmp_path / "meta").write_bytes(CONTROL.encode())
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    found = search([SECRET], {"store": lambda: files_below(tmp_path)}, control=CONTROL)
    assert found.hits == {("store", "utf-8"): 1}
    assert found.controls == {"store"}


def test_a_word_across_two_chunks_of_a_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 64)
    monkeypatch.setattr(module, "OVERLAP", 50)
    for offset in range(130):
        (tmp_path / "file").write_bytes(b"." * offset + SECRET.encode() + b"." * 100)
        found = search([SECRET], {"store": lambda: files_below(tmp_path)}, control=CONTROL)
        assert found.total >= 1, offset


class TestWords:
    def test_are_distinct_and_trimmed(self) -> None:
        words = Words()
        for line in ("  a line \n", "a line", "-----------", "", "   ", "====", "another"):
            words.add(line)
        assert words.kept == ["a line", "another"]

    def test_beyond_the_bound_a_sample_is_taken_that_a_seed_repeats(self) -> None:
        def sample(seed: int) -> list[str]:
            words = Words(seed, most=100)
            for number in range(10_000):
                words.add(f"line {number}")
            assert words.offered == 10_000
            return words.kept

        assert sample(1) == sample(1) != sample(2)
        assert len(set(sample(1))) == 100
        # Of all, not of the first or the last.
        numbers = [int(word.split()[1]) for word in sample(3)]
        assert min(numbers) < 1_000
        assert max(numbers) > 9_000
