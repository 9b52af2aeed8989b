"""Endorsements that are not there: each has its own reason code, so that a fetcher knows what to get."""

from collections.abc import Iterable, Mapping

from attestation.errors import NotGenuineError
from schemas.errors import Reason

CODES = {
    "vcek.der": Reason.NO_VCEK,
    "vlek.der": Reason.NO_VLEK,
    "ask.der": Reason.NO_ASK,
    "ark.der": Reason.NO_ARK,
    "crl.der": Reason.NO_REVOCATION_LIST,
    "tcb_info.json": Reason.NO_TCB_INFO,
    "tcb_info_chain.pem": Reason.NO_TCB_INFO_CHAIN,
    "qe_identity.json": Reason.NO_QE_IDENTITY,
    "qe_identity_chain.pem": Reason.NO_QE_IDENTITY_CHAIN,
    "pck_crl.der": Reason.NO_PCK_CRL,
    "pck_crl_chain.pem": Reason.NO_PCK_CRL_CHAIN,
    "root_ca_crl.der": Reason.NO_ROOT_CA_CRL,
}


def missing_of(names: Iterable[str], endorsements: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return those of `names` that are absent or empty."""
    return tuple(name for name in names if not endorsements.get(name))


def codes_of(missing: Iterable[str]) -> tuple[Reason, ...]:
    """Return the reason code of each missing endorsement."""
    return tuple(CODES[name] for name in missing)


def refuse_without(names: Iterable[str], endorsements: Mapping[str, bytes]) -> None:
    """Raise `NotGenuineError` unless all of them are there: without them no signature can be checked."""
    missing = missing_of(names, endorsements)
    if missing:
        listed = ", ".join(missing)
        error = NotGenuineError(
            Reason.NO_COLLATERAL, f"absent: {listed}", seen=f"no {listed}", wanted="all of it"
        )
        error.also = codes_of(missing)
        raise error
