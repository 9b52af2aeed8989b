"""Intel TDX: why a quote and its collateral are believed."""

from attestation.tdx.verify import DEBUG, SEPT_VE_DISABLE, verify

__all__ = ["DEBUG", "MEDIA_TYPE", "SEPT_VE_DISABLE", "verify"]

MEDIA_TYPE = "application/vnd.sealbus.tdx-quote"
