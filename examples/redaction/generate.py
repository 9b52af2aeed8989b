"""A fresh corpus with its truth, from templates and invented people: a figure that is nobody's homework."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from examples.redaction import composing
from examples.redaction.messages import Kind
from examples.redaction.numbers import luhn
from examples.redaction.people import COUNTRIES, Person, invent
from examples.redaction.reading import document
from examples.redaction.templates import TEMPLATES, Template
from examples.redaction.truth import Entry, Truth, entries, marked, unmarked, write

_KINDS = {
    "name": Kind.NAME,
    "given": Kind.NAME,
    "family": Kind.NAME,
    "email": Kind.EMAIL,
    "phone": Kind.PHONE,
    "iban": Kind.IBAN,
    "card": Kind.CARD,
    "national_id": Kind.NATIONAL_ID,
}
_TITLES = {"GB": ("Ms", "Mr"), "DE": ("Frau", "Herr"), "FR": ("Mme", "M.")}
_HOLE = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
_REPEATED = 0.4  # how much of a cast was met before: who is in several documents gives links


def generate(seed: int, directory: Path, documents: int = 30) -> Truth:
    """Write a corpus into `directory`, with `truth.json`, and return the truth. A seed gives one corpus."""
    chance = random.Random(seed)  # noqa: S311 - invented people, no secrets
    known: dict[str, list[Person]] = {country: [] for country in COUNTRIES}
    truth: Truth = {}
    for number in range(documents):
        template = TEMPLATES[number % len(TEMPLATES)]
        cast = {role: _met(chance, known[template.country], template.country) for role in "abc"}
        folder, _, name = template.file.partition("/")
        path = f"{folder}/{number:05}-{name}"
        data, truth[path] = _composed(template, cast, chance)
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    write(directory, truth)
    return truth


def _met(chance: random.Random, known: list[Person], country: str) -> Person:
    if known and chance.random() < _REPEATED:
        return chance.choice(known)
    person = invent(chance, country)
    known.append(person)
    return person


def _composed(
    template: Template, cast: dict[str, Person], chance: random.Random
) -> tuple[bytes, tuple[Entry, ...]]:
    """Return a document's bytes and its truth, whose offsets count in the text as it is read."""
    style = chance.choice(composing.STYLES)
    escaped = template.file.endswith(".json") and chance.random() < 0.5

    def fill(text: str) -> str:
        return _HOLE.sub(lambda hole: _detail(hole, cast, chance, escaped=escaped), text)

    body = fill(template.body.replace("{{", "\ue0f0").replace("}}", "\ue0f1"))
    body = body.replace("\ue0f0", "{").replace("\ue0f1", "}")
    if not template.headers:
        return unmarked(body).encode("utf-8"), entries(body)
    headers = [(name, fill(value)) for name, value in template.headers]
    data = composing.mail([(name, unmarked(value)) for name, value in headers], unmarked(body), style)
    # The mail with its marks goes through the same encoding and decoding: so the offsets are the reader's.
    return data, entries(document("marked.eml", composing.mail(headers, body, style)).text)


def _detail(hole: re.Match[str], cast: dict[str, Person], chance: random.Random, *, escaped: bool) -> str:
    if hole[2] is None:
        return _FILLERS[hole[1]](chance)
    person = cast[hole[1]]
    if hole[2] == "title":
        return _TITLES[person.country][not person.female]
    if hole[2] == "r":
        return "" if person.female else "r"
    value = str(getattr(person, hole[2]))
    if escaped:
        value = json.dumps(value)[1:-1]
    return marked(_KINDS[hole[2]], value)


def _card_like(chance: random.Random) -> str:
    """Return sixteen digits in a card's groups that fail the Luhn check, as most numbers do."""
    while True:
        digits = "".join(chance.choices("0123456789", k=16))
        if not luhn(digits):
            return composing.grouped(digits, [4]) if chance.random() < 0.5 else digits


def _date(chance: random.Random) -> str:
    year, month, day = chance.randrange(2015, 2026), chance.randrange(1, 13), chance.randrange(1, 29)
    return chance.choice(
        (
            f"{day:02}.{month:02}.{year}",
            f"{year}-{month:02}-{day:02}",
            f"{day}/{month}/{year}",
            f"{day}.{month}.{year}",
        )
    )


_FILLERS: dict[str, Callable[[random.Random], str]] = {
    "card_like": _card_like,
    "date": _date,
    "order": lambda chance: chance.choice(("{}-{:07}", "R{}/{:05}", "{}.{:06}")).format(
        chance.randrange(2015, 2026), chance.randrange(10_000, 99_999)
    ),
    "small": lambda chance: str(chance.randrange(10, 100)),
    "ip": lambda chance: (
        f"{chance.choice(('192.0.2', '198.51.100', '203.0.113', '10.0.17'))}.{chance.randrange(1, 255)}"
    ),
    "isbn": lambda chance: (
        f"978-3-{chance.randrange(10, 99)}-{chance.randrange(100_000, 999_999)}-{chance.randrange(10)}"
    ),
}
