"""What columns, keys and field labels are called when a person's name stands in them."""

import re
import unicodedata
from enum import Enum
from functools import lru_cache


class Role(Enum):
    """Which part of a name a field holds."""

    FULL = "full"
    GIVEN = "given"
    FAMILY = "family"
    CORRESPONDENT = "correspondent"  # "From:", "To:": a name only if other header lines stand beside it


def _labels(text: str) -> list[str]:
    return "".join(line.strip() for line in text.splitlines()).split("|")


_PERSONS = _labels(
    """
        account holder|account owner|addressee|ansprechpartner|ansprechpartnerin|antragsteller|
        antragstellerin|applicant|approved by|arbeitnehmer|arbeitnehmerin|arzt|assure|assuree|
        assignee|attendee|attendees|attending physician|auftraggeber|author|bearbeiter|
        bearbeiterin|beneficiaire|beneficiary|betreuer|bewerber|bewerberin|borrower|buyer|
        candidat|candidate|card holder|cardholder|caller|carer|client|cliente|collaborateur|
        contact|contact person|creditor|customer|debtor|demandeur|destinataire|doctor|driver|
        employe|employee|emergency contact|empleado|empfanger|from person|gp|guardian|guest|
        holder|insured|insured person|interviewer|karteninhaber|kontakt|kontaktperson|
        kontoinhaber|kontoinhaberin|kunde|kundin|landlord|lehrer|line manager|locataire|manager|
        medecin|member|mieter|mieterin|mitarbeiter|mitarbeiterin|mother|father|nurse|owner|
        paciente|parent|participant|participants|passenger|patient|patiente|patientin|payee|
        person|physician|policyholder|policy holder|prescriber|prepared by|proprietaire|recipient|
        referred by|referring physician|reporter|requested by|requester|responsable|reviewed by|
        reviewer|sachbearbeiter|sachbearbeiterin|salarie|salariee|sender|seller|signatory|
        signed by|staff|student|supervisor|submitted by|tenant|titulaire|trainer|traveller|
        user full|versicherter|versicherte|versicherungsnehmer|versicherungsnehmerin|vermieter|
        vorgesetzter|witness|zeuge|zahlungsempfanger|next of kin|spouse|partner|child|teacher|
        therapist|surgeon|consultant|case worker|social worker|handler|case handler|agent|advisor|
        berater|beraterin|conseiller|conseillere|interlocuteur|traitant|medecin traitant|
        behandelnder arzt|hausarzt|unterzeichner|signataire|soussigne|emetteur|expediteur|
        absender
        """
)
_FULL = {
    *_PERSONS,
    *(f"{person} name" for person in _PERSONS),
    *(f"name of {person}" for person in _PERSONS),
    *(f"name of the {person}" for person in _PERSONS),
    *(f"nom du {person}" for person in _PERSONS),
    *(f"name des {person}" for person in _PERSONS),
    *(f"name der {person}" for person in _PERSONS),
    *_labels(
        """
        name|full name|fullname|display name|legal name|person name|complete name|
        vollstandiger name|nom complet|nom et prenom|nom prenom|prenom et nom|prenom nom|
        name vorname|nachname vorname|vorname nachname|vor und nachname|name und vorname|
        nombre completo|nombre y apellidos|nome completo|nome e cognome|last name first name|
        first and last name|your name|printed name|contact name|names|volledige naam|naam
        """
    ),
}
_GIVEN = set(
    _labels(
        """
        first name|firstname|given name|given names|givenname|given|forename|forenames|vorname|
        vornamen|rufname|prenom|prenoms|nombre|nome|first|voornaam|christian name
        """
    )
)
_FAMILY = set(
    _labels(
        """
        last name|lastname|surname|family name|familyname|family|nachname|familienname|zuname|nom|
        nom de famille|nom d usage|apellido|apellidos|cognome|achternaam|last
        """
    )
)
_CORRESPONDENT = set(
    _labels(
        """
        from|to|cc|bcc|von|an|de|a|kopie|copie|para|da|sent by|gesendet von
        """
    )
)
# Beside these a bare "name" is that of a thing.
_THINGS = set(
    _labels(
        """
        sku|price|product|item|file|filename|path|version|size|license|dependencies|unit|
        unit price|stock|article|preis|artikel|prix|produit|brand|category|host|hostname|command|
        scripts|repository|species
        """
    )
)


def _spelled(label: str) -> str:
    label = re.sub(r"([a-z])([A-Z])", r"\1 \2", label.strip())
    bare = unicodedata.normalize("NFKD", label.casefold())
    return " ".join(re.findall(r"[^\W_]+", "".join(c for c in bare if not unicodedata.combining(c))))


@lru_cache(maxsize=4096)
def role(label: str) -> Role | None:
    """Return which part of a name is under this label, None if none is."""
    spelled = _spelled(label)
    if spelled in _FULL:
        return Role.FULL
    if spelled in _GIVEN:
        return Role.GIVEN
    if spelled in _FAMILY:
        return Role.FAMILY
    for prefix in (
        "customer ",
        "patient ",
        "employee ",
        "client ",
        "contact ",
        "user ",
        "kunden ",
        "person ",
    ):
        if spelled.startswith(prefix) and (rest := role(spelled.removeprefix(prefix))) is not Role.FULL:
            return rest if rest is not Role.CORRESPONDENT else None
    return Role.CORRESPONDENT if spelled in _CORRESPONDENT else None


def is_bare(label: str) -> bool:
    """Return whether a label says only "name", of whatever."""
    return _spelled(label) in ("name", "names")


def is_thing(label: str) -> bool:
    """Return whether a label beside a bare "name" says that the name is a thing's."""
    return _spelled(label) in _THINGS


def columns(headings: list[str]) -> dict[int, Role]:
    """Return the columns that hold names, and which part."""
    found = {i: part for i, heading in enumerate(headings) if (part := role(heading)) is not None}
    spelled = [_spelled(heading) for heading in headings]
    parts = set(found.values())
    for i, part in list(found.items()):
        if part is Role.CORRESPONDENT:
            found[i] = Role.FULL
        elif spelled[i] in ("name", "names") and any(other in _THINGS for other in spelled):
            del found[i]
        elif spelled[i] == "name" and Role.GIVEN in parts:
            found[i] = Role.FAMILY  # "Name, Vorname"
        elif spelled[i] in ("nom", "nombre", "nome") and parts.isdisjoint({Role.GIVEN, Role.FAMILY} - {part}):
            found[i] = Role.FULL
    return found
