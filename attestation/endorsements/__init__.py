"""Endorsements: asked of the vendors' services, kept, bundled for where none can be reached. Never trusted.

Verification takes endorsements as an argument and fetches nothing: `attestation.appraise` knows nothing of
this package.
"""

from attestation.bundles.subjects import Subject, Validity
from attestation.endorsements.cache import Cache
from attestation.endorsements.collect import Services, collect, merged
from attestation.endorsements.errors import (
    EndorsementError,
    NoSuchDocumentError,
    ServiceUnavailableError,
    WrongDocumentError,
)
from attestation.endorsements.fetcher import Fetched, Fetcher, How
from attestation.endorsements.http import Clock, Http, Patience
from attestation.endorsements.kds import AMD_KDS, Kds
from attestation.endorsements.pcs import INTEL_PCS, Pcs, PcsSource
from attestation.needs import Needs, needs_of

__all__ = [
    "AMD_KDS",
    "INTEL_PCS",
    "Cache",
    "Clock",
    "EndorsementError",
    "Fetched",
    "Fetcher",
    "How",
    "Http",
    "Kds",
    "Needs",
    "NoSuchDocumentError",
    "Patience",
    "Pcs",
    "PcsSource",
    "ServiceUnavailableError",
    "Services",
    "Subject",
    "Validity",
    "WrongDocumentError",
    "collect",
    "merged",
    "needs_of",
]
