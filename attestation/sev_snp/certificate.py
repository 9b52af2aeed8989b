"""What AMD says about a chip in its VCEK or VLEK certificate (publication 57230, table of extensions)."""

from collections.abc import Mapping
from dataclasses import dataclass

from attestation import der
from attestation.errors import EvidenceMalformedError
from attestation.x509 import Certificate
from schemas.errors import Reason
from schemas.toml_place import printable

ARC = "1.3.6.1.4.1.3704.1"
STRUCT_VERSION = f"{ARC}.1"
PRODUCT_NAME = f"{ARC}.2"
HARDWARE_ID = f"{ARC}.4"
CSP_ID = f"{ARC}.5"

# Component: (suffix of the SPL extension, byte of TCB_VERSION). The layout belongs to the product:
# the same byte is a boot loader on Milan and the FMC on Turin.
_FIRST_LAYOUT = {"boot_loader": ("1", 0), "tee": ("2", 1), "snp": ("3", 6), "microcode": ("8", 7)}
_TURIN_LAYOUT = {
    "fmc": ("9", 0),
    "boot_loader": ("1", 1),
    "tee": ("2", 2),
    "snp": ("3", 3),
    "microcode": ("8", 7),
}


@dataclass(frozen=True, slots=True)
class Product:
    """One processor line: how its TCB is laid out, and which CPUID family and models it has."""

    struct_version: int
    layout: dict[str, tuple[str, int]]
    hardware_id_size: int
    family: int
    models: tuple[range, ...]

    def has(self, family: int, model: int) -> bool:
        """Say whether a processor is of this line."""
        return family == self.family and any(model in span for span in self.models)


PRODUCTS = {
    "Milan": Product(0, _FIRST_LAYOUT, 64, 0x19, (range(0x10),)),
    # Bergamo and Siena are endorsed as Genoa.
    "Genoa": Product(0, _FIRST_LAYOUT, 64, 0x19, (range(0x10, 0x20), range(0xA0, 0xB0))),
    "Turin": Product(1, _TURIN_LAYOUT, 8, 0x1A, (range(0x12),)),
}


def line_of(family: int, model: int) -> str | None:
    """Name the processor line of a processor, None if it is of none that is known."""
    return next((name for name, product in PRODUCTS.items() if product.has(family, model)), None)


@dataclass(frozen=True, slots=True)
class Endorsed:
    """The product, TCB and chip that a certificate vouches for."""

    product_name: str
    product: Product
    tcb: dict[str, int]
    hardware_id: bytes | None  # None in a VLEK, which is a cloud's and not a chip's
    cloud: str  # CSP_ID, "" in a VCEK


def read_endorsed(certificate: Certificate) -> Endorsed:
    """Read the AMD extensions of a VCEK or VLEK, or raise `EvidenceMalformedError`."""
    # "Milan-B0" names a stepping; Genoa and Turin come without.
    name = _text(certificate, PRODUCT_NAME).split("-")[0]
    product = PRODUCTS.get(name)
    if product is None:
        raise EvidenceMalformedError(
            "certificate is for an unknown processor",
            Reason.UNSUPPORTED_VERSION,
            seen=f"a certificate for {name[:32]!r}",
            wanted=f"one for {', '.join(PRODUCTS)}",
        )
    if (version := _number(certificate, STRUCT_VERSION)) != product.struct_version:
        raise EvidenceMalformedError(
            "certificate is of an unknown version",
            Reason.UNSUPPORTED_VERSION,
            seen=f"a certificate for {name} of structure version {version}",
            wanted=f"{product.struct_version}",
        )
    tcb = {
        component: _number(certificate, f"{ARC}.3.{suffix}")
        for component, (suffix, _) in product.layout.items()
    }
    hardware = certificate.extensions.get(HARDWARE_ID)
    if hardware is not None and len(hardware.value) != product.hardware_id_size:
        raise EvidenceMalformedError("certificate's hardware id is not of its product's size")
    return Endorsed(
        name,
        product,
        tcb,
        hardware.value if hardware is not None else None,
        _text(certificate, CSP_ID) if CSP_ID in certificate.extensions else "",
    )


def unpack_tcb(version: bytes, product: Product) -> dict[str, int]:
    """Take a TCB_VERSION apart; what the layout reserves must be zero."""
    used = {position for _, position in product.layout.values()}
    if any(octet for position, octet in enumerate(version) if position not in used):
        raise EvidenceMalformedError("TCB version uses bytes that its product reserves")
    return {component: version[position] for component, (_, position) in product.layout.items()}


def pack_tcb(tcb: Mapping[str, int], product: Product) -> bytes:
    """Put a TCB_VERSION together again, or raise `EvidenceMalformedError` for numbers that are no octets."""
    octets = bytearray(8)
    for component, (_, position) in product.layout.items():
        if not 0 <= tcb[component] <= 0xFF:
            raise EvidenceMalformedError("certificate's security version is no octet")
        octets[position] = tcb[component]
    return bytes(octets)


def _value(certificate: Certificate, name: str) -> der.Reader:
    extension = certificate.extensions.get(name)
    if extension is None:
        raise EvidenceMalformedError("certificate lacks an extension that AMD writes")
    return der.Reader(extension.value)


def _number(certificate: Certificate, name: str) -> int:
    reader = _value(certificate, name)
    number = der.read_integer(reader)
    reader.finish()
    return number


def _text(certificate: Certificate, name: str) -> str:
    reader = _value(certificate, name)
    content = reader.content(der.IA5_STRING)
    reader.finish()
    # It is compared, and people are shown it.
    return printable(content.decode("ascii", errors="replace"))
