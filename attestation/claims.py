"""What genuine evidence says, in one vocabulary for all platforms and before any policy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Genuine:
    """Claims whose every signature verified up to `root`; whether to accept them is the door's question."""

    platform: str
    root: str  # SHA-256 of the root certificate's DER: the verifier trusts no root, the policy names it
    report_data: bytes  # 64 bytes on SEV-SNP and TDX; the Nitro document's user_data, empty if absent
    measurements: dict[str, str]  # at least the names of schemas.evidence.MEASURED
    tcb: dict[str, int]  # component: SVN that certificate or collateral vouches for
    nonce: bytes | None = None  # Nitro only
    public_key_absent: bool = True  # Nitro only: a key in the document would be one we never compare
    chip: str = ""  # CHIP_ID, PPID or Nitro module; empty where the platform masks it
    debug: bool = False
    migratable: bool = False  # the host could move or copy the guest and its keys
    status: str = ""  # TDX TCB status
    advisories: tuple[str, ...] = ()
    crl_checked: bool = False
    privilege: int = 0  # VMPL on SEV-SNP
    warnings: tuple[str, ...] = ()  # genuine, but unsafe to run anything on: the door refuses unless empty
