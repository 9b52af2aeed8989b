"""Intel TDX: why a quote and its collateral are believed."""

from attestation.tdx.verify import verify

__all__ = ["MEDIA_TYPE", "verify"]

MEDIA_TYPE = "application/vnd.sealbus.tdx-quote"
