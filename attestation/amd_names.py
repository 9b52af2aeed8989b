"""What AMD's endorsements are called, and what weakness it, or research, has named. Names alone: no bytes."""

from schemas.evidence import VCEK, VLEK

VCEK_FILE, VLEK_FILE = "vcek.der", "vlek.der"
ASK_FILE, ARK_FILE, CRL_FILE = "ask.der", "ark.der", "crl.der"
# Lists beside the first: AMD has one for VCEKs and one for VLEKs, both of one root, and neither says which it
# is.
MORE_CRL_FILES = ("crl_2.der", "crl_3.der", "crl_4.der", "crl_5.der")

# Common names, by the kind of key: that of its certificate, and how that of the intermediate above begins.
SUBJECT = {VCEK: "SEV-VCEK", VLEK: "SEV-VLEK"}
AUTHORITY = {VCEK: "SEV-", VLEK: "SEV-VLEK-"}

# AMD's Milan chips hold a root of VCEKs that was read out by software (arXiv 2605.12990): whoever has it
# can forge a report of any Milan chip and firmware. A policy can only go by which chips it knows.
LEAKED = {"Milan": "milan-vcek-extractable"}
