"""All that one piece of evidence needs, fetched from its vendor's service."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from attestation.amd_names import VCEK_FILE, VLEK_FILE
from attestation.bundles.subjects import Subject
from attestation.endorsements.errors import EndorsementError, NoSuchDocumentError, WrongDocumentError
from attestation.endorsements.fetcher import Fetched
from attestation.endorsements.kds import Kds
from attestation.endorsements.pcs import Pcs
from attestation.needs import Needs, SnpNeeds
from schemas.errors import Reason
from schemas.evidence import VCEK, VLEK, Endorsements


@dataclass(frozen=True, slots=True)
class Services:
    """The vendors' services."""

    kds: Kds
    pcs: Pcs


async def collect(
    needs: Needs,
    beside: Mapping[str, bytes],
    services: Services,
    *,
    seen: Callable[[Fetched], None] = lambda _: None,
) -> tuple[Fetched, ...]:
    """Fetch what `needs` names, telling `seen` of each; raise `EndorsementError` if any can't be had.

    `beside` is what came with the evidence: what no service gives to us has to be there.
    """
    if needs is None:
        return ()
    if isinstance(needs, SnpNeeds):
        return await _collect_snp(needs, beside, services.kds, seen)
    return tuple([await _get(services.pcs, subject, seen) for subject in needs.subjects()])


async def _collect_snp(
    needs: SnpNeeds, beside: Mapping[str, bytes], kds: Kds, seen: Callable[[Fetched], None]
) -> tuple[Fetched, ...]:
    _refuse_what_no_service_gives(needs, beside)
    *others, last = needs.products
    for product in others:
        try:
            return await _of_product(needs, product, kds, seen)
        except (NoSuchDocumentError, WrongDocumentError):
            continue  # the chip is of another product, or else the last one fails too and says why
    return await _of_product(needs, last, kds, seen)


async def _of_product(
    needs: SnpNeeds, product: str, kds: Kds, seen: Callable[[Fetched], None]
) -> tuple[Fetched, ...]:
    return tuple([await _get(kds, subject, seen) for subject in needs.subjects(product)])


async def _get(service: Kds | Pcs, subject: Subject, seen: Callable[[Fetched], None]) -> Fetched:
    fetched = await service.get(subject)
    seen(fetched)
    return fetched


def _refuse_what_no_service_gives(needs: SnpNeeds, beside: Mapping[str, bytes]) -> None:
    if needs.key == VLEK and VLEK_FILE not in beside:
        raise EndorsementError(
            Reason.NO_VLEK,
            "AMD gives a VLEK to its cloud only: take it from the guest's certificate table, as vlek.der",
        )
    if needs.key == VCEK and not needs.chip and VCEK_FILE not in beside:
        raise EndorsementError(
            Reason.NO_VCEK,
            "the host masks the chip id, so AMD can't be asked: take the VCEK from the guest's certificate "
            "table, as vcek.der",
        )


def merged(fetched: tuple[Fetched, ...]) -> Endorsements:
    """Return the files of several documents by the names that verification takes them under."""
    return {name: data for each in fetched for name, data in each.subject.given(each.files).items()}
