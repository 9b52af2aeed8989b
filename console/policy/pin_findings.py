"""Pins that no evidence meets: a name or a size that its platform does not have. Pure; refuses nothing."""

from collections.abc import Iterator

from attestation.sev_snp.certificate import PRODUCTS
from console.policy.finding import Finding
from schemas.evidence import NITRO, SEV_SNP, TDX
from schemas.pinning import Pinned
from schemas.toml_errors import did_you_mean
from schemas.toml_place import Path

_SHA384 = 48
_TDX = ("mrtd", "mrconfigid", "mrowner", "mrownerconfig", "mrseam", "mrsignerseam")

# Bytes of each measurement, as the verifiers name them.
SIZES: dict[str, dict[str, int]] = {
    SEV_SNP: {
        "measurement": _SHA384,
        "host_data": 32,
        "family_id": 16,
        "image_id": 16,
        "id_key_digest": _SHA384,
        "author_key_digest": _SHA384,
    },
    TDX: dict.fromkeys((*_TDX, *(f"rtmr{number}" for number in range(4))), _SHA384),
    NITRO: dict.fromkeys((f"pcr{number}" for number in range(32)), _SHA384),
}
_CHIPS = {SEV_SNP: {product.hardware_id_size for product in PRODUCTS.values()}, TDX: {16}}
# CHIP_ID has room for the longest; a report of Turin has zeros behind the bytes that name its chip.
_SHORT, _FIELD = min(_CHIPS[SEV_SNP]), max(_CHIPS[SEV_SNP])

_SHOWN = 16  # characters of a chip that tell it from others; what is cut says so


def pin_findings(at: Path, platform: str, pinned: Pinned) -> Iterator[Finding]:
    """Tell of what is pinned at `at` and refuses everything on this platform."""
    sizes = SIZES[platform]
    for name, value in pinned.measurements.items():
        place: Path = (*at, "measurements", name)
        if name not in sizes:
            text = f"{platform} evidence has no measurement {name}, so this refuses all of it"
            yield Finding("unknown-name", place, text + did_you_mean(name, sizes))
        elif text := _misfit(value, {sizes[name]}):
            yield Finding("never-met", place, f"{name} {text}")
    if pinned.publisher is not None and (text := _misfit(pinned.publisher.key, {_SHA384})):
        yield Finding("never-met", (*at, "publisher", "key"), f"the digest of a publisher's key {text}")
    for index, chip in enumerate(pinned.chips or ()):
        named_so = chip.startswith("i-")
        text = _misfit(chip, _CHIPS[platform]) if platform in _CHIPS and not named_so else ""
        if named_so != (platform == NITRO):
            text = "is of another platform, so no evidence has it"
        elif platform == SEV_SNP and not text:
            text = _padded(chip)
        if text:
            yield Finding("never-met", (*at, "chips", index), f"chip {_short(chip)} {text}")


def _short(chip: str) -> str:
    return chip if len(chip) <= _SHOWN else f"{chip[:_SHOWN]}…"


def _padded(chip: str) -> str:
    """Say what is amiss with a chip of a right size that is all of a report's CHIP_ID, as it stands there."""
    used, rest = chip[: 2 * _SHORT], chip[2 * _SHORT :]
    if not chip.strip("0"):
        return "is zeros, as of a host that masks its chip: no list is met by that, so take it out"
    if len(chip) == 2 * _FIELD and not rest.strip("0"):
        return f'is one of Turin filled up with zeros, so no evidence has it: write "{used}"'
    return ""


def _misfit(value: str, sizes: set[int]) -> str:
    if len(value) // 2 in sizes:
        return ""
    right = " or ".join(str(size) for size in sorted(sizes))
    return f"has {len(value) // 2} bytes and not {right}, so no evidence has it"
