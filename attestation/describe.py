"""What a piece of Evidence says of itself, field by field, for people and programs: not believed."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from attestation import nitro, sev_snp, tdx
from attestation.errors import EvidenceMalformedError, UnsupportedPlatformError
from attestation.moments import rfc3339
from attestation.sev_snp.certificate import PRODUCTS, Product, line_of, unpack_tcb
from attestation.tdx.parse import parse_quote
from schemas.evidence import Evidence

Value = bytes | bool | int | str | datetime | list[str] | dict[str, int] | None


class Field(NamedTuple):
    """One field, its value, and how people read that where it is not as `text` has it."""

    name: str
    value: Value
    reading: str = ""

    def plain(self) -> object:
        """Return the value as JSON has it: bytes in hexadecimal, times as RFC 3339, null for none."""
        if isinstance(self.value, bytes):
            return self.value.hex()
        return rfc3339(self.value) if isinstance(self.value, datetime) else self.value

    def text(self) -> str:
        """Return the value for people."""
        if self.reading:
            return self.reading
        match self.value:
            case None:
                return "none"
            case bool():
                return "yes" if self.value else "no"
            case bytes():
                return _hex(self.value)
            case datetime():
                return rfc3339(self.value)
            case list():
                return ", ".join(self.value) or "none"
            case dict():
                return _listed(self.value)
        return str(self.value)


def describe(evidence: Evidence) -> list[Field]:
    """Return name and value of every field worth a look, or raise `EvidenceMalformedError`."""
    describer = _DESCRIBERS.get(evidence.type)
    if describer is None:
        raise UnsupportedPlatformError("no parser for this media type")
    return describer(evidence.value)


def _sev_snp(value: bytes) -> list[Field]:
    report = sev_snp.parse(value)
    cpu = "not stated" if report.cpuid is None else "family {:#x}, model {:#x}".format(*report.cpuid)
    product = _product(report.cpuid)
    # As policies name chips, and AMD's key service does: where the rest is filling, without it.
    chip = report.chip_id if product is None else report.chip_id[: product.hardware_id_size]
    return [
        Field("report version", report.version),
        Field("processor", cpu),
        Field("chip id", chip, "" if any(report.chip_id) else "masked"),
        Field("signed by", report.signing_key.name),
        Field("chip key masked", report.chip_key_masked),
        Field("guest policy", report.policy, f"{report.policy:#x}"),
        Field("debug", report.debug),
        Field("migratable", report.migratable),
        Field("VMPL", report.vmpl),
        Field("platform features", sorted(report.features)),
        Field("guest SVN", report.guest_svn),
        _snp_tcb("reported TCB", report.reported_tcb, product),
        _snp_tcb("committed TCB", report.committed_tcb, product),
        _snp_tcb("launch TCB", report.launch_tcb, product),
        Field("measurement", report.measurement),
        Field("host data", report.host_data),
        Field("family id", report.family_id),
        Field("image id", report.image_id),
        Field("ID key digest", report.id_key_digest),
        Field("author key digest", report.author_key_digest),
        Field("report data", report.report_data),
    ]


def _product(cpuid: tuple[int, int] | None) -> Product | None:
    """Find the processor line; reports that name no processor are all laid out as the first one's."""
    if cpuid is None:
        return next(iter(PRODUCTS.values()))
    line = line_of(*cpuid)
    return None if line is None else PRODUCTS[line]


def _snp_tcb(name: str, version: bytes, product: Product | None) -> Field:
    if product is None:
        return Field(name, version)
    try:
        return Field(name, unpack_tcb(version, product))
    except EvidenceMalformedError:
        return Field(name, version)


def _tdx(value: bytes) -> list[Field]:
    quote = parse_quote(value)
    report = quote.report
    not_stated = f"not stated (quote v{quote.version}, TD 1.0 body)"
    return [
        Field("quote version", quote.version),
        Field("TD attributes", report.attributes, f"{report.attributes:#018x}"),
        Field("debug", bool(report.attributes & tdx.UNDER_DEBUG)),
        Field("SEPT_VE_DISABLE", bool(report.attributes & tdx.SEPT_VE_DISABLE)),
        Field("XFAM", report.xfam),
        _tee_tcb("TEE TCB SVN", report.tee_tcb_svn),
        Field("TEE TCB SVN now", not_stated)
        if report.mrservicetd is None
        else _tee_tcb("TEE TCB SVN now", report.tee_tcb_svn_2),
        Field("QE ISVSVN", quote.qe_report.isvsvn),
        Field("MRSEAM", report.mrseam),
        Field("MRSIGNERSEAM", report.mrsignerseam),
        Field("MRTD", report.mrtd),
        *(Field(f"RTMR{number}", register) for number, register in enumerate(report.rtmrs)),
        Field("MRCONFIGID", report.mrconfigid),
        Field("MROWNER", report.mrowner),
        Field("MROWNERCONFIG", report.mrownerconfig),
        Field("MRSERVICETD", not_stated if report.mrservicetd is None else report.mrservicetd),
        Field("report data", report.report_data),
    ]


def _tee_tcb(name: str, svns: bytes) -> Field:
    """Name the SVNs as floors of a policy do; people are shown those that count something."""
    named = {f"TEE_TCB_SVN_{number:02}": svn for number, svn in enumerate(svns)}
    used = {each: svn for each, svn in named.items() if svn}
    return Field(name, named, _listed(used) or "zero")


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _nitro(value: bytes) -> list[Field]:
    document = nitro.parse(value)
    payload = document.payload
    used = {index: digest for index, digest in sorted(payload.pcrs.items()) if any(digest) or index < 3}
    return [
        Field("module", payload.module_id),
        Field("time", document.timestamp),
        Field("debug", document.debug),
        *(Field(f"PCR{index}", digest) for index, digest in used.items()),
        Field("user data", payload.user_data, "" if payload.user_data else _blank(payload.user_data)),
        Field("nonce", payload.nonce, "" if payload.nonce else _blank(payload.nonce)),
        Field("public key", payload.public_key, "" if payload.public_key else _blank(payload.public_key)),
    ]


_DESCRIBERS: dict[str, Callable[[bytes], list[Field]]] = {
    sev_snp.MEDIA_TYPE: _sev_snp,
    tdx.MEDIA_TYPE: _tdx,
    nitro.MEDIA_TYPE: _nitro,
}


def _hex(value: bytes) -> str:
    return value.hex() if any(value) else "zero"


def _blank(value: bytes | None) -> str:
    return "none" if value is None else "empty"
