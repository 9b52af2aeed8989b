"""What genuine evidence says, in one vocabulary for all platforms and before any policy."""

from dataclasses import dataclass, field
from datetime import datetime

from attestation.amd_names import CRL_FILE
from schemas.evidence import TDX, VLEK

EVALUATION_NUMBER = "TCB_EVALUATION_DATA_NUMBER"  # TDX: in `tcb`, though it is of the collateral
CRL = CRL_FILE  # the one endorsement that a policy may do without


@dataclass(frozen=True, slots=True)
class Genuine:
    """Claims whose every signature verified up to `root`; whether to accept them is the judge's question."""

    platform: str
    root: str  # SHA-256 of the root certificate's DER: the verifier trusts no root, the policy names it
    report_data: bytes  # 64 bytes on SEV-SNP and TDX; the Nitro document's user_data, empty if absent
    measurements: dict[str, str]  # at least the names of schemas.evidence.MEASURED
    tcb: dict[str, int]  # component: SVN that certificate or collateral vouches for
    committed_tcb: dict[str, int] = field(default_factory=dict)  # SEV-SNP: firmware can't go below it
    missing: tuple[str, ...] = ()  # endorsements by name that were not there: checks that were not made
    nonce: bytes | None = None  # Nitro only
    public_key_absent: bool = True  # Nitro only: a key in the document would be one we never compare
    product: str = ""  # SEV-SNP: the processor line that the certificate names
    chip: str = ""  # CHIP_ID, PPID or Nitro's parent instance; empty where the platform masks it
    key: str = ""  # SEV-SNP: "vcek" or "vlek", the kind of key that signed
    cloud: str = ""  # SEV-SNP: under a VLEK, whose it is, by AMD's word
    publishers: tuple[str, ...] = ()  # digests of the keys that signed what was launched
    svn: int | None = None  # SEV-SNP: GUEST_SVN of the ID block
    debug: bool = False
    migratable: bool = False  # the host could move or copy the guest and its keys
    # TDX: a service TD is bound; which service it renders is not in the quote. None: the quote can't say.
    service_td: bool | None = False
    unstated: tuple[str, ...] = ()  # what this kind of evidence has no field for, in words
    sept_ve_disable: bool = True  # TDX: the host can't inject #VE at any private page
    unknown_attributes: bool = False  # TDX: a bit is set whose meaning is not known
    status: str = ""  # TDX TCB status
    advisories: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()  # SEV-SNP: what is on, by the names of sev_snp.FEATURES
    privilege: int = 0  # VMPL on SEV-SNP
    time: datetime | None = None  # Nitro: when the document was signed, by the module's clock
    # When what can be old was issued: SEV-SNP's CRL; of TDX the oldest of TCB info, QE identity and
    # PCK CRL. Intel renews these for whoever asks; the root CA's CRL only about once a year, so its age says
    # nothing, and its nextUpdate bounds it.
    collateral_time: datetime | None = None

    @property
    def runtime_unmeasured(self) -> bool:
        """Say whether a TD measures nothing behind MRTD: under a paravisor, which measures into a vTPM."""
        registers = [value for name, value in self.measurements.items() if name.startswith("rtmr")]
        return self.platform == TDX and not any(any(bytes.fromhex(each)) for each in registers)

    @property
    def chip_is_proven(self) -> bool:
        """Say whether a certificate, or the signed document itself, vouches for the chip.

        A VLEK is the same on all chips of a cloud, so which of them signed is what the signer says.
        """
        return bool(self.chip) and self.key != VLEK
