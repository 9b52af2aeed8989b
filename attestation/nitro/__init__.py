"""AWS Nitro Enclaves: attestation documents, which carry their own certificate chain."""

from attestation.nitro.parse import MAX_NONCE, Document, parse
from attestation.nitro.verify import verify

MEDIA_TYPE = "application/vnd.sealbus.nitro-attestation"

__all__ = ["MAX_NONCE", "MEDIA_TYPE", "Document", "parse", "verify"]
