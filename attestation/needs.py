"""What evidence needs from its vendor's services, read out of the evidence itself. Pure; believes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from attestation import nitro, sev_snp, tdx
from attestation.bundles import subjects
from attestation.bundles.subjects import Subject
from attestation.errors import EvidenceMalformedError, NotGenuineError, UnsupportedPlatformError
from attestation.sev_snp.certificate import PRODUCTS, line_of, read_endorsed
from attestation.sev_snp.parse import Report, SigningKey
from attestation.tdx.collateral import read_chain
from attestation.tdx.parse import parse_quote
from attestation.tdx.pck import read_pck
from attestation.x509 import read_certificate
from schemas.errors import Reason
from schemas.evidence import VCEK, VLEK, Evidence

# How the common names end of the two CAs that certify PCKs.
PCK_AUTHORITIES = {"platform": "PCK Platform CA", "processor": "PCK Processor CA"}


@dataclass(frozen=True, slots=True)
class SnpNeeds:
    """A chain and a CRL of one product, and the VCEK unless a cloud's VLEK signed."""

    products: tuple[str, ...]  # version 2 reports don't say which: the candidates
    key: str  # "vcek" or "vlek"
    chip: bytes  # as the key service names it; empty if the host masks it
    tcb: bytes  # REPORTED_TCB, the one that a certificate is for

    def subjects(self, product: str) -> tuple[Subject, ...]:
        """Name the documents if the chip is of this product; a VLEK comes with the evidence or not at all."""
        shared = (Subject(subjects.CHAIN, (product, self.key)), Subject(subjects.CRL, (product, self.key)))
        if self.key == "vlek" or not self.chip:
            return shared
        return (Subject(subjects.VCEK, (product, self.chip.hex(), self.tcb.hex())), *shared)

    @property
    def lists(self) -> tuple[Subject, ...]:
        """Name all lists of the products: one root signs both of a product's, and may revoke in either."""
        return tuple(
            Subject(subjects.CRL, (product, key)) for product in self.products for key in (VCEK, VLEK)
        )


@dataclass(frozen=True, slots=True)
class TdxNeeds:
    """Collateral of one platform family, and the lists of those who certified it."""

    fmspc: bytes
    authority: str  # "platform" or "processor"

    def subjects(self) -> tuple[Subject, ...]:
        """Name the documents."""
        return (
            Subject(subjects.TCB_INFO, (self.fmspc.hex(),)),
            Subject(subjects.QE_IDENTITY),
            Subject(subjects.PCK_CRL, (self.authority,)),
            Subject(subjects.ROOT_CA_CRL),
        )


Needs = SnpNeeds | TdxNeeds | None


def needs_of(evidence: Evidence, beside: Mapping[str, bytes]) -> Needs:
    """Say what to ask for; None if the evidence carries all itself (Nitro).

    `beside` is what came with the evidence: a VLEK there says of which product it is. Raises
    `AttestationError` for evidence that can't be read.
    """
    if evidence.type == nitro.MEDIA_TYPE:
        return None
    if evidence.type == sev_snp.MEDIA_TYPE:
        return _snp(sev_snp.parse(evidence.value), beside)
    if evidence.type == tdx.MEDIA_TYPE:
        return _tdx(evidence.value)
    raise UnsupportedPlatformError("evidence of a platform that is not known")


def _snp(report: Report, beside: Mapping[str, bytes]) -> SnpNeeds:
    key = "vcek" if report.signing_key is SigningKey.VCEK else "vlek"
    products = _products(report, beside.get(f"{key}.der"))
    # Only Turin's ids are short, and its reports are all of versions that name it: one size fits all here.
    size = PRODUCTS[products[0]].hardware_id_size
    chip = report.chip_id[:size] if any(report.chip_id) else b""
    return SnpNeeds(products, key, chip, report.reported_tcb)


def _products(report: Report, certificate: bytes | None) -> tuple[str, ...]:
    if report.cpuid is not None:
        if line := line_of(*report.cpuid):
            return (line,)
        raise EvidenceMalformedError("report of an unknown processor", Reason.UNSUPPORTED_VERSION)
    if certificate:
        return (read_endorsed(read_certificate(certificate)).product_name,)
    return tuple(name for name, product in PRODUCTS.items() if product.hardware_id_size == 64)


def _tdx(value: bytes) -> TdxNeeds:
    pck, authority, _ = read_chain(parse_quote(value).pck_chain, 3)
    for which, ending in PCK_AUTHORITIES.items():
        if authority.common_name.endswith(ending):
            return TdxNeeds(read_pck(pck).fmspc, which)
    raise NotGenuineError(Reason.CHAIN_INVALID, "the quote's PCK certificate is of no known authority")
