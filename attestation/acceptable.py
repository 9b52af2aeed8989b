"""Is genuine evidence what the policy names? What is not named is refused. Pure: no bytes, no keys, no clock.

Every check is made and every finding told, so that a person mends all at once; the order is that of the
steps, and the first contraindicated one is why evidence is refused.
"""

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from attestation.amd_names import LEAKED
from attestation.claims import Genuine
from attestation.firmware import judge_firmware, product_of
from attestation.hints import Hint
from attestation.moments import rfc3339
from attestation.trust import Claim, Finding, Tier, Value
from schemas.errors import Reason
from schemas.evidence import MEASURED, NITRO, SEV_SNP, VLEK, PlatformValues, ReferenceValues, WorkloadValues
from schemas.vendor_roots import EVERY_VENDOR_ROOT

MAX_SKEW = timedelta(minutes=1)
SHOWN = 16  # digits of an identifier that tell it from others, but for those that differ further on


# By whether the root is a manufacturer's own, and whether a policy was given that could name it.
_ROOT_HINTS = {
    (False, True): None,
    (False, False): Hint.ROOT_NOT_GIVEN,
    (True, True): Hint.VENDORS_ROOT,
    (True, False): Hint.VENDORS_ROOT_NOT_GIVEN,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that there is to say, and which workload it is, if it is any."""

    findings: tuple[Finding, ...]
    workload: WorkloadValues | None = None

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Return what refuses the evidence, in the order of the steps."""
        return tuple(each for each in self.findings if each.tier is Tier.CONTRAINDICATED)

    @property
    def warnings(self) -> tuple[Reason, ...]:
        """Return the reasons of what the policy lets pass."""
        return tuple(dict.fromkeys(each.reason for each in self.findings if each.tier is Tier.WARNING))


def judge(
    genuine: Genuine, reference_values: ReferenceValues, *, binding: Iterable[Finding], now: datetime
) -> Judgement:
    """Judge genuine claims by policy; `binding` is what `judge_binding` or `judge_nonce` found.

    1. The policy names the platform.
    2. It names the root: until here any root was good. On SEV-SNP also the kind of key, and whose VLEK it is.
    3. The evidence binds these keys, and on Nitro the challenge, and no other key.
    4. The guest's memory and keys are its own: not debuggable unless some matching workload is named so,
       not migratable, most privileged level, no service TD, no #VE of the host's; all of it stated, where
       the policy asks for that.
    5. The platform's TCB is at or above every floor, its status and advisories accepted, its collateral
       there.
    6. All measurements are those of one workload, or their signer is its publisher.
    7. The chip is one of that workload's, by more than its own word.
    """
    # 1.
    values = reference_values.platforms.get(genuine.platform)
    if values is None:
        platforms = ", ".join(sorted(reference_values.platforms)) or "none"
        wanted = f"one of {platforms}"
        return Judgement((_identity(Reason.PLATFORM_NOT_IN_POLICY, genuine.platform, wanted),))
    # 2. and 3.
    findings = [*judge_root(genuine, values), *_judge_key(genuine, values), *binding]
    # 4.
    named = [
        each
        for each in reference_values.workloads
        if each.platform == genuine.platform
        and (genuine.root in values.lab_roots or not each.unsafe_any_measurement)
    ]
    measured = [each for each in named if _mismatch(each, genuine) is None]
    admissible = [each for each in measured if each.debuggable or not genuine.debug]
    if genuine.debug and not admissible:
        findings.append(_debug(genuine))
    findings += [*_isolation(genuine, values), *_measured(genuine)]
    # 5.
    findings += [*_age(genuine, values, now), *judge_firmware(genuine, values, now)]
    # 6.
    if not admissible:
        if not measured:
            findings.append(_closest(named, genuine))
        return Judgement(tuple(findings))
    # 7. Two workloads may differ in nothing but their chips.
    chosen = [each for each in admissible if _chip_refusal(each, genuine, values) is None]
    if not chosen:
        refusals = [_chip_refusal(each, genuine, values) for each in admissible]
        findings += [each for each in refusals[:1] if each is not None]
        return Judgement(tuple(findings))
    return Judgement(tuple(findings), chosen[0])


def judge_without_workloads(
    genuine: Genuine, values: PlatformValues, *, binding: Iterable[Finding], now: datetime
) -> Judgement:
    """Judge all but measurements and age: what can be said of anybody's evidence."""
    findings = [*judge_root(genuine, values, given=False), *_judge_key(genuine, values), *binding]
    if genuine.debug:
        findings.append(_debug(genuine))
    findings += [*_isolation(genuine, values), *_measured(genuine), *judge_firmware(genuine, values, now)]
    product = product_of(genuine, values)
    if genuine.product in LEAKED and product is not None and not product.any_chip:
        wanted = f"any_chip, because keys of {genuine.product} have leaked"
        findings.append(_identity(Reason.CHIP_NOT_IN_POLICY, "no list of chips", wanted))
    return Judgement(tuple(findings))


def judge_root(genuine: Genuine, values: PlatformValues, *, given: bool = True) -> Iterator[Finding]:
    """Yield a finding unless the policy, which is the built-in one if none was `given`, names the root."""
    if genuine.root not in values.anchors:
        own = genuine.root in EVERY_VENDOR_ROOT
        hint = _ROOT_HINTS[own, given]
        seen = f"root {genuine.root[:16]}…" + (", the manufacturer's own" if own else "")
        named = ", ".join(f"{root[:16]}…" for root in values.anchors)
        yield _identity(Reason.ROOT_NOT_IN_POLICY, seen, f"one of {named}", hint)


def _judge_key(genuine: Genuine, values: PlatformValues) -> Iterator[Finding]:
    if genuine.platform != SEV_SNP:
        return
    if genuine.key not in values.keys:
        yield _identity(
            Reason.KEY_NOT_IN_POLICY, f"a {genuine.key.upper()}", " or ".join(values.keys).upper()
        )
    if genuine.key == VLEK and values.clouds is not None and genuine.cloud not in values.clouds:
        seen = f"a VLEK of {genuine.cloud or 'no cloud that is named'}"
        yield _identity(Reason.CLOUD_NOT_IN_POLICY, seen, f"one of {', '.join(values.clouds)}")


def judge_binding(genuine: Genuine, key_binding: bytes, challenge: bytes) -> Iterator[Finding]:
    """Yield a finding unless the evidence binds exactly these keys, and answers the challenge if it can."""
    if genuine.platform == NITRO and not hmac.compare_digest(genuine.nonce or b"", challenge):
        yield _identity(Reason.CHALLENGE_UNKNOWN, "another nonce", "the challenge that was sent")
    if not hmac.compare_digest(genuine.report_data, key_binding):
        yield _identity(Reason.KEY_BINDING_MISMATCH, "other report data", "the digest of the sender's keys")
    if not genuine.public_key_absent:
        yield _identity(Reason.KEY_BINDING_MISMATCH, "the document carries a key of its own", "none")


def judge_nonce(genuine: Genuine, nonce: bytes) -> Iterator[Finding]:
    """Yield a finding unless the evidence carries `nonce`: where a report has none, as its report data."""
    seen = genuine.nonce or b"" if genuine.platform == NITRO else genuine.report_data
    wanted = nonce if genuine.platform == NITRO else nonce.ljust(len(genuine.report_data), b"\0")
    if not hmac.compare_digest(seen, wanted):
        what = "nonce" if genuine.platform == NITRO else "report data"
        # Neither is secret: both were sent in clear, and who compares has to see in what they differ.
        yield _identity(
            Reason.CHALLENGE_UNKNOWN, f"{what} {seen.hex()}" if seen else f"no {what}", nonce.hex()
        )


def _debug(genuine: Genuine) -> Finding:
    seen, wanted = "its debug bit is set", "clear"
    if genuine.platform == NITRO:
        zero = [name.upper() for name, value in genuine.measurements.items() if not any(bytes.fromhex(value))]
        shown = [name for name in zero if name.lower() in MEASURED[NITRO]]
        seen, wanted = f"{', '.join(shown)} of zeros", "measured values"
    return Finding(Claim.RUNTIME_OPAQUE, Value.RUNTIME_EXPOSED, Reason.DEBUG_ENABLED, seen, wanted)


def _measured(genuine: Genuine) -> Iterator[Finding]:
    """Yield a warning where MRTD is all that is measured."""
    if genuine.runtime_unmeasured:
        yield Finding(
            Claim.EXECUTABLES,
            Value.EXECUTABLES_PARTLY,
            Reason.RUNTIME_UNMEASURED,
            "RTMR0 to RTMR3 are zero",
            "measurements of what was booted",
        )


def _isolation(genuine: Genuine, values: PlatformValues) -> Iterator[Finding]:
    def exposed(reason: Reason, seen: str, wanted: str) -> Finding:
        return Finding(Claim.RUNTIME_OPAQUE, Value.RUNTIME_EXPOSED, reason, seen, wanted)

    if genuine.migratable:
        yield exposed(Reason.MIGRATABLE, "migration is allowed", "no migration")
    if genuine.privilege > values.highest_vmpl:
        yield exposed(Reason.PRIVILEGE_LEVEL, f"VMPL {genuine.privilege}", f"{values.highest_vmpl} at most")
    if genuine.service_td:
        yield exposed(Reason.SERVICE_TD, "MRSERVICETD is set", "zero")
    for what in genuine.unstated:
        # The host chooses which kind of quote it makes, so silence may hide what the other kind would say.
        value = Value.RUNTIME_EXPOSED if values.require_stated else Value.RUNTIME_VISIBLE
        wanted = "a TD report 1.5 (quote v5)"
        yield Finding(Claim.RUNTIME_OPAQUE, value, Reason.NOT_STATED, f"no word on a {what}", wanted)
    if not genuine.sept_ve_disable:
        yield exposed(Reason.SEPT_VE_ENABLED, "SEPT_VE_DISABLE off", "on")
    if genuine.unknown_attributes:
        yield exposed(Reason.ATTRIBUTE_UNKNOWN, "a TD attribute of unknown meaning", "known ones only")


def _age(genuine: Genuine, values: PlatformValues, now: datetime) -> Iterator[Finding]:
    if genuine.time is None:
        return
    age = now - genuine.time
    if not -MAX_SKEW <= age <= timedelta(seconds=values.max_evidence_seconds):
        seen = f"{age.total_seconds():.0f} seconds old, signed at {rfc3339(genuine.time)}"
        wanted = f"{values.max_evidence_seconds} seconds at most"
        yield Finding(Claim.INSTANCE_IDENTITY, Value.INSTANCE_UNKNOWN, Reason.EVIDENCE_TOO_OLD, seen, wanted)


def _mismatch(workload: WorkloadValues, genuine: Genuine) -> tuple[int, Finding] | None:
    """Return how near these values come and what first differs, None if nothing does."""
    near = 0
    for name in workload.required:
        # Values that leave out what is required would match whatever has the rest: they match nothing.
        if not workload.measurements.get(name):
            return near, _executables(
                Reason.MEASUREMENT_NOT_PINNED, f"{workload.workload}: {name}", "a value"
            )
    for name, value in sorted(workload.measurements.items()):
        seen = genuine.measurements.get(name)
        if seen != value:
            have, want = apart(seen or "", value)
            text, wanted = f"{name} {have or 'absent'}", f"{want} of {workload.workload}"
            hint = _size_hint(seen or "", value)
            return near, _executables(Reason.MEASUREMENT_NOT_IN_POLICY, text, wanted, hint)
        near += 1
    if publisher := workload.publisher:
        if publisher.key not in genuine.publishers:
            seen = "another publisher" if genuine.publishers else "no publisher"
            wanted = f"{publisher.key[:16]}… of {workload.workload}"
            return near, _executables(Reason.PUBLISHER_NOT_IN_POLICY, seen, wanted)
        near += 1
        minimum = publisher.minimum_svn
        if minimum is None and workload.platform == SEV_SNP:
            return near, _executables(Reason.MEASUREMENT_NOT_PINNED, f"{workload.workload}: SVN", "a minimum")
        if minimum is not None and (genuine.svn is None or genuine.svn < minimum):
            return near, _executables(Reason.SVN_TOO_LOW, f"SVN {genuine.svn}", f"at least {minimum}")
    return None


def apart(one: str, other: str) -> tuple[str, str]:
    """Shorten two identifiers that differ so that it can still be seen how."""
    if one and len(one) != len(other):
        return (
            f"{one[:SHOWN]}…, {len(one) // 2} bytes",
            f"{other[:SHOWN]}…, {len(other) // 2} bytes",
        )
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    start = (same - SHOWN // 2) // 2 * 2 if same >= SHOWN else 0  # whole bytes

    def part(text: str) -> str:
        before, after = "…" if start else "", "…" if len(text) > start + SHOWN else ""
        return f"{before}{text[start : start + SHOWN]}{after}" if text else ""

    return part(one), part(other)


def _size_hint(seen: str, pinned: str) -> Hint | None:
    return Hint.OTHER_SIZE if seen and len(seen) != len(pinned) else None


def _closest(named: Iterable[WorkloadValues], genuine: Genuine) -> Finding:
    """Return what the workload that comes nearest differs in; one that is incomplete is told first."""
    differ = [found for each in named if (found := _mismatch(each, genuine)) is not None]
    if not differ:
        wanted = "those of a workload, and none is named on this platform"
        return _executables(Reason.MEASUREMENT_NOT_IN_POLICY, "measurements", wanted, Hint.NONE_PINNED)
    incomplete = [each for _, each in differ if each.reason is Reason.MEASUREMENT_NOT_PINNED]
    return incomplete[0] if incomplete else max(differ, key=lambda each: each[0])[1]


def _chip_refusal(workload: WorkloadValues, genuine: Genuine, values: PlatformValues) -> Finding | None:
    if workload.chips is not None:
        # A masked chip is none of them, and one under a VLEK is any that whoever holds it likes to name.
        if genuine.chip_is_proven and genuine.chip in workload.chips:
            return None
        if genuine.key == VLEK:
            wanted = f"a VCEK, which proves the chip, of {workload.workload}'s"
            seen = "a VLEK, which proves no chip"
            return _identity(Reason.CHIP_NOT_IN_POLICY, seen, wanted, Hint.CLOUDS_KEY)
        if not genuine.chip:
            return _identity(Reason.CHIP_NOT_IN_POLICY, "a masked chip", f"a chip of {workload.workload}")
        # One that was cut short, or filled up with zeros, looks like the chip itself.
        like = [each for each in workload.chips if each[:SHOWN] == genuine.chip[:SHOWN]]
        seen, wanted = apart(genuine.chip, like[0]) if like else (f"{genuine.chip[:SHOWN]}…", "one")
        hint = _size_hint(genuine.chip, like[0]) if like else None
        return _identity(
            Reason.CHIP_NOT_IN_POLICY, f"chip {seen}", f"{wanted} of {workload.workload}'s", hint
        )
    product = product_of(genuine, values)
    if genuine.product in LEAKED and (product is None or not product.any_chip):
        wanted = f"chips of {workload.workload}, because keys of {genuine.product} have leaked"
        return _identity(Reason.CHIP_NOT_IN_POLICY, "no list of chips", wanted)
    return None


def _identity(reason: Reason, seen: str, wanted: str, hint: Hint | None = None) -> Finding:
    return Finding(Claim.INSTANCE_IDENTITY, Value.INSTANCE_UNKNOWN, reason, seen, wanted, hint)


def _executables(reason: Reason, seen: str, wanted: str, hint: Hint | None = None) -> Finding:
    return Finding(Claim.EXECUTABLES, Value.EXECUTABLES_UNKNOWN, reason, seen, wanted, hint)
