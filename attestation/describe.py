"""What a piece of Evidence says of itself, field by field, for people: read, and not believed."""

from collections.abc import Callable
from datetime import UTC

from attestation import nitro, sev_snp, tdx
from attestation.errors import UnsupportedPlatformError
from attestation.tdx.parse import parse_quote
from schemas.evidence import Evidence

Rows = list[tuple[str, str]]


def describe(evidence: Evidence) -> Rows:
    """Return name and value of every field worth a look, or raise `EvidenceMalformedError`."""
    describer = _DESCRIBERS.get(evidence.type)
    if describer is None:
        raise UnsupportedPlatformError("no parser for this media type")
    return describer(evidence.value)


def _sev_snp(value: bytes) -> Rows:
    report = sev_snp.parse(value)
    cpu = "not stated" if report.cpuid is None else "family {:#x}, model {:#x}".format(*report.cpuid)
    return [
        ("report version", str(report.version)),
        ("processor", cpu),
        ("chip id", _hex(report.chip_id) if any(report.chip_id) else "masked"),
        ("signed by", report.signing_key.name),
        ("guest policy", f"{report.policy:#x}"),
        ("debug", _yes(report.debug)),
        ("migratable", _yes(report.migratable)),
        ("VMPL", str(report.vmpl)),
        ("platform features", ", ".join(sorted(report.features)) or "none"),
        ("guest SVN", str(report.guest_svn)),
        ("reported TCB", report.reported_tcb.hex()),
        ("committed TCB", report.committed_tcb.hex()),
        ("launch TCB", report.launch_tcb.hex()),
        ("measurement", _hex(report.measurement)),
        ("host data", _hex(report.host_data)),
        ("family id", _hex(report.family_id)),
        ("image id", _hex(report.image_id)),
        ("ID key digest", _hex(report.id_key_digest)),
        ("author key digest", "none" if report.author_key_digest is None else _hex(report.author_key_digest)),
        ("report data", _hex(report.report_data)),
    ]


def _tdx(value: bytes) -> Rows:
    quote = parse_quote(value)
    report = quote.report
    old = report.mrservicetd is None
    not_stated = f"not stated (quote v{quote.version}, TD 1.0 body)"
    return [
        ("quote version", str(quote.version)),
        ("TD attributes", f"{report.attributes:#018x}"),
        ("debug", _yes(bool(report.attributes & tdx.UNDER_DEBUG))),
        ("SEPT_VE_DISABLE", _yes(bool(report.attributes & tdx.SEPT_VE_DISABLE))),
        ("XFAM", report.xfam.hex()),
        ("TEE TCB SVN", report.tee_tcb_svn.hex()),
        ("TEE TCB SVN now", not_stated if old else report.tee_tcb_svn_2.hex()),
        ("QE ISVSVN", str(quote.qe_report.isvsvn)),
        ("MRSEAM", _hex(report.mrseam)),
        ("MRSIGNERSEAM", _hex(report.mrsignerseam)),
        ("MRTD", _hex(report.mrtd)),
        *((f"RTMR{number}", _hex(register)) for number, register in enumerate(report.rtmrs)),
        ("MRCONFIGID", _hex(report.mrconfigid)),
        ("MROWNER", _hex(report.mrowner)),
        ("MROWNERCONFIG", _hex(report.mrownerconfig)),
        ("MRSERVICETD", not_stated if report.mrservicetd is None else _hex(report.mrservicetd)),
        ("report data", _hex(report.report_data)),
    ]


def _nitro(value: bytes) -> Rows:
    document = nitro.parse(value)
    payload = document.payload
    used = {index: digest for index, digest in sorted(payload.pcrs.items()) if any(digest) or index < 3}
    return [
        ("module", payload.module_id),
        ("time", document.timestamp.astimezone(UTC).isoformat(timespec="milliseconds")),
        ("debug", _yes(document.debug)),
        *((f"PCR{index}", _hex(digest)) for index, digest in used.items()),
        ("user data", _optional(payload.user_data)),
        ("nonce", _optional(payload.nonce)),
        ("public key", _optional(payload.public_key)),
    ]


_DESCRIBERS: dict[str, Callable[[bytes], Rows]] = {
    sev_snp.MEDIA_TYPE: _sev_snp,
    tdx.MEDIA_TYPE: _tdx,
    nitro.MEDIA_TYPE: _nitro,
}


def _hex(value: bytes) -> str:
    return value.hex() if any(value) else "zero"


def _optional(value: bytes | None) -> str:
    return "none" if value is None else value.hex() or "empty"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
