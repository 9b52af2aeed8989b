"""The identifier libraries of the `lab` extra, imported in one place so that their absence has one text."""

from schemas.errors import UsageError

try:
    import ahocorasick
    import phonenumbers
    from stdnum.at import vnr as at_vnr
    from stdnum.be import nn as be_nn
    from stdnum.br import cpf as br_cpf
    from stdnum.ch import ssn as ch_ssn
    from stdnum.de import idnr as de_idnr
    from stdnum.es import dni as es_dni
    from stdnum.es import nie as es_nie
    from stdnum.exceptions import ValidationError
    from stdnum.fi import hetu as fi_hetu
    from stdnum.fr import nir as fr_nir
    from stdnum.gb import nhs as gb_nhs
    from stdnum.ie import pps as ie_pps
    from stdnum.in_ import aadhaar as in_aadhaar
    from stdnum.it import codicefiscale as it_codicefiscale
    from stdnum.nl import bsn as nl_bsn
    from stdnum.no import fodselsnummer as no_fodselsnummer
    from stdnum.pl import pesel as pl_pesel
    from stdnum.se import personnummer as se_personnummer
    from stdnum.us import ssn as us_ssn
except ImportError as error:
    raise UsageError(
        f"the redaction example needs {error.name}, which is not installed: pip install 'sealbus[lab]'"
    ) from error

__all__ = [
    "ValidationError",
    "ahocorasick",
    "at_vnr",
    "be_nn",
    "br_cpf",
    "ch_ssn",
    "de_idnr",
    "es_dni",
    "es_nie",
    "fi_hetu",
    "fr_nir",
    "gb_nhs",
    "ie_pps",
    "in_aadhaar",
    "it_codicefiscale",
    "nl_bsn",
    "no_fodselsnummer",
    "phonenumbers",
    "pl_pesel",
    "se_personnummer",
    "us_ssn",
]
