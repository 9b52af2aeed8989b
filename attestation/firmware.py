"""Is the platform below a workload good enough? Collateral, TCB floors, statuses and advisories by policy."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from attestation.amd_names import LEAKED
from attestation.claims import CRL, EVALUATION_NUMBER, Genuine
from attestation.hints import Hint
from attestation.missing import codes_of, wanted_for
from attestation.moments import rfc3339
from attestation.trust import Claim, Finding, Value
from schemas.errors import Reason
from schemas.evidence import REVOKED, SEV_SNP, SW_HARDENING, TDX, PlatformValues, ProductValues


def judge_firmware(genuine: Genuine, values: PlatformValues, now: datetime) -> Iterator[Finding]:
    """Yield what is amiss with the platform; nothing is taken for granted because it is absent."""
    yield from _collateral(genuine, values, now)
    product = product_of(genuine, values)
    if product is None:
        named = ", ".join(sorted(values.products or ()))
        yield _hardware(Reason.PRODUCT_NOT_IN_POLICY, genuine.product or "none stated", f"one of {named}")
        product = ProductValues()
    yield from _floors(genuine.tcb, values.minimum_tcb, "")
    yield from _floors(genuine.tcb, product.minimum_tcb, "")
    yield from _floors(genuine.committed_tcb, product.minimum_committed_tcb, "committed ")
    yield from _status(genuine, values, now)
    yield from _advisories(genuine, values, now)
    for feature in values.features:
        if feature not in genuine.features:
            yield Finding(
                Claim.CONFIGURATION, Value.CONFIGURATION_REFUSED, Reason.FEATURE_ABSENT, "off", feature
            )


def _collateral(genuine: Genuine, values: PlatformValues, now: datetime) -> Iterator[Finding]:
    gaps = tuple(name for name in genuine.missing if name != CRL)
    if gaps:
        seen = f"no {', '.join(gaps)}"
        yield _hardware(Reason.NO_COLLATERAL, seen, wanted_for(gaps), Value.HARDWARE_UNKNOWN)
        for name, reason in zip(gaps, codes_of(gaps), strict=True):
            yield _hardware(reason, f"no {name}", "one that is current", Value.HARDWARE_UNKNOWN)
    days, issued = values.max_collateral_days, genuine.collateral_time
    if CRL in genuine.missing:
        # Where its age counts, one that isn't there is a check that could not be made.
        required = values.require_crl or days is not None
        value = Value.HARDWARE_UNKNOWN if required else Value.HARDWARE_UNSAFE
        wanted = "one" if required else "one, to know that no certificate is revoked"
        yield _hardware(Reason.NO_REVOCATION_LIST, "none came with it", wanted, value)
    if days is not None and issued is not None and now - issued > timedelta(days=days):
        seen = f"issued {issued.date().isoformat()}"
        yield _hardware(Reason.COLLATERAL_TOO_OLD, seen, f"not over {days} days old")


def product_of(genuine: Genuine, values: PlatformValues) -> ProductValues | None:
    """Return what the policy demands of the processor line, None if it accepts none such."""
    if genuine.platform != SEV_SNP or values.products is None:
        return ProductValues()
    return values.products.get(genuine.product)


def _floors(have: Mapping[str, int], floors: Mapping[str, int], which: str) -> Iterator[Finding]:
    for component, floor in floors.items():
        # A floor for a component that this platform does not have is a check that could not be made.
        svn = have.get(component)
        if svn is None or svn < floor:
            seen = f"{which}{component} {'not stated' if svn is None else svn}"
            hint = Hint.EVALUATION if component == EVALUATION_NUMBER else None
            yield replace(_hardware(Reason.TCB_NOT_ACCEPTED, seen, f"at least {floor}"), hint=hint)


def _status(genuine: Genuine, values: PlatformValues, now: datetime) -> Iterator[Finding]:
    if genuine.platform != TDX or (not genuine.status and genuine.missing):
        return  # without collateral there is no status, and that was said
    if genuine.status == REVOKED:
        yield _hardware(Reason.TCB_REVOKED, REVOKED, "a TCB that Intel has not revoked")
    elif until := _excepted(genuine.status, values):
        yield _until(Reason.TCB_STATUS_TOLERATED, Reason.TCB_STATUS_NOT_ACCEPTED, genuine.status, until, now)
    elif genuine.status in values.statuses:
        if genuine.status == SW_HARDENING:
            yield _tolerated(Reason.TCB_STATUS_TOLERATED, genuine.status, "accepted by the policy")
    else:
        wanted = f"one of {', '.join(values.statuses)}"
        yield _hardware(Reason.TCB_STATUS_NOT_ACCEPTED, genuine.status or "none stated", wanted)


def _advisories(genuine: Genuine, values: PlatformValues, now: datetime) -> Iterator[Finding]:
    for advisory in genuine.advisories:
        hint = Hint.LEAKED_KEYS if advisory in LEAKED.values() else None
        yield replace(_advisory(advisory, values, now), hint=hint)


def _advisory(advisory: str, values: PlatformValues, now: datetime) -> Finding:
    if until := _excepted(advisory, values):
        return _until(Reason.ADVISORY_TOLERATED, Reason.ADVISORY_NOT_ACCEPTED, advisory, until, now)
    if values.advisories is None or advisory in values.advisories:
        return _tolerated(Reason.ADVISORY_TOLERATED, advisory, "accepted by the policy")
    wanted = f"none but {', '.join(values.advisories)}" if values.advisories else "none"
    return _hardware(Reason.ADVISORY_NOT_ACCEPTED, advisory, wanted)


def _excepted(what: str, values: PlatformValues) -> datetime | None:
    """Return until when `what` is accepted if an exception names it: then no list accepts it beyond that."""
    return max((each.until for each in values.exceptions if each.accept == what), default=None)


def _until(tolerated: Reason, refused: Reason, seen: str, until: datetime, now: datetime) -> Finding:
    if now < until:
        return _tolerated(tolerated, seen, f"accepted until {rfc3339(until)}")
    return _hardware(refused, seen, f"another: it was accepted until {rfc3339(until)}")


def _hardware(reason: Reason, seen: str, wanted: str, value: int = Value.HARDWARE_REFUSED) -> Finding:
    return Finding(Claim.HARDWARE, value, reason, seen, wanted)


def _tolerated(reason: Reason, seen: str, why: str) -> Finding:
    return Finding(Claim.HARDWARE, Value.HARDWARE_UNSAFE, reason, seen, why)
