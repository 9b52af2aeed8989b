"""Invented people for generated documents: names, and numbers that are valid but reserved or random."""

import random
from typing import NamedTuple

from examples.redaction.composing import card, grouped, national_id, random_iban

# Given and family names by country, some with marks, particles, hyphens and apostrophes.
_NAMES = {
    "GB": (
        "Harriet Callum Imelda Rhys Verity Alistair Nkechi Declan Priya Gwendolen Marcus Tabitha",
        "Fairweather|Okonjo|Pritchard|Lockwood-Hale|Tremaine|Sandhu|O'Rourke|Whitcombe|Abernathy|Mbeki|Dunmore",
    ),
    "DE": (
        "Friederike Torsten Lieselotte Björn Anneliese Gereon Käthe Sönke Irmgard Mehmet Dörte Valentin",
        "Großmann|Hübner|von Ahlefeld|Schrödter|Kiesewetter|Özkan|Pfannenstiel|Böhm|Rademacher|Jäger-Lohmann",
    ),
    "FR": (
        "Clémence Théodore Hélène Gaëtan Apolline Régis Noémie Lucien Zélie Bastien Océane Armand",
        "Desrosiers|Lefèvre|de la Tour|Chabrol|Béranger|N'Diaye|Vaillancourt|Michaud|Perrault|Guérin",
    ),
}
# Ranges that regulators keep for fiction, in the ways people write them; Ofcom, BNetzA, Arcep, NANPA.
_PHONES = {
    "GB": (
        "020 7946 0###",
        "+44 20 7946 0###",
        "0161 496 0###",
        "07700 900###",
        "+44 (0)7700 900###",
        "0161-496-0###",
    ),
    "DE": (
        "030 23125 ###",
        "(030) 23125-###",
        "+49 30 23125###",
        "0171 39200##",
        "+49 (0)171 3920 0##",
        "089/99998-###",
    ),
    "FR": ("01 99 00 ## ##", "01.99.00.##.##", "+33 1 99 00 ## ##", "06 39 98 ## ##", "+33 (0)6 39 98 ## ##"),
}
_IDS = {"GB": "### ### ###?", "FR": "1 ## 0# 75 ### ### ??"}
_IBANS = {"GB": ("GB", "IE"), "DE": ("DE", "AT", "NL"), "FR": ("FR", "BE", "ES")}
# Without the check digit.
_CARDS = ("4" + "#" * 14, "51" + "#" * 13, "54" + "#" * 13, "37" + "#" * 12, "6011" + "#" * 11)
_DOMAINS = ("example.com", "example.org", "example.net", "mail.example", "post.example", "courrier.example")
_PLAIN = str.maketrans(
    dict(zip("äöüéèëêïôçÖÜÇ", "aoueeeeiocOUC", strict=True)) | {"ß": "ss", "'": "", " ": ""}
)


class Person(NamedTuple):
    """Someone who exists in generated documents only."""

    country: str
    given: str
    family: str
    female: bool
    email: str
    phone: str
    iban: str
    card: str
    national_id: str

    @property
    def name(self) -> str:
        """The name in its usual order."""
        return f"{self.given} {self.family}"


def invent(chance: random.Random, country: str) -> Person:
    """Invent a person of a country in `COUNTRIES`."""
    givens, families = _NAMES[country]
    index = chance.randrange(len(givens.split()))
    given, family = givens.split()[index], chance.choice(families.split("|"))
    local = chance.choice(("{0}.{1}", "{0}{1}", "{2}.{1}", "{1}_{0}", "{0}-{3}", "{1}{3}")).format(
        given.translate(_PLAIN),
        family.translate(_PLAIN),
        given[0].translate(_PLAIN),
        chance.randrange(10, 100),
    )
    local = local if chance.random() < 0.2 else local.lower()
    number = card(_filled(chance, chance.choice(_CARDS)))
    account = random_iban(chance.choice(_IBANS[country]), chance)
    return Person(
        country,
        given,
        family,
        index % 2 == 0,
        f"{local}@{chance.choice(_DOMAINS)}",
        _filled(chance, chance.choice(_PHONES[country])),
        account if chance.random() < 0.3 else grouped(account, [4]),
        number if chance.random() < 0.3 else grouped(number, [4, 6, 5] if number.startswith("37") else [4]),
        _national_id(chance, country),
    )


def _national_id(chance: random.Random, country: str) -> str:
    while True:
        pattern = _tax_number(chance) if country == "DE" else _filled(chance, _IDS[country])
        filled = national_id(country.lower(), pattern)
        if filled is not None:
            return filled


def _tax_number(chance: random.Random) -> str:
    # Of the first ten digits of a German one, exactly one occurs twice.
    digits = chance.sample("0123456789", 9)
    digits.append(chance.choice(digits))
    chance.shuffle(digits)
    return grouped("".join(digits) + "?", [2, 3])


def _filled(chance: random.Random, pattern: str) -> str:
    # The first digit of a number is never zero, which several countries require.
    digits = "".join(chance.choice("0123456789") if c == "#" else c for c in pattern)
    return str(chance.randrange(1, 10)) + digits[1:] if pattern.startswith("#") else digits


COUNTRIES = tuple(_NAMES)
