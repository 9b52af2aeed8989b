"""Intel TDX: why a quote and its collateral are believed."""

from attestation.tdx.verify import COMPONENTS, SEPT_VE_DISABLE, UNDER_DEBUG, verify

__all__ = ["COMPONENTS", "MEDIA_TYPE", "SEPT_VE_DISABLE", "UNDER_DEBUG", "verify"]

MEDIA_TYPE = "application/vnd.sealbus.tdx-quote"
