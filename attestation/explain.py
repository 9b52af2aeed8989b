"""Why evidence was refused, in a sentence: what failed, what was seen, what the policy wants, what to do."""

from collections.abc import Iterable

from attestation.assess import Assessment
from attestation.errors import AttestationError
from attestation.hints import Hint
from attestation.missing import CODES
from attestation.tdx.tcb import FOREIGN_MODULE, FOREIGN_QE, NOT_OF_INTEL, UNKNOWN_MODULE, UNKNOWN_STATUS
from attestation.trust import Finding, Tier
from schemas.errors import Reason

# What failed, and what to do about it.
_SENTENCES: dict[Reason, tuple[str, str]] = {
    Reason.UNSUPPORTED_PLATFORM: (
        "This is evidence of a platform that sealbus does not judge",
        "use SEV-SNP, TDX or Nitro Enclaves evidence",
    ),
    Reason.UNSUPPORTED_VERSION: (
        "The evidence is of a version that is not known here",
        "upgrade sealbus, or make the evidence with firmware that it knows",
    ),
    Reason.MALFORMED: ("The bytes are not what they claim to be", "fetch them again and compare sizes"),
    Reason.TOO_LARGE: ("There are more bytes than genuine evidence has", "check which file this is"),
    Reason.SIGNATURE_INVALID: (
        "A signature does not hold",
        "treat the evidence as forged or damaged; ask for it again",
    ),
    Reason.CHAIN_INVALID: (
        "The certificates do not form a chain of the kind that the manufacturer makes",
        "fetch them again; those that evidence carries itself, as Nitro's does, are forged or damaged",
    ),
    Reason.CERTIFICATE_EXPIRED: (
        "A certificate is not valid at this time any more",
        "judge at the time the evidence was made (--at), or ask for new evidence",
    ),
    Reason.CERTIFICATE_NOT_YET_VALID: (
        "A certificate is not valid at this time yet",
        "set the clock right, or judge at the time the evidence was made (--at)",
    ),
    Reason.CERTIFICATE_REVOKED: (
        "The manufacturer has revoked a certificate of the chain",
        "take the machine out of service",
    ),
    Reason.ROOT_NOT_IN_POLICY: (
        "The chain ends in a root that the policy does not name",
        "name that root under lab_roots if it is a simulator's; otherwise treat it as forged",
    ),
    Reason.PLATFORM_NOT_IN_POLICY: (
        "The policy names no such platform",
        "add it to [platforms] if it is to run there",
    ),
    Reason.NO_COLLATERAL: (
        "Endorsements are absent, so checks could not be made",
        "get them with `sealbus collateral fetch`, or name what you have with --collateral",
    ),
    Reason.NO_REVOCATION_LIST: (
        "Without a revocation list a revoked certificate passes",
        "get it with `sealbus collateral fetch`",
    ),
    Reason.COLLATERAL_EXPIRED: (
        "Collateral is not current at this time",
        "get it again with `sealbus collateral fetch`, or judge at a time when it was (--at)",
    ),
    Reason.COLLATERAL_TOO_OLD: (
        "Collateral is older than the policy allows",
        "get it again with `sealbus collateral fetch`",
    ),
    Reason.COLLATERAL_MISMATCH: (
        "Collateral is of another platform or issuer",
        "fetch the collateral of this very machine",
    ),
    Reason.TCB_MISMATCH: (
        "What is certified is not what the evidence states",
        "fetch the certificate for the reported TCB",
    ),
    Reason.TCB_NOT_RECOGNIZED: (
        "The platform stands below every TCB level that Intel has published",
        "update firmware and TDX module",
    ),
    Reason.TCB_REVOKED: ("Intel has revoked this TCB", "update the platform; no policy can accept it"),
    Reason.TCB_STATUS_NOT_ACCEPTED: (
        "The platform's TCB status is not one to rely on without thought",
        "update the platform, or accept it until a day with an exception in the policy",
    ),
    Reason.TCB_NOT_ACCEPTED: (
        "The platform is below a floor of the policy",
        "update the firmware, or lower the floor",
    ),
    Reason.ADVISORY_NOT_ACCEPTED: (
        "The manufacturer, or research, has published a weakness of this platform",
        "read the advisory; accept it until a day with an exception in the policy, or update",
    ),
    Reason.TCB_STATUS_TOLERATED: (
        "The platform's TCB status is one that the policy lets pass",
        "update the platform when you can",
    ),
    Reason.ADVISORY_TOLERATED: (
        "Weaknesses of this platform are published, which the policy lets pass",
        "read what the advisories say",
    ),
    Reason.CHIP_MISMATCH: (
        "The certificate is of another chip than the evidence",
        "fetch the certificate of this chip",
    ),
    Reason.PRODUCT_NOT_IN_POLICY: (
        "The policy does not accept this processor line",
        "run on another, or name it under products",
    ),
    Reason.CHIP_NOT_IN_POLICY: (
        "The chip is none that the policy names",
        "add the chip to the workload's chips if it is yours",
    ),
    Reason.KEY_NOT_IN_POLICY: (
        "The report is signed by a kind of key that the policy does not accept",
        "run where chips sign with the other kind, or name it under keys",
    ),
    Reason.CLOUD_NOT_IN_POLICY: (
        "The report is signed by a cloud's key that the policy does not name",
        "run elsewhere, or name the cloud under clouds",
    ),
    Reason.KEY_BINDING_MISMATCH: (
        "The evidence binds other keys than those of the sender",
        "treat it as relayed; ask the sender for evidence of its own",
    ),
    Reason.CHALLENGE_UNKNOWN: (
        "The evidence does not answer the nonce",
        "give the digest if the attester hashes nonces with more; otherwise treat it as replayed, ask anew",
    ),
    Reason.MEASUREMENT_NOT_IN_POLICY: (
        "What runs measures otherwise than any workload of the policy",
        "compare with the build; in a lab, `sealbus lab resign` measures again",
    ),
    Reason.MEASUREMENT_NOT_PINNED: (
        "The policy leaves out a value that it must pin",
        "add the measurement to the policy",
    ),
    Reason.PUBLISHER_NOT_IN_POLICY: (
        "What runs is not signed by the publisher that the policy names",
        "check who built the image",
    ),
    Reason.SVN_TOO_LOW: ("The image is older than the policy allows", "roll out a newer image"),
    Reason.DEBUG_ENABLED: (
        "Debugging is on, so the host can read all secrets",
        "launch it without debug",
    ),
    Reason.MIGRATABLE: (
        "Someone else may hold the guest's keys",
        "launch it without a migration agent",
    ),
    Reason.SERVICE_TD: (
        "A service TD is bound, and nothing says what it may do",
        "launch the TD without service TDs",
    ),
    Reason.NOT_STATED: (
        "This kind of quote does not say all that matters",
        "launch the TD so that its quotes are of version 5, where the host offers them",
    ),
    Reason.RUNTIME_UNMEASURED: (
        "Nothing that was booted is measured here; a paravisor, such as Azure's, measures it into a vTPM",
        "under a paravisor MRTD is that one's and says nothing of your image: run where RTMRs are measured",
    ),
    Reason.SEPT_VE_ENABLED: (
        "The host can steer the guest's exception handler",
        "launch the TD with SEPT_VE_DISABLE",
    ),
    Reason.ATTRIBUTE_UNKNOWN: (
        "An attribute is set whose meaning is not known here",
        "upgrade sealbus, or launch without it",
    ),
    Reason.FEATURE_ABSENT: (
        "The platform lacks a feature that the policy asks for",
        "switch it on in the firmware, or drop it from features",
    ),
    Reason.PRIVILEGE_LEVEL: (
        "The report was asked for at a privilege level that the policy does not accept",
        "ask from a more privileged level, or raise highest_vmpl",
    ),
    Reason.EVIDENCE_TOO_OLD: ("The evidence is too old", "ask for new evidence"),
    Reason.NOT_YET_VALID: (
        "The evidence is of a time that has not come",
        "set the clock right, or judge at another time",
    ),
}

