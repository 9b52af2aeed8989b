"""The part of a policy that is about evidence: what a workload is on each platform; does it hold together?"""

import re
from collections.abc import Mapping

from msgspec import field

from schemas.codec import Document
from schemas.evidence import (
    MEASURED,
    NITRO,
    PUBLISHED,
    REVOKED,
    SEV_SNP,
    STATUSES,
    TDX,
    VLEK,
    Chip,
    Hex,
    PlatformValues,
    Publisher,
    Tolerance,
    WorkloadValues,
    required_measurements,
)
from schemas.times import has_day
from schemas.toml_errors import ContradictionError, did_you_mean
from schemas.toml_place import Path
from schemas.vendor_roots import EVERY_VENDOR_ROOT, VENDOR_ROOTS

# What is not of every platform, by the platforms whose values may name it.
_ONLY = {
    "products": (SEV_SNP,),
    "keys": (SEV_SNP,),
    "clouds": (SEV_SNP,),
    "features": (SEV_SNP,),
    "highest_vmpl": (SEV_SNP,),
    "require_crl": (SEV_SNP,),
    "statuses": (TDX,),
    "require_stated": (TDX,),
    "max_collateral_days": (SEV_SNP, TDX),
    "max_evidence_seconds": (NITRO,),
}
# The measurements that state the key of a publisher: evidence has no more of them.
_STATED_KEYS = {SEV_SNP: ("id_key_digest", "author_key_digest"), NITRO: ("pcr8",), TDX: ()}
SHA256_DIGITS = 64
# What is meant for one of Intel's: the number of somebody else's is another advisory's.
_INTELS = re.compile("(intel[-_ ]?)?(sa[-_ ]?)?[0-9]", re.IGNORECASE)
_ADVISORY, _DIGITS = re.compile("INTEL-SA-[0-9]{5,}"), re.compile("[0-9]{1,9}$")


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
    """Raise `ContradictionError` where what is demanded of the platforms contradicts itself."""
    if unknown := sorted(set(platforms) - set(MEASURED)):
        text = f"sealbus knows only {', '.join(MEASURED)}{did_you_mean(unknown[0], MEASURED)}"
        raise _contradiction(("platforms", unknown[0]), text)
    for name, values in platforms.items():
        if not values.anchors:
            text = "name the SHA-256 of at least one manufacturer's root in `roots`, "
            raise _contradiction(("platforms", name), text + "or of a simulator's in `lab_roots`")
        _check_roots(name, values)
        if EVERY_VENDOR_ROOT.intersection(values.lab_roots):
            # There what is unsafe is permitted, because nothing real is behind it.
            text = "names a manufacturer's root, which is no simulator's: name it in `roots`"
            raise _contradiction(("platforms", name, "lab_roots"), text)
        _check_fields(name, values)
        _check_keys(name, values)
    if len({bool(values.lab_roots) for values in platforms.values()}) > 1 or any(
        values.roots and values.lab_roots for values in platforms.values()
    ):
        lab = next(name for name, values in platforms.items() if values.lab_roots)
        text = "platforms mix lab_roots with manufacturers' roots: a mesh is one or the other"
        raise ContradictionError(("platforms", lab, "lab_roots"), text)


def _check_roots(name: str, values: PlatformValues) -> None:
    for kind in ("roots", "lab_roots"):
        for index, root in enumerate(getattr(values, kind)):
            # No chain would ever end there, and the first digits, which people compare, may be right.
            if len(root) != SHA256_DIGITS:
                text = f"platforms.{name}.{kind}: is no SHA-256: it has {len(root)} digits, not 64"
                raise ContradictionError(("platforms", name, kind, index), text)
    for index, root in enumerate(values.roots):
        # Whoever holds the key of a root makes evidence of anything: here are those whose holders are known.
        if root not in VENDOR_ROOTS[name]:
            text = f"platforms.{name}.roots: {root[:16]}… is none of {name}'s manufacturer's: "
            text += "a simulator's or a test's root goes in `lab_roots`"
            raise ContradictionError(("platforms", name, "roots", index), text)


def _check_fields(name: str, values: PlatformValues) -> None:
    blank = PlatformValues()
    for what, platforms in _ONLY.items():
        if name not in platforms and getattr(values, what) != getattr(blank, what):
            have = "has" if len(platforms) == 1 else "have"
            text = f"only {' and '.join(platforms)} {have} it, so it would check nothing"
            raise _contradiction(("platforms", name, what), text)
    if unknown := sorted(set(values.statuses) - STATUSES):
        text = f"there is no TCB status {unknown[0]!r} to accept{did_you_mean(unknown[0], STATUSES)}"
        raise _contradiction(("platforms", name, "statuses"), text)
    for each in values.exceptions:
        _check_exception(name, each)
    for advisory in values.advisories or () if name == TDX else ():
        if text := _no_advisory(advisory):
            raise _contradiction(("platforms", name, "advisories"), text)
    if values.products is not None and not values.products:
        text = "names none, so it refuses all: leave it out for any"
        raise _contradiction(("platforms", name, "products"), text)


