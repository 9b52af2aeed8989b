"""Verify that a SEV-SNP report is genuine: signed by a chip that AMD's chain endorses. Knows no policy."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from attestation import x509
from attestation.amd_names import (
    ARK_FILE,
    ASK_FILE,
    AUTHORITY,
    LEAKED,
    MORE_CRL_FILES,
    SUBJECT,
    VCEK_FILE,
    VLEK_FILE,
)
from attestation.claims import CRL, Genuine
from attestation.errors import AttestationError, NotGenuineError
from attestation.memory import FORGETFUL, Remembers
from attestation.missing import refuse_without
from attestation.sev_snp.certificate import Endorsed, read_endorsed, unpack_tcb
from attestation.sev_snp.parse import Report, SigningKey, parse
from schemas.errors import Reason
from schemas.evidence import SEV_SNP, VCEK, VLEK, Endorsements

MAX_VMPL = 3

# Certificate of the signing key and the common name that AMD gives it; then that of its issuer's names.
_ENDORSER = {
    SigningKey.VCEK: (VCEK_FILE, SUBJECT[VCEK], AUTHORITY[VCEK]),
    SigningKey.VLEK: (VLEK_FILE, SUBJECT[VLEK], AUTHORITY[VLEK]),
}


def verify(
    value: bytes, endorsements: Endorsements, *, now: datetime, memory: Remembers = FORGETFUL
) -> Genuine:
    """Verify a report with its chain ("vcek.der" or "vlek.der", "ask.der", "ark.der", maybe "crl.der").

    1. The report is of a known version and signed, with no key that it says the firmware may not use.
    2. The certificates are those of the key that the report says signed it, for one product.
    3. They chain to a self-signed root and are valid at `now`.
    4. If there is a CRL, it is the root's own, current, and names neither the intermediate nor the root; nor
       does any other ("crl_2.der" to "crl_5.der") that is the root's own, current or expired.
    5. The report's signature is the endorsed key's.
    6. The certificate is for the TCB that the report states, component by component.
    7. It is for the chip and the processor that the report names.
    8. A guest asked for the report, at a level that exists.
    The caller compares root, key binding, measurements and all else with its policy.
    """
    # 1.
    report = parse(value)
    if report.chip_key_masked and report.signing_key is SigningKey.VCEK:
        raise NotGenuineError(
            Reason.SIGNATURE_INVALID,
            "report is signed by a key that it says is masked",
            seen="a VCEK's signature, and MASK_CHIP_KEY set",
            wanted="a VLEK's, or none",
        )
    # 2.
    name, subject, issuer_prefix = _ENDORSER[report.signing_key]
    names = (name, ASK_FILE, ARK_FILE)
    refuse_without(names, endorsements)
    leaf, intermediate, root = (x509.read_certificate(endorsements[each], memory) for each in names)
    endorsed = memory.recall("AMD extensions", (leaf.encoded,), lambda: read_endorsed(leaf))
    if (
        leaf.common_name != subject
        or intermediate.common_name != issuer_prefix + endorsed.product_name
        or (endorsed.hardware_id is None) != (report.signing_key is SigningKey.VLEK)
    ):
        raise NotGenuineError(
            Reason.CHAIN_INVALID,
            "certificates are of another kind or product than stated",
            wanted=f"{subject} of one product under {issuer_prefix}{endorsed.product_name}",
        )
    # 3.
    key = x509.verify_chain((leaf, intermediate, root), now=now, memory=memory)
    # 4.
    crl = endorsements.get(CRL)
    listing = x509.read_revocation_list(crl, memory) if crl else None
    if listing is not None:
        x509.verify_not_revoked(root, root, listing, now=now, memory=memory)
        x509.verify_not_revoked(intermediate, root, listing, now=now, memory=memory)
    for each, then in _more_lists(endorsements, root, now, memory):
        x509.verify_not_revoked(root, root, each, now=then, memory=memory)
        x509.verify_not_revoked(intermediate, root, each, now=then, memory=memory)
    # 5.
    _check_signature(report, endorsed, key)
    # 6.
    tcb = _tcb(report, endorsed)
    # 7.
    _check_chip(report, endorsed)
    # 8.
    if report.vmpl > MAX_VMPL:
        raise NotGenuineError(Reason.PRIVILEGE_LEVEL, "report was not asked for by the guest")
    return Genuine(
        platform=SEV_SNP,
        root=root.fingerprint,
        report_data=report.report_data,
        measurements=_measurements(report),
        tcb=tcb,
        committed_tcb=_committed(report, endorsed),
        missing=() if listing else (CRL,),
        product=endorsed.product_name,
        chip=_chip(report, endorsed),
        key=report.signing_key.name.lower(),
        cloud=endorsed.cloud,
        publishers=_publishers(report),
        svn=report.guest_svn,
        debug=report.debug,
        migratable=report.migratable,
        advisories=tuple(filter(None, (LEAKED.get(endorsed.product_name),))),
        features=report.features,
        privilege=report.vmpl,
        collateral_time=listing.this_update if listing else None,
    )


def _more_lists(
    endorsements: Endorsements, root: x509.Certificate, now: datetime, memory: Remembers
) -> Iterator[tuple[x509.RevocationList, datetime]]:
    """Yield the root's lists beside the first, and when each is looked at; what is none takes nothing away.

    One that has expired vouches for nobody, but no revocation lapses with it: whom it names stays refused.
    """
    for name in MORE_CRL_FILES:
        if data := endorsements.get(name):
            try:
                listing = x509.read_revocation_list(data, memory)
                then = min(now, listing.next_update)
                x509.verify_list(listing, root, now=then, memory=memory)
            except AttestationError:
                continue
            yield listing, then


def _check_signature(report: Report, endorsed: Endorsed, key: x509.PublicKey) -> None:
    try:
        x509.verify_p384(key, report.r, report.s, report.signed)
    except NotGenuineError:
        # Every chip has a key of its own for each TCB: what the two say of each other tells more.
        _tcb(report, endorsed)
        _check_chip(report, endorsed)
        raise


def _tcb(report: Report, endorsed: Endorsed) -> dict[str, int]:
    if unpack_tcb(report.reported_tcb, endorsed.product) != endorsed.tcb:
        stated = unpack_tcb(report.reported_tcb, endorsed.product)
        differ = [component for component, svn in stated.items() if svn != endorsed.tcb[component]]
        raise NotGenuineError(
            Reason.TCB_MISMATCH,
            "certificate is for another TCB than the report states",
            seen=f"a certificate for {_svns(endorsed.tcb, differ)}",
            wanted=f"one for {_svns(stated, differ)}, which the report states",
        )
    # Firmware that was updated under a running guest does not mend how that guest was launched: the
    # lower of both counts, so that the report can only make itself worse than its certificate.
    launch = unpack_tcb(report.launch_tcb, endorsed.product)
    return {component: min(svn, launch[component]) for component, svn in endorsed.tcb.items()}


def _committed(report: Report, endorsed: Endorsed) -> dict[str, int]:
    # Nobody commits to more than runs: what is certified bounds what the report says of itself.
    committed = unpack_tcb(report.committed_tcb, endorsed.product)
    return {component: min(svn, committed[component]) for component, svn in endorsed.tcb.items()}


def _svns(tcb: Mapping[str, int], components: Iterable[str]) -> str:
    return ", ".join(f"{component} {tcb[component]}" for component in components)


def _check_chip(report: Report, endorsed: Endorsed) -> None:
    if report.cpuid is not None:
        family, model = report.cpuid
        if not endorsed.product.has(family, model):
            raise NotGenuineError(
                Reason.CHIP_MISMATCH,
                "certificate is for another processor line",
                seen=f"a certificate of {endorsed.product_name}",
                wanted=f"one of family {family:#x}, model {model:#x}, which the report states",
            )
    hardware_id = endorsed.hardware_id
    if hardware_id is not None and any(report.chip_id) and report.chip_id != hardware_id.ljust(64, b"\0"):
        raise NotGenuineError(
            Reason.CHIP_MISMATCH,
            "certificate is for another chip than the report names",
            seen=f"a certificate of chip {hardware_id.hex()[:16]}…",
            wanted=f"one of chip {report.chip_id.hex()[:16]}…",
        )


def _chip(report: Report, endorsed: Endorsed) -> str:
    # As AMD's key service names the chip: on Turin the 8 bytes that are used. A VCEK says which chip it is
    # even where the host masks the report's word for it, so masking takes no chip off a list.
    if endorsed.hardware_id is not None:
        return endorsed.hardware_id.hex()
    if not any(report.chip_id):
        return ""
    return report.chip_id[: endorsed.product.hardware_id_size].hex()


def _publishers(report: Report) -> tuple[str, ...]:
    # Without an ID block the digest is zero: nobody signed.
    keys = [report.id_key_digest, report.author_key_digest]
    return tuple(key.hex() for key in keys if key is not None and any(key))


def _measurements(report: Report) -> dict[str, str]:
    values = {
        "measurement": report.measurement,
        "host_data": report.host_data,
        "family_id": report.family_id,
        "image_id": report.image_id,
        "id_key_digest": report.id_key_digest,
    }
    if report.author_key_digest is not None:
        values["author_key_digest"] = report.author_key_digest
    return {name: digest.hex() for name, digest in values.items()}