_FOREIGN = (
    "What measured or quoted the TD is not Intel's, or not what Intel describes",
    "treat the evidence as forged; no certificate mends it",
)

# What failed where the reason code alone would mislead, by the detail of the failure.
_BY_DETAIL: dict[str, tuple[str, str]] = {
    NOT_OF_INTEL: _FOREIGN,
    FOREIGN_QE: _FOREIGN,
    FOREIGN_MODULE: _FOREIGN,
    UNKNOWN_MODULE: (
        "Intel's collateral does not know the TDX module, which may be newer or withdrawn",
        "get it again with `sealbus collateral fetch`; if it still does not, run a published module",
    ),
    UNKNOWN_STATUS: (
        "The platform may stand above or below every TCB level known here",
        "upgrade sealbus, or read what Intel means by it",
    ),
}

# The same, or only what to do, by what was hinted at.
_BY_HINT: dict[Hint, tuple[str, str]] = {
    Hint.VLEK_OF_THE_CLOUD: (
        "",
        (
            "take vlek.der from the host's certificate table (auxblob.bin) or ask the cloud, for AMD gives "
            "it to nobody else; `sealbus collateral fetch` gets the others"
        ),
    ),
    Hint.ROOT_NOT_GIVEN: (
        "",
        "name that root with --root or in a policy if it is a simulator's; otherwise treat it as forged",
    ),
    Hint.VENDORS_ROOT: ("", "it is no simulator's: name it under roots in the policy"),
    Hint.VENDORS_ROOT_NOT_GIVEN: ("", "it is no simulator's: leave --root out"),
    Hint.CLOUDS_KEY: (
        "",
        "run where chips sign with keys of their own (VCEK), or leave the list of chips out",
    ),
    Hint.NONE_PINNED: (
        "The policy pins no workload on this platform, so it accepts none of its evidence",
        "pin what may run there under workloads.NAME.on.PLATFORM; `sealbus policy generate` proposes it",
    ),
    Hint.OTHER_SIZE: (
        "",
        "give the whole value in the policy, and nothing behind it: that one is of another length",
    ),
    Hint.NOT_IN_WHAT_WAS_GIVEN: (
        "",
        "what --collateral names has none of them for this machine: get them with `sealbus collateral fetch`",
    ),
    Hint.EVALUATION: (
        "The collateral is of an older evaluation of TCBs than the policy asks for",
        "get it again with `sealbus collateral fetch` (--early: Intel's newest), or lower the floor",
    ),
    Hint.LEAKED_KEYS: (
        "",
        "evidence of such a chip can be forged: name chips, or run on another line (decision 0020 says why)",
    ),
}
# Their second half is not what the policy wants, but why it lets it pass.
_TOLERATED = (Reason.TCB_STATUS_TOLERATED, Reason.ADVISORY_TOLERATED)

