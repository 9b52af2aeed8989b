"""Intel's Provisioning Certification Service, version 4, and PCCS, the cache of it that sites run."""

from dataclasses import dataclass

from attestation.bundles import subjects
from attestation.bundles.subjects import Files, Subject
from attestation.endorsements.fetcher import DAILY, Fetched, Fetcher, Wanted
from attestation.endorsements.http import Response
from attestation.endorsements.pem import chain_header, crl_in
from attestation.tdx.collateral import (
    PCK_CRL,
    PCK_CRL_CHAIN,
    QE_IDENTITY,
    QE_IDENTITY_CHAIN,
    ROOT_CA_CRL,
    TCB_INFO,
    TCB_INFO_CHAIN,
)
from schemas.evidence import MAX_ENDORSEMENTS

INTEL_PCS = "https://api.trustedservices.intel.com"
# A CRL, in spite of its name.
INTEL_ROOT_CA_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

STANDARD, EARLY = "standard", "early"

_LIMIT = 2 * MAX_ENDORSEMENTS  # bytes; hexadecimal text is twice as long as what it says

# Of version 4 and, as PCCS still says it, of version 3.
_TCB_INFO_HEADERS = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
_QE_IDENTITY_HEADERS = ("SGX-Enclave-Identity-Issuer-Chain",)
_PCK_CRL_HEADERS = ("SGX-PCK-CRL-Issuer-Chain",)


@dataclass(frozen=True, slots=True)
class PcsSource:
    """Where to ask. `root_ca_crl` is a whole address; without it, a PCCS's own path."""

    base: str = INTEL_PCS
    root_ca_crl: str | None = None
    update: str = STANDARD  # "early": the newest TCB evaluation at once, "standard" lags behind it

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", self.base.rstrip("/"))

    @property
    def root_ca_crl_url(self) -> str:
        """Return the address of the root CA's CRL."""
        if self.root_ca_crl is not None:
            return self.root_ca_crl
        if self.base == INTEL_PCS:
            return INTEL_ROOT_CA_CRL
        return f"{self.base}/sgx/certification/v4/rootcacrl"


class Pcs:
    """A client of PCS or of a PCCS."""

    def __init__(self, fetcher: Fetcher, source: PcsSource | None = None) -> None:
        self._fetcher = fetcher
        self._source = source or PcsSource()

    async def get(self, subject: Subject) -> Fetched:
        """Fetch TCB info, QE identity or a CRL, or raise `EndorsementError`."""
        if subject.kind == subjects.ROOT_CA_CRL:
            return await self._root_ca_crl(subject)
        base, update = self._source.base, self._source.update
        query = "" if update == STANDARD else f"update={update}"
        if subject.kind == subjects.TCB_INFO:
            path = f"/tdx/certification/v4/tcb?fmspc={subject.of[0].upper()}" + (query and f"&{query}")
            return await self._with_chain(subject, base + path, TCB_INFO, TCB_INFO_CHAIN, _TCB_INFO_HEADERS)
        if subject.kind == subjects.QE_IDENTITY:
            path = "/tdx/certification/v4/qe/identity" + (query and f"?{query}")
            names = (QE_IDENTITY, QE_IDENTITY_CHAIN)
            return await self._with_chain(subject, base + path, *names, _QE_IDENTITY_HEADERS)
        path = f"/sgx/certification/v4/pckcrl?ca={subject.of[0]}&encoding=der"
        return await self._with_chain(subject, base + path, PCK_CRL, PCK_CRL_CHAIN, _PCK_CRL_HEADERS)

    async def _with_chain(
        self, subject: Subject, url: str, name: str, chain: str, headers: tuple[str, ...]
    ) -> Fetched:
        def unpack(response: Response) -> Files:
            body = crl_in(response.body, str(subject)) if name == PCK_CRL else response.body
            return {name: body, chain: chain_header(response, headers, str(subject))}

        return await self._fetcher.get(Wanted(subject, url, _LIMIT, DAILY, unpack))

    async def _root_ca_crl(self, subject: Subject) -> Fetched:
        # The list is served bare: the root that made it is the one at the end of another list's chain.
        listed = await self.get(Subject(subjects.PCK_CRL, ("platform",)))
        chain = listed.files[PCK_CRL_CHAIN]

        def unpack(response: Response) -> Files:
            return {ROOT_CA_CRL: crl_in(response.body, str(subject)), PCK_CRL_CHAIN: chain}

        return await self._fetcher.get(Wanted(subject, self._source.root_ca_crl_url, _LIMIT, DAILY, unpack))