def _check_keys(name: str, values: PlatformValues) -> None:
    for what in ("keys", "clouds"):
        if getattr(values, what) == ():
            raise _contradiction(
                ("platforms", name, what), "names none, so it refuses all: leave it out for any"
            )
    if values.clouds is not None and VLEK not in values.keys:
        text = "only a VLEK names its cloud, and `keys` accepts none, so it would check nothing"
        raise _contradiction(("platforms", name, "clouds"), text)


def _check_exception(name: str, each: Tolerance) -> None:
    known = {status.lower(): status for status in STATUSES}
    meant = known.get(each.accept.lower())
    if name == NITRO:
        text = "Nitro has neither statuses nor advisories, so it would except nothing"
    elif each.accept.lower() == REVOKED.lower():
        text = "a TCB that Intel has revoked can't be accepted"
    elif meant is not None and meant != each.accept:
        text = f"there is no status {each.accept!r}: did you mean {meant!r}?"
    elif not has_day(each.until):
        text = f"{each.accept} until a day that is none: choose one from 1970 to 9999, in UTC"
    elif name != TDX or meant is not None or not (text := _no_advisory(each.accept)):
        return
    raise _contradiction(("platforms", name, "exceptions"), text)


def _no_advisory(name: str) -> str:
    """Say why a name is none that Intel gives, "" if it may be: what matches nothing would go unnoticed."""
    if _ADVISORY.fullmatch(name):
        return ""
    digits = _DIGITS.search(name) if _INTELS.match(name) else None
    meant = f"INTEL-SA-{digits[0]:0>5}" if digits else ""
    of = f": did you mean {meant!r}?" if meant else ", which are written as INTEL-SA-00837"
    return f"{name!r} is none of Intel's advisories{of}"


def check_pinned(place: Path, pinned: Pinned, platforms: Mapping[str, PlatformValues]) -> None:
    """Raise `ContradictionError` where the Reference Values at `place` match more, or less, than they say.

    The last part of `place` is the platform's name.
    """
    platform = str(place[-1])
    values = platforms.get(platform)
    if values is None:
        text = f"the policy names no such platform{did_you_mean(platform, platforms)}"
        raise _contradiction(place, text)
    if pinned.unsafe_any_measurement and not values.lab:
        raise _contradiction(place, "unsafe_any_measurement is for lab_roots only")
    _check_publisher((*place, "publisher"), platform, pinned.publisher)
    required = required_measurements(
        platform, published=pinned.publisher is not None, unsafe=pinned.unsafe_any_measurement
    )
    if missing := [name for name in required if not pinned.measurements.get(name)]:
        raise _contradiction(place, f"measurement {missing[0]!r} is required")
    if pinned.chips is not None and not pinned.chips:
        raise _contradiction((*place, "chips"), "names none, so it refuses all: leave it out for any")
    if pinned.chips is not None and values.keys == (VLEK,):
        text = (
            "a VLEK proves no chip and `keys` accepts nothing else, so it refuses all: leave one of them out"
        )
        raise _contradiction((*place, "chips"), text)


def _check_publisher(place: Path, platform: str, publisher: Publisher | None) -> None:
    if publisher is None:
        return
    if platform not in PUBLISHED:
        text = f"{platform} has none: nobody checks MROWNER at launch. Pin measurements; "
        raise _contradiction(place, text + "mrowner and mrownerconfig may stand beside them")
    if not any(bytes.fromhex(publisher.key)):
        raise _contradiction((*place, "key"), "zeros are what evidence without a publisher has")
    if platform == SEV_SNP and publisher.minimum_svn is None:
        raise _contradiction(place, "minimum_svn is required, or every old image would do")
    if platform == NITRO and publisher.minimum_svn is not None:
        raise _contradiction(place, "Nitro states no security version, so leave minimum_svn out")


def _contradiction(path: Path, text: str) -> ContradictionError:
    return ContradictionError(path, f"{'.'.join(map(str, path))}: {text}")


def may_match_both(platform: str, one: Pinned, other: Pinned) -> bool:
    """Say whether one piece of evidence of a platform could be what both describe."""
    if one.chips is not None and other.chips is not None and not set(one.chips) & set(other.chips):
        return False
    common = one.measurements.keys() & other.measurements.keys()
    if any(one.measurements[name] != other.measurements[name] for name in common):
        return False
    # SEV-SNP states two keys, so two publishers may both have signed: one the ID block, one the ID key.
    stated = one.measurements | other.measurements
    named = [stated[name] for name in _STATED_KEYS[platform] if name in stated]
    publishers = {each.publisher.key for each in (one, other) if each.publisher}
    return len(publishers - {*named}) <= len(_STATED_KEYS[platform]) - len(named)
