"""Searching what a broker had in its hands for words that must not be there, in every form that is known.

The words go through in passes, so that memory stays flat however many there are. What is found is told by
the word's number, its form and the place, never by the word.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.forms import forms, inflated
from lab.needles import automaton

PASS = 100_000  # forms in one pass: some 150 MB with their automaton
WORDS_MOST = 20_000  # searched for in one run; of more a sample, which the seed repeats
ACCIDENT = 1e-9  # the greatest chance, over a whole search, that random bytes hold a word
DISTINCT_LEAST = 4  # characters
CHUNK = 64 * 1024 * 1024  # a stream's block has 8 MiB at most: a file is nearly always one haystack
OVERLAP = 4096  # longer than any form; what lies in it counts twice, which is twice too many anyway

FORMS = 14  # of one word, at most

Haystacks = Callable[[], Iterable[bytes]]


class Words:
    """What is searched for: distinct, and a sample that a seed repeats if there are too many."""

    def __init__(self, seed: int = 0, most: int = WORDS_MOST) -> None:
        self.offered = 0  # distinct while there is room, then all
        self.kept: list[str] = []
        self._known: set[str] = set()
        self._most = most
        self._chance = random.Random(seed)  # noqa: S311 - to be repeated

    def add(self, text: str) -> None:
        """Offer a word; blanks and rulers, which are in anything, are none."""
        word = text.strip()
        if word in self._known or len(set(word)) < DISTINCT_LEAST:
            return
        self.offered += 1
        if len(self.kept) < self._most:
            self.kept.append(word)
        else:
            place = self._chance.randrange(self.offered)
            if place >= self._most:
                return
            self._known.discard(self.kept[place])
            self.kept[place] = word
        self._known.add(word)


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search. `hits` counts (place, form); `passes` says how the words were split."""

    words: int
    left_out: int  # too short to mean anything among so many bytes
    hits: Counter[tuple[str, str]]
    controls: frozenset[str]  # the places in which what was planted is
    size: dict[str, int]  # bytes by place
    passes: int

    @property
    def total(self) -> int:
        """How often anything was found."""
        return self.hits.total()


def least_length(positions: int, words: int) -> int:
    """Return how many bytes a word needs so that random bytes hold one with a chance below `ACCIDENT`.

    The expected number of accidents among `positions` random positions is positions * words * 256^-length.
    """
    return max(6, math.ceil(math.log(max(positions * words, 1) / ACCIDENT, 256)))


def search(words: Iterable[str], places: dict[str, Haystacks], *, control: str) -> Found:
    """Search places, each a function that yields its haystacks anew, for all words in all forms.

    `control` was planted in each place: where it is not found, nothing else would have been.
    """
    words = list(words)
    size = {place: sum(map(len, haystacks())) for place, haystacks in places.items()}
    least = least_length(sum(size.values()), len(words) * FORMS)
    searched = [word for word in words if len(word.encode("utf-8", "replace")) >= least]
    planted = control.encode()
    hits: Counter[tuple[str, str]] = Counter()
    controls: set[str] = set()
    passes = 0
    for batch in _batches(searched, least):
        passes += 1
        # Only the beginnings of forms go in, all of one length: so it is small, and what is small is fast.
        find = automaton([*batch, planted])
        for place, haystacks in places.items():
            for haystack in haystacks():
                for last, found in find(haystack):
                    if found == planted:
                        controls.add(place)
                    else:
                        names = _whole(batch[found], haystack, last + 1 - least)
                        hits.update((place, name) for name in names)
                for unpacked in inflated(haystack):
                    for last, found in find(unpacked):
                        names = _whole(batch.get(found, ()), unpacked, last + 1 - least)
                        hits.update((place, f"{name}, inflated") for name in names)
    return Found(len(searched), len(words) - len(searched), hits, frozenset(controls), size, passes)


_Batch = dict[bytes, list[tuple[bytes, str]]]  # beginning: whole forms with their names


def _whole(begun: Iterable[tuple[bytes, str]], haystack: bytes, start: int) -> list[str]:
    return [name for data, name in begun if haystack.startswith(data, start)]


def _batches(words: Iterable[str], least: int) -> Iterator[_Batch]:
    batch: _Batch = {}
    size = 0
    for word in words:
        for name, data in forms(word):
            if len(data) >= least:
                begun = batch.setdefault(data[:least], [])
                if all(data != other for other, _ in begun):
                    begun.append((data, name))
                    size += 1
        if size >= PASS:
            yield batch
            batch, size = {}, 0
    yield batch  # the last one even if it is empty: the control is searched for in any case


def files_below(root: Path) -> Iterator[bytes]:
    """Yield every file below a directory, in chunks that overlap; what is gone meanwhile is passed over."""
    for path in sorted(root.rglob("*")):
        try:
            if not path.is_file():
                continue
            with path.open("rb") as file:
                tail = b""
                while chunk := file.read(CHUNK):
                    yield tail + chunk
                    tail = chunk[-OVERLAP:]
        except FileNotFoundError:
            continue
