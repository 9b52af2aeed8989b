"""What a platform's patch level is worth, by Intel's collateral (PCS API version 4, "Get TDX TCB Info").

Pure comparison of numbers that were all verified before. Says a status; whether it is good enough
is the policy's question.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from attestation.errors import NotGenuineError
from attestation.tdx.collateral import EnclaveLevel, PlatformLevel, QeIdentity, TcbInfo, TdxModule
from attestation.tdx.parse import SgxReport, TdReport
from attestation.tdx.pck import PckIdentity
from schemas.errors import Reason
from schemas.evidence import REVOKED, SW_HARDENING, UP_TO_DATE

CONFIGURATION = "ConfigurationNeeded"
CONFIGURATION_AND_SW_HARDENING = "ConfigurationAndSWHardeningNeeded"
OUT_OF_DATE = "OutOfDate"
OUT_OF_DATE_CONFIGURATION = "OutOfDateConfigurationNeeded"
RELAUNCH = "TDRelaunchAdvised"
RELAUNCH_CONFIGURATION = "TDRelaunchAdvisedConfigurationNeeded"

_OUTDATED, _CONFIGURATION, _HARDENING = "outdated", "configuration", "hardening"
# What is amiss at a level, by the status that it may be published with. The two of a relaunch are only ever
# concluded.
PUBLISHED_STATUSES = {
    UP_TO_DATE: frozenset[str](),
    SW_HARDENING: frozenset({_HARDENING}),
    CONFIGURATION: frozenset({_CONFIGURATION}),
    CONFIGURATION_AND_SW_HARDENING: frozenset({_CONFIGURATION, _HARDENING}),
    OUT_OF_DATE: frozenset({_OUTDATED}),
    OUT_OF_DATE_CONFIGURATION: frozenset({_OUTDATED, _CONFIGURATION}),
    REVOKED: frozenset({REVOKED}),
}
# MRSIGNER of the TD QE, as every QE identity of Intel's gives it: what is known of a QE without one.
INTEL_QE_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")

# Why a quote is not genuine where what to do differs from what its reason code says.
NOT_OF_INTEL = "the quoting enclave is not signed by Intel"
FOREIGN_QE = "the quoting enclave is not the one of the QE identity"
FOREIGN_MODULE = "the TDX module is not the one of the TCB info"
UNKNOWN_MODULE = "no identity is published for this TDX module"
UNKNOWN_STATUS = "the collateral gives a TCB status that is not known"

ENCLAVE_STATUSES = (UP_TO_DATE, OUT_OF_DATE, REVOKED)

# What becomes of a TD that an out-of-date module launched, where the one that runs it is not.
_RELAUNCH = {OUT_OF_DATE: RELAUNCH, OUT_OF_DATE_CONFIGURATION: RELAUNCH_CONFIGURATION}


@dataclass(frozen=True, slots=True)
class TcbVerdict:
    """One status for platform, TDX module and QE together, and what Intel published about it."""

    status: str
    advisories: tuple[str, ...]


def check_qe_identity(identity: QeIdentity | None, qe: SgxReport) -> EnclaveLevel | None:
    """Check that the quote was signed by Intel's TD QE; return the level it stands at, if that is known.

    A PCK vouches for any enclave that its PCE certifies, so without this anybody's enclave could quote.
    """
    if identity is None:
        if qe.mrsigner != INTEL_QE_SIGNER:
            wanted = f"{INTEL_QE_SIGNER.hex()[:16]}…, Intel's"
            raise NotGenuineError(Reason.TCB_MISMATCH, NOT_OF_INTEL, seen=_signer(qe.mrsigner), wanted=wanted)
        return None
    genuine = (
        _masked(qe.miscselect, identity.miscselect_mask) == bytes.fromhex(identity.miscselect)
        and _masked(qe.attributes, identity.attributes_mask) == bytes.fromhex(identity.attributes)
        and qe.mrsigner == bytes.fromhex(identity.mrsigner)
        and qe.isvprodid == identity.isvprodid
    )
    if not genuine:
        raise NotGenuineError(
            Reason.TCB_MISMATCH,
            FOREIGN_QE,
            seen=f"a quoting enclave of {_signer(qe.mrsigner)}, ISVPRODID {qe.isvprodid}",
            wanted=f"{identity.mrsigner[:16].lower()}…, {identity.isvprodid}, and its attributes",
        )
    return _enclave_level(identity.tcb_levels, qe.isvsvn, "ISVSVN of the quoting enclave")


def evaluate(info: TcbInfo, pck: PckIdentity, report: TdReport, qe_level: EnclaveLevel | None) -> TcbVerdict:
    """Evaluate the TCB that launched the TD and the one that runs it now: a module can be replaced below it.

    As in Intel's library, one that runs well under a TD which an out-of-date one launched makes it a
    `TDRelaunchAdvised`. Beyond it, whatever is amiss with either is amiss with the TD, and the advisories of
    both count: who accepts the one has not accepted the other.
    """
    launched, of_launched = _evaluate(info, pck, report, report.tee_tcb_svn, qe_level)
    running, of_running = _evaluate(info, pck, report, report.tee_tcb_svn_2, qe_level)
    status = _status_of(launched | running)
    if _OUTDATED in launched and _OUTDATED not in running:
        status = _RELAUNCH.get(status, status)
    return TcbVerdict(status, tuple(dict.fromkeys((*of_launched, *of_running))))


def _evaluate(
    info: TcbInfo, pck: PckIdentity, report: TdReport, tee_tcb_svn: bytes, qe_level: EnclaveLevel | None
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return what is amiss with platform, TDX module and QE together, and their advisories."""
    module_level = _module_level(info, report, tee_tcb_svn)
    platform_level = _platform_level(info.tcb_levels, pck, tee_tcb_svn)
    enclaves = [level for level in (module_level, qe_level) if level is not None]
    levels: list[PlatformLevel | EnclaveLevel] = [platform_level, *enclaves]
    # A status that is not known here could be worse than any: it must not vanish among good ones.
    if platform_level.tcb_status not in PUBLISHED_STATUSES or not all(
        level.tcb_status in ENCLAVE_STATUSES for level in enclaves
    ):
        raise NotGenuineError(Reason.TCB_NOT_RECOGNIZED, UNKNOWN_STATUS)
    amiss = frozenset[str]().union(*(PUBLISHED_STATUSES[level.tcb_status] for level in levels))
    return amiss, tuple(advisory for level in levels for advisory in level.advisories)