_ABSENT = ("An endorsement did not come with the evidence", "get it with `sealbus collateral fetch`")
_OTHER = ("It was refused", "see the reason code")


def explain(assessment: Assessment) -> list[str]:
    """Return a sentence for each thing that refuses the evidence or that one is warned of, worst first."""
    if assessment.failure is not None:
        return [explain_failure(assessment.failure)]
    findings = worst_first(assessment.judgement.findings)
    # That endorsements are absent is said once, with their names; and advisories in one sentence.
    seen: dict[tuple[Reason, str, Hint | None], list[str]] = {}
    for each in findings:
        if each.reason in _SENTENCES:
            seen.setdefault((each.reason, each.wanted, each.hint), []).append(each.seen)
    return [_sentence(reason, ", ".join(all_), wanted, hint) for (reason, wanted, hint), all_ in seen.items()]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that refuse before those that warn, each in the order in which they were made."""
    return sorted(findings, key=lambda each: each.tier is not Tier.CONTRAINDICATED)


def explain_failure(failure: AttestationError) -> str:
    """Return as a sentence why evidence can't be read or is not genuine."""
    seen = failure.seen or failure.detail
    return _sentence(failure.reason, seen, failure.wanted, failure.hint, failure.detail)


def explain_finding(finding: Finding) -> str:
    """Return one finding as a sentence."""
    return _sentence(finding.reason, finding.seen, finding.wanted, finding.hint)


def _sentence(reason: Reason, seen: str, wanted: str, hint: Hint | None, detail: str = "") -> str:
    known = _SENTENCES.get(reason, _ABSENT if reason in CODES.values() else _OTHER)
    failed, to_do = _BY_DETAIL.get(detail, known)
    if hint is not None:
        instead, to_do = _BY_HINT[hint]
        failed = instead or failed
    if hint is Hint.NONE_PINNED:
        seen, wanted = "", ""
    middle = f": {seen}" if seen else ""
    policy = f" ({wanted})" if reason in _TOLERATED else f" (wanted: {wanted})"
    policy = policy if wanted else ""
    return f"{failed}{middle}{policy}; {to_do}. [{reason.value}]"
