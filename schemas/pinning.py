"""The part of a policy that is about evidence: what a workload is on each platform; does it hold together?"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from msgspec import field

from schemas.codec import Document
from schemas.errors import UsageError
from schemas.evidence import (
    MEASURED,
    NITRO,
    PUBLISHED,
    SEV_SNP,
    TDX,
    Chip,
    Hex,
    PlatformValues,
    Publisher,
    WorkloadValues,
    required_measurements,
)

# What is of one platform only, by the platform whose values may name it.
_ONLY = {
    "products": SEV_SNP,
    "features": SEV_SNP,
    "highest_vmpl": SEV_SNP,
    "require_crl": SEV_SNP,
    "max_collateral_days": TDX,
}
_NAMES_STATUSES = frozenset(
    {
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
    }
)


class Pinned(Document, frozen=True, kw_only=True):
    """The Reference Values of a workload on one platform."""

    measurements: dict[str, Hex] = field(default_factory=dict)
    publisher: Publisher | None = None
    debuggable: bool = False
    chips: tuple[Chip, ...] | None = None
    unsafe_any_measurement: bool = False

    def values(self, workload: str, platform: str) -> WorkloadValues:
        """Return these as the Reference Values of a workload on a platform."""
        return WorkloadValues(
            workload=workload,
            platform=platform,
            measurements=self.measurements,
            publisher=self.publisher,
            debuggable=self.debuggable,
            chips=self.chips,
            unsafe_any_measurement=self.unsafe_any_measurement,
        )


def check_platforms(platforms: Mapping[str, PlatformValues]) -> None:
    """Raise `UsageError` where what is demanded of the platforms contradicts itself."""
    if unknown := sorted(set(platforms) - set(MEASURED)):
        raise UsageError(f"platforms.{unknown[0]}: sealbus knows only {', '.join(MEASURED)}")
    for name, values in platforms.items():
        if not values.anchors:
            raise UsageError(
                f"platforms.{name}: name the SHA-256 of at least one manufacturer's root in `roots`, "
                "or of a simulator's in `lab_roots`"
            )
        _check_fields(name, values)
    if len({bool(values.lab_roots) for values in platforms.values()}) > 1 or any(
        values.roots and values.lab_roots for values in platforms.values()
    ):
        raise UsageError("platforms mix lab_roots with manufacturers' roots: a mesh is one or the other")


def _check_fields(name: str, values: PlatformValues) -> None:
    blank = PlatformValues()
    for what, platform in _ONLY.items():
        if platform != name and getattr(values, what) != getattr(blank, what):
            raise UsageError(f"platforms.{name}.{what}: only {platform} has it, so it would check nothing")
    if unknown := sorted(set(values.statuses) - _NAMES_STATUSES):
        raise UsageError(f"platforms.{name}.statuses: there is no TCB status {unknown[0]!r} to accept")
    if values.products is not None and not values.products:
        raise UsageError(f"platforms.{name}.products: names none, so it refuses all: leave it out for any")


def check_pinned(place: str, platform: str, pinned: Pinned, platforms: Mapping[str, PlatformValues]) -> None:
    """Raise `UsageError` where the Reference Values at `place` would match more, or less, than they say."""
    values = platforms.get(platform)
    if values is None:
        raise UsageError(f"{place}.{platform}: the policy names no such platform")
    if pinned.unsafe_any_measurement and not values.lab:
        raise UsageError(f"{place}.{platform}: unsafe_any_measurement is for lab_roots only")
    _check_publisher(f"{place}.{platform}", platform, pinned.publisher)
    required = required_measurements(
        platform, published=pinned.publisher is not None, unsafe=pinned.unsafe_any_measurement
    )
    if missing := [name for name in required if not pinned.measurements.get(name)]:
        raise UsageError(f"{place}.{platform}: measurement {missing[0]!r} is required")
    if pinned.chips is not None and not pinned.chips:
        raise UsageError(f"{place}.{platform}.chips: names none, so it refuses all: leave it out for any")


def _check_publisher(place: str, platform: str, publisher: Publisher | None) -> None:
    if publisher is None:
        return
    if platform not in PUBLISHED:
        raise UsageError(
            f"{place}.publisher: {platform} has none: nobody checks MROWNER at launch. Pin measurements; "
            "mrowner and mrownerconfig may stand beside them"
        )
    if not any(bytes.fromhex(publisher.key)):
        raise UsageError(f"{place}.publisher.key: zeros are what evidence without a publisher has")
    if platform == SEV_SNP and publisher.minimum_svn is None:
        raise UsageError(f"{place}.publisher: minimum_svn is required, or every old image would do")
    if platform == NITRO and publisher.minimum_svn is not None:
        raise UsageError(f"{place}.publisher: Nitro states no security version, so leave minimum_svn out")


def may_match_both(one: Pinned, other: Pinned) -> bool:
    """Say whether one piece of evidence could be what both describe."""
    if one.chips is not None and other.chips is not None and not set(one.chips) & set(other.chips):
        return False
    if one.publisher and other.publisher and one.publisher.key != other.publisher.key:
        # On SEV-SNP one is the ID key and the other the author's, perhaps of the same image.
        return len(one.publisher.key) != len(other.publisher.key)
    common = one.measurements.keys() & other.measurements.keys()
    return all(one.measurements[name] == other.measurements[name] for name in common)


def expired_exceptions(platforms: Mapping[str, PlatformValues], now: datetime) -> Iterable[str]:
    """Name the exceptions whose day has come, so that a person can take them out."""
    for name, values in platforms.items():
        for each in values.exceptions:
            if each.until.astimezone(UTC) <= now:
                yield f"platforms.{name}: {each.accept} until {each.until.isoformat()}"
