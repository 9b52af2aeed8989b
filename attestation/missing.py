"""Endorsements that are not there: each has its own reason code, so that a fetcher knows what to get."""

from collections.abc import Collection, Iterable, Mapping

from attestation.amd_names import ARK_FILE, ASK_FILE, CRL_FILE, VCEK_FILE, VLEK_FILE
from attestation.errors import NotGenuineError
from attestation.hints import Hint
from schemas.errors import Reason

CODES = {
    VCEK_FILE: Reason.NO_VCEK,
    VLEK_FILE: Reason.NO_VLEK,
    ASK_FILE: Reason.NO_ASK,
    ARK_FILE: Reason.NO_ARK,
    CRL_FILE: Reason.NO_REVOCATION_LIST,
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


def wanted_for(missing: Collection[str]) -> str:
    """Say what is wanted in place of a gap."""
    return "one that is current" if len(missing) == 1 else "ones that are current"


def hint_of(*names: str) -> Hint | None:
    """Return what to say of these endorsements beside that they are absent, or can't be read."""
    return Hint.VLEK_OF_THE_CLOUD if VLEK_FILE in names else None


def refuse_without(names: Iterable[str], endorsements: Mapping[str, bytes]) -> None:
    """Raise `NotGenuineError` unless all of them are there: without them no signature can be checked."""
    missing = missing_of(names, endorsements)
    if missing:
        listed = ", ".join(missing)
        error = NotGenuineError(
            Reason.NO_COLLATERAL, f"absent: {listed}", seen=f"no {listed}", wanted=wanted_for(missing)
        )
        error.also = codes_of(missing)
        error.hint = hint_of(*missing)
        raise error
