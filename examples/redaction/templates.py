"""Templates of generated documents, as people write them; written without regard to what is found.

`{a.name}` stands for a detail of the first person and is marked in the truth with its kind; a name
in part (`given`, `family`) is a name too. Much of it is declared nowhere and will be missed.
`{card_like}` and its like are filled with numbers that are no identifiers.
"""

from typing import NamedTuple


class Template(NamedTuple):
    """A document with holes; headers are a mail's."""

    file: str
    country: str
    body: str
    headers: tuple[tuple[str, str], ...] = ()


TEMPLATES = (
    Template(
        "letters/claim.txt",
        "GB",
        """Calder & Rowe Insurance
Claims department

{date}

Claim number {order}

Dear {a.title} {a.family},

We have received your claim for water damage at your address on {date}. Our assessor, {c.name}, will visit
on Thursday. Should the time not suit you, please telephone {b.phone} between 9:00 and 17:00.

We hold the following details; please tell us if they are wrong:

  Policyholder: {a.name}
  Telephone: {a.phone}
  Email: {a.email}
  Account for payment: {a.iban}
  NHS number (injury claims only): {a.national_id}

The excess of 250.00 will be deducted. Form version 3.2.{small}, barcode {card_like}.

Yours sincerely
{b.name}
{b.email}
""",
    ),
    Template(
        "letters/reference.txt",
        "GB",
        """To whom it may concern

I have known {a.name} for nine years, first as a student, later as a colleague at the observatory. {a.given}
has always been punctual, and the paper we wrote together (ISBN {isbn}) owes most to {a.given}'s patience.

{b.name}, who supervised the work, shares my opinion and may be asked at {b.email}.

With best wishes
{c.name}
Tel. {c.phone}
""",
    ),
    Template(
        "mails/meeting.eml",
        "GB",
        """Hi {b.given},

could you and {c.name} join on {date} at 14:30? The room is booked, dial-in is {small}-{small}-{small}.

The last invoice ({order}) was paid with the card {a.card}; the bank asked me to confirm that by phone; I gave
them {a.phone}. If they ask you, please say the same.

Thanks
{a.given}

--
{a.name} | {a.email} | {ip}
""",
        (
            ("From", "{a.name} <{a.email}>"),
            ("To", "{b.name} <{b.email}>"),
            ("Cc", '"{c.family}, {c.given}" <{c.email}>'),
            ("Subject", "Meeting on {date}"),
        ),
    ),
    Template(
        "mails/order.eml",
        "GB",
        """Dear {b.title} {b.family},

thank you for order {order}. It will be sent with tracking {card_like} to the address you gave.

We charged {b.card}. Returns: write to {a.email} within 30 days.

{a.name}
Customer care
""",
        (
            ("From", "{a.name} <{a.email}>"),
            ("To", "{b.email}"),
            ("Subject", "Your order {order}"),
        ),
    ),
    Template(
        "notes/minutes.md",
        "GB",
        """# Minutes, {date}

Present: {a.name}, {b.name}, {c.name}

- {a.given} reported on the roof: quote {order}, 12,400.00, valid until {date}.
- {b.name} will ask the bank about {b.iban}.
- {c.title} {c.family} can be reached on {c.phone} from Monday.
- The server moved to {ip}, version 2.{small}.1.

Next meeting: {date}
""",
    ),
    Template(
        "tables/patients.csv",
        "GB",
        """patient_name,nhs_number,phone,email,last_visit,notes
{a.name},{a.national_id},{a.phone},{a.email},{date},
{b.name},{b.national_id},{b.phone},{b.email},{date},"prefers mornings, ask for {b.given}"
{c.name},{c.national_id},{c.phone},,{date},sample {card_like}
""",
    ),
    Template(
        "data/account.json",
        "GB",
        """{{
  "account": {small}0917,
  "owner": {{"firstName": "{a.given}", "lastName": "{a.family}", "email": "{a.email}"}},
  "payment": {{"card": "{a.card}", "iban": "{a.iban}", "order": "{card_like}"}},
  "history": [
    {{"at": "2025-02-03T10:11:12Z", "ip": "{ip}", "text": "Call from {b.name}, asked for {a.name}."}},
    {{"at": "2025-02-04T08:00:00Z", "ip": "{ip}", "text": "Mail to {b.email}; callback {b.phone}."}}
  ],
  "product": {{"name": "Garden Chair", "sku": "{isbn}"}}
}}
""",
    ),
    Template(
        "briefe/mahnung.txt",
        "DE",
        """{date}

Rechnung {order}, Kundennummer {small}77

Sehr geehrte{a.r} {a.title} {a.family},

leider haben wir auf unsere Rechnung vom {date} noch keinen Zahlungseingang festgestellt. Bitte überweisen Sie
den Betrag von 318,40 EUR auf unser Konto {b.iban}.

Haben Sie Fragen? {b.title} {b.family} hilft Ihnen gern: Tel. {b.phone}, {b.email}.

Bei uns hinterlegt: {a.name}, {a.phone}, Steuer-IdNr. {a.national_id}.

Mit freundlichen Grüßen
i. A. {c.name}
""",
    ),
    Template(
        "briefe/protokoll.md",
        "DE",
        """# Protokoll der Hausversammlung am {date}

Anwesend: {a.name}, {b.name}
Verwalter: {c.name}

1. {a.title} {a.family} berichtet über die Heizung (Zähler {card_like}).
2. {b.name} übernimmt die Gartenpflege, erreichbar unter {b.phone}.
3. Das Hausgeld geht künftig an {c.iban}.

Für das Protokoll: {c.given}
""",
    ),
    Template(
        "mails/anfrage.eml",
        "DE",
        """Liebe{b.r} {b.given},

anbei wie besprochen meine Daten für die Anmeldung:

Name: {a.family}, {a.given}
Mobil: {a.phone}
Bankverbindung: {a.iban}
Steuer-ID: {a.national_id}

{c.name} hat mir gesagt, dass du auch die Nummer der Bestellung brauchst: {order}.

Viele Grüße
{a.given}
""",
        (
            ("From", "{a.name} <{a.email}>"),
            ("To", "{b.name} <{b.email}>"),
            ("Subject", "Anmeldung {a.family}"),
        ),
    ),
    Template(
        "tabellen/personal.csv",
        "DE",
        """Personalnr;Vorname;Nachname;E-Mail;Telefon;IBAN;Eintritt;Vorgesetzter
{small}01;{a.given};{a.family};{a.email};{a.phone};{a.iban};{date};{c.name}
{small}02;{b.given};{b.family};{b.email};{b.phone};{b.iban};{date};{c.name}
{small}03;{c.given};{c.family};{c.email};;{c.iban};{date};
""",
    ),
    Template(
        "courriers/resiliation.txt",
        "FR",
        """{a.name}
{a.email}

Objet : résiliation du contrat n° {order}

Madame, Monsieur,

Par la présente, je résilie mon contrat à compter du {date}. Le solde est à verser sur le compte {a.iban}.
Vous pouvez me joindre au {a.phone}.

Votre conseillère, {b.title} {b.family}, m'a confirmé que la box (série {card_like}) pouvait être rendue
en boutique.

{a.name}
""",
    ),
    Template(
        "courriers/dossier.md",
        "FR",
        """# Dossier {order}

**Patient :** {a.name}
**Sécurité sociale :** {a.national_id}
**Médecin :** {b.name}

{a.title} {a.family} a été vu le {date}. Rappeler {c.name} au {c.phone} pour les résultats.
Écrire à {b.email} si besoin ; la carte {a.card} a servi au règlement.
""",
    ),
    Template(
        "donnees/clients.json",
        "FR",
        """[
 {{"nom": "{a.family}", "prenom": "{a.given}", "courriel": "{a.email}",
  "telephone": "{a.phone}", "iban": "{a.iban}"}},
 {{"nom": "{b.family}", "prenom": "{b.given}", "courriel": "{b.email}",
  "telephone": "{b.phone}", "suivi": "{card_like}"}},
 {{"nom": "{c.family}", "prenom": "{c.given}", "courriel": null,
  "remarque": "ami de {a.given}, version 1.{small}.0, {ip}"}}
]
""",
    ),
)
