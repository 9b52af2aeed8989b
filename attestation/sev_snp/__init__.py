"""AMD SEV-SNP: attestation reports and the VCEK or VLEK chains that endorse them."""

from attestation.sev_snp.parse import FEATURES, SMT_DISABLED, Report, parse
from attestation.sev_snp.verify import verify

MEDIA_TYPE = "application/vnd.sealbus.sev-snp-report"

__all__ = ["FEATURES", "MEDIA_TYPE", "SMT_DISABLED", "Report", "parse", "verify"]