def _status_of(amiss: frozenset[str]) -> str:
    """Name all that is amiss; beside what is out of date, no status says that software is to be hardened."""
    if REVOKED in amiss:
        return REVOKED
    if _OUTDATED in amiss:
        return OUT_OF_DATE_CONFIGURATION if _CONFIGURATION in amiss else OUT_OF_DATE
    return next(status for status, each in PUBLISHED_STATUSES.items() if each == amiss)


def _module_level(info: TcbInfo, report: TdReport, tee_tcb_svn: bytes) -> EnclaveLevel | None:
    """Check the TDX module's identity; modules before 1.5 have no level of their own."""
    isvsvn, version = tee_tcb_svn[0], tee_tcb_svn[1]
    if version == 0:
        _check_module(info.tdx_module, report)
        return None
    for identity in info.tdx_module_identities:
        if identity.id.upper() == f"TDX_{version:02X}":
            _check_module(identity, report)
            return _enclave_level(identity.tcb_levels, isvsvn, "SVN of the TDX module")
    raise NotGenuineError(
        Reason.TCB_NOT_RECOGNIZED,
        UNKNOWN_MODULE,
        seen=f"major version {version} of the module",
        wanted="one that the TCB info describes",
    )


def _check_module(module: TdxModule, report: TdReport) -> None:
    # Attributes that the mask leaves open must be zero all the same: nobody says what they would mean.
    if (
        report.mrsignerseam != bytes.fromhex(module.mrsigner)
        or _masked(report.seamattributes, module.attributes_mask) != bytes.fromhex(module.attributes)
        or _masked(report.seamattributes, module.attributes_mask) != report.seamattributes
    ):
        raise NotGenuineError(
            Reason.TCB_MISMATCH,
            FOREIGN_MODULE,
            seen=f"a module of {_signer(report.mrsignerseam)}, attributes {report.seamattributes.hex()}",
            wanted=f"{module.mrsigner[:16].lower()}…, {module.attributes.lower()}",
        )


def _platform_level(levels: Sequence[PlatformLevel], pck: PckIdentity, tee_tcb_svn: bytes) -> PlatformLevel:
    # From module 1.5 on, SVNs 0 and 1 are the module's own and judged by its identity: its minor
    # number starts again with each major one, so a comparison here would refuse newer modules.
    first = 0 if tee_tcb_svn[1] == 0 else 2
    for level in levels:
        sgx = all(
            have >= want.svn for have, want in zip(pck.components, level.tcb.sgxtcbcomponents, strict=True)
        )
        tdx = all(
            have >= want.svn
            for have, want in zip(tee_tcb_svn[first:], level.tcb.tdxtcbcomponents[first:], strict=True)
        )
        if sgx and tdx and pck.pcesvn >= level.tcb.pcesvn:
            return level
    below = _below(levels[-1], pck, tee_tcb_svn, first)
    raise NotGenuineError(
        Reason.TCB_NOT_RECOGNIZED,
        "the platform is below every published TCB level",
        seen=", ".join(f"{name} {have}" for name, have, _ in below),
        wanted=f"at least {', '.join(f'{name} {want}' for name, _, want in below)}, the lowest level's",
    )


def _below(
    level: PlatformLevel, pck: PckIdentity, tee_tcb_svn: bytes, first: int
) -> list[tuple[str, int, int]]:
    """Name what of a platform is below a level, with what it has and what the level has."""
    sgx, tdx = level.tcb.sgxtcbcomponents, level.tcb.tdxtcbcomponents
    pairs = [
        *((f"SGX_TCB_COMP_{n + 1:02}", pck.components[n], want.svn) for n, want in enumerate(sgx)),
        *((f"TEE_TCB_SVN_{n:02}", tee_tcb_svn[n], want.svn) for n, want in enumerate(tdx) if n >= first),
        ("PCESVN", pck.pcesvn, level.tcb.pcesvn),
    ]
    return [(name, have, want) for name, have, want in pairs if have < want]


def _enclave_level(levels: Sequence[EnclaveLevel], isvsvn: int, what: str) -> EnclaveLevel:
    for level in levels:
        if isvsvn >= level.tcb.isvsvn:
            return level
    raise NotGenuineError(
        Reason.TCB_NOT_RECOGNIZED,
        "an enclave is below every published TCB level",
        seen=f"{what} {isvsvn}",
        wanted=f"at least {levels[-1].tcb.isvsvn}, the lowest level's",
    )


def _signer(digest: bytes) -> str:
    return f"MRSIGNER {digest.hex()[:16]}…" if any(digest) else "MRSIGNER zero"


def _masked(value: bytes, mask: str) -> bytes:
    return bytes(a & b for a, b in zip(value, bytes.fromhex(mask), strict=True))
