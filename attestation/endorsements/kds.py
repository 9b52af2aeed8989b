"""AMD's Key Distribution Service: VCEK by chip and TCB, chains, revocation lists (publication 57230).

It throttles: ask through a `Fetcher` with a cache. A VLEK is given to its cloud only, so it comes with
evidence or not at all.
"""

from urllib.parse import urlencode

from attestation.amd_names import ARK_FILE, ASK_FILE, CRL_FILE, VCEK_FILE
from attestation.bundles import subjects
from attestation.bundles.subjects import Files, Subject
from attestation.endorsements.errors import WrongDocumentError, judged
from attestation.endorsements.fetcher import DAILY, LASTING, Fetched, Fetcher, Wanted
from attestation.endorsements.http import Response
from attestation.endorsements.pem import certificates_in
from attestation.sev_snp.certificate import PRODUCTS, unpack_tcb
from attestation.x509 import MAX_CERTIFICATE, MAX_CRL
from schemas.errors import Reason

AMD_KDS = "https://kdsintf.amd.com"

# How the service names the components of a TCB, in the order in which it documents them.
_SPL = {"fmc": "fmcSPL", "boot_loader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}


class Kds:
    """A client of the service, or of a mirror that speaks its interface."""

    def __init__(self, fetcher: Fetcher, base: str = AMD_KDS) -> None:
        self._fetcher = fetcher
        self._base = base.rstrip("/")

    async def get(self, subject: Subject) -> Fetched:
        """Fetch a VCEK, chain or CRL, or raise `EndorsementError`."""
        if subject.kind == subjects.VCEK:
            product, *_ = subject.of
            chain = await self.get(Subject(subjects.CHAIN, (product, "vcek")))
            return await self._fetcher.get(_vcek(self._base, subject, chain.files))
        product, key = subject.of
        if subject.kind == subjects.CHAIN:
            return await self._fetcher.get(_chain(self._base, product, key))
        chain = await self.get(Subject(subjects.CHAIN, (product, key)))
        return await self._fetcher.get(_crl(self._base, product, key, chain.files))


def _vcek(base: str, subject: Subject, chain: Files) -> Wanted:
    name, chip, tcb = subject.of
    product = PRODUCTS.get(name)
    if product is None or len(chip) != 2 * product.hardware_id_size:
        raise WrongDocumentError(Reason.CHIP_MISMATCH, "a chip of this product has an id of another length")
    with judged(str(subject)):
        spls = unpack_tcb(bytes.fromhex(tcb), product)
    query = urlencode([(word, spls[component]) for component, word in _SPL.items() if component in spls])
    return Wanted(
        subject,
        f"{base}/vcek/v1/{name}/{chip}?{query}",
        MAX_CERTIFICATE,
        LASTING,
        lambda response: {**chain, VCEK_FILE: response.body},
    )


def _chain(base: str, product: str, key: str) -> Wanted:
    subject = Subject(subjects.CHAIN, (product, key))

    def unpack(response: Response) -> Files:
        ask, ark = certificates_in(response.body, 2, str(subject))
        return {ASK_FILE: ask, ARK_FILE: ark}

    return Wanted(subject, f"{base}/{key}/v1/{product}/cert_chain", 4 * MAX_CERTIFICATE, LASTING, unpack)


def _crl(base: str, product: str, key: str, chain: Files) -> Wanted:
    return Wanted(
        Subject(subjects.CRL, (product, key)),
        f"{base}/{key}/v1/{product}/crl",
        MAX_CRL,
        DAILY,
        lambda response: {**chain, CRL_FILE: response.body},
    )
