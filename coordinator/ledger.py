"""The registry: who is admitted, with which keys until when, and who is out.

Pure. An instance is remembered past its admission for as long as an epoch is open that it had keys of:
a revocation that names it, its chip or its workload later must still reach whoever would believe it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from coordinator.errors import RefusedError
from schemas import codec
from schemas.errors import Reason
from schemas.evidence import MEASURED, AttestationResult, platform_of
from schemas.limits import SECOND
from schemas.messages import (
    BREAK_GLASS,
    CHIP,
    ENCLAVE,
    INSTANCE,
    MEASUREMENT,
    QUARANTINE,
    WORKLOAD,
    Millis,
    Revocation,
)
from sealing.context import sha256

# 2 KiB each. Only who passes appraisal is entered; that no more are admitted when it is full is the
# safe side of forgetting one that a revocation may have to name.
PARTIES_REMEMBERED = 65_536

IMAGES_SHARED = 4_096
CHIPS_MOST = 8  # that one instance names in its life: each is remembered, and moving a machine is rare


Image = tuple[str, tuple[tuple[str, str], ...]]  # platform, and all that it measures of code by name


def image_of(result: AttestationResult) -> Image:
    """Return what code an appraisal found, whatever of it the policy of that day pinned."""
    names = MEASURED.get(result.platform, ())
    return result.platform, tuple((name, result.measurements.get(name, "")) for name in names)


def without_chip(result: AttestationResult | None) -> AttestationResult | None:
    """Return what is the same for all of an image."""
    return replace(result, chip="") if result else None


class Party(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An admitted instance. Thousands are held: nothing is in it twice."""

    instance: bytes
    kind: str
    roles: tuple[str, ...]
    signing_key: bytes  # in the registry only a client's or operator's: an enclave's stands in its admission
    found: (
        AttestationResult | None
    )  # by appraisal, without its chip; None: a client or an operator, which nothing attests
    chip: str = ""  # as its newest Evidence names it
    chips_before: tuple[str, ...] = ()  # others that its Evidence named: the host may hide it, or move it
    admission: bytes
    term: int
    expires: Millis
    session_id: bytes
    keys_until: Millis = 0  # when the last epoch closes that it had keys of
    evidence: bytes = b""  # SHA-256 of the Evidence that it was admitted by
    prove_by: Millis | None = None  # what it proved is not enough any more: it must prove again by then
    lifetime: int = 0  # seconds from its issue to `expires`
    policy_version: int = 0
    haste: int = 0  # how often it was admitted as something else within a moment

    @property
    def result(self) -> AttestationResult | None:
        """What an appraisal found."""
        return replace(self.found, chip=self.chip) if self.found else None

    @property
    def chips(self) -> tuple[str, ...]:
        """Every chip that it named while it is remembered, the last one last."""
        return (*self.chips_before, self.chip) if self.chip else self.chips_before

    @property
    def issued(self) -> Millis:
        return self.expires - self.lifetime * SECOND

    def repeats(self, last: "Party | None") -> bool:
        """Tell whether this is the admission that it had: nothing was decided that its entry does not say."""
        return last is not None and self.said == last.said

    @property
    def said(self) -> tuple[object, ...]:
        """What its admission says, and the log of it."""
        return (
            self.term,
            self.policy_version,
            self.roles,
            self.workload,
            self.platform,
            self.issued,
            self.expires,
        )

    @property
    def workload(self) -> str:
        return self.found.workload if self.found else ""

    @property
    def platform(self) -> str:
        return self.found.platform if self.found else ""

    def is_named(self, kind: str, value: str) -> bool:
        """Tell whether a revocation of `kind` and `value` means this party."""
        if kind == INSTANCE:
            return self.instance.hex() == value
        if self.found is None:
            return False
        if kind == CHIP:
            return value in self.chips
        return value == {
            WORKLOAD: self.found.workload,
            MEASUREMENT: self.found.workload_id.hex(),
        }.get(kind)


@dataclass(frozen=True, slots=True)
class _Listed:
    entry: Revocation
    until: Millis


class Ledger:
    """Admitted parties, those whose admission ended but whose keys are still open, and the revoked."""

    def __init__(self) -> None:
        self._parties: dict[bytes, Party] = {}
        self._past: dict[bytes, Party] = {}
        self._banned: set[tuple[str, str]] = set()
        self._tainted: set[Image] = set()
        self._chips_named: set[str] = set()  # platforms of which a chip is banned
        self._quarantined: dict[bytes, Millis] = {}
        self._listed: dict[tuple[str, str], _Listed] = {}
        self._revoked: tuple[Revocation, ...] | None = None
        self._shared: dict[bytes, tuple[AttestationResult, tuple[str, ...]]] = {}
        self._out: tuple[tuple[Revocation, ...], frozenset[bytes]] | None = None

    def admitted(self, instance: bytes) -> Party | None:
        """Return the party of an admitted instance."""
        return self._parties.get(instance)

    def parties(self) -> tuple[Party, ...]:
        """Return everyone whose admission has not ended."""
        return tuple(self._parties.values())

    def remembered(self) -> tuple[Party, ...]:
        """Return everyone who may still hold keys of an open epoch."""
        return (*self._parties.values(), *self._past.values())

    def holders(self, role: str, now: Millis) -> list[Party]:
        """Return the live enclaves that hold a role and may take something, the newest admission first."""
        live = [
            party
            for party in self._parties.values()
            if role in party.roles
            and party.kind == ENCLAVE
            and party.prove_by is None
            and party.instance not in self._quarantined
            and now < party.expires
        ]
        return sorted(live, key=lambda party: party.expires, reverse=True)

    def revoked(self) -> tuple[Revocation, ...]:
        """Return the revoked set in its one order: the same object until it changes."""
        if self._revoked is None:
            self._revoked = tuple(self._listed[key].entry for key in sorted(self._listed))
        return self._revoked

    def out(self) -> frozenset[bytes]:
        """Return every instance that the revoked set names: the same object until it changes."""
        revoked = self.revoked()
        if self._out is None or self._out[0] is not revoked:
            self._out = (
                revoked,
                frozenset(
                    each
                    for entry in revoked
                    if entry.kind not in (QUARANTINE, BREAK_GLASS)
                    for each in entry.instances
                ),
            )
        return self._out[1]

    def check(self, instance: bytes, result: AttestationResult | None) -> None:
        """Refuse what the operators revoked: this instance, its chip, its workload or its image."""
        named = {(INSTANCE, instance.hex())}
        if result is not None:
            named |= {
                (CHIP, result.chip),
                (WORKLOAD, result.workload),
                (MEASUREMENT, result.workload_id.hex()),
            }
            if (MEASUREMENT, result.workload_id.hex()) in self._banned:
                # An id covers what a policy pins: the next may pin other values of the same image.
                self._tainted.add(image_of(result))
            if image_of(result) in self._tainted:
                raise RefusedError(Reason.INSTANCE_REVOKED)
            if self.hides_chip(result):
                # The host chooses what its Evidence says of the chip: silence must not be a way around.
                raise RefusedError(Reason.INSTANCE_REVOKED, "a chip is revoked, and this one is not named")
        if named & self._banned:
            raise RefusedError(Reason.INSTANCE_REVOKED)
        last = self._last(instance)
        if last is not None and result is not None and len({*last.chips, result.chip} - {""}) > CHIPS_MOST:
            raise RefusedError(Reason.UNAVAILABLE, f"an instance names {CHIPS_MOST} chips at most")
        if last is None and len(self._parties) + len(self._past) >= PARTIES_REMEMBERED:
            raise RefusedError(Reason.UNAVAILABLE, "the registry is full")

    def enter(self, party: Party) -> bool:
        """Enter an admission, in the place of the instance's last; tell whether the revoked set changed.

        Whom a policy excluded and a later one names again is not out any more. Whom operators put out,
        `check` has refused.
        """
        last = self._last(party.instance)
        self._past.pop(party.instance, None)
        until = max(party.keys_until, last.keys_until if last else 0)
        # What it once named it has been on, with the keys that it has: silence now does not undo that.
        before = tuple(chip for chip in last.chips if chip != party.chip) if last else ()
        self._parties[party.instance] = replace(self._slim(party), keys_until=until, chips_before=before)
        unlisted = self._unlist(party.instance)
        return self._list_quarantined(party.instance, party.expires) or unlisted

    def _last(self, instance: bytes) -> Party | None:
        return self._parties.get(instance) or self._past.get(instance)

    def _slim(self, party: Party) -> Party:
        """Return a party that shares what is the same with others of its image: they may be thousands."""
        found = party.found
        if found is None:
            return party
        same = sha256(codec.encode((found, party.roles)))
        if len(self._shared) >= IMAGES_SHARED and same not in self._shared:
            self._shared.clear()
        known, roles = self._shared.setdefault(same, (found, party.roles))
        # An enclave's signing key stands in its admission.
        return replace(party, found=known, roles=roles, signing_key=b"")

    def holds_keys(self, instance: bytes, until: Millis) -> None:
        """Note that an admitted instance got keys of epochs that close at `until`."""
        party = self._parties[instance]
        if until > party.keys_until:
            self._parties[instance] = replace(party, keys_until=until)

    def must_prove(self, instance: bytes, by: Millis) -> None:
        """Note that what an instance proved is not enough any more."""
        party = self._parties[instance]
        # One tightening policy after the other must not put off what the first asked for.
        self._parties[instance] = replace(
            party, prove_by=by if party.prove_by is None else min(by, party.prove_by)
        )

    def ban(self, kind: str, value: str) -> None:
        """Admit nobody any more whom `kind` and `value` name, nor what measures as those do."""
        self._banned.add((kind, value))
        # Under whatever name: Evidence that is shown later may name other things, or nothing.
        self._banned |= {(INSTANCE, party.instance.hex()) for party in self.named(kind, value)}
        if kind == CHIP:
            self._chips_named.add(platform_of(value))
        if kind == MEASUREMENT:
            self._tainted |= {image_of(p.found) for p in self.named(kind, value) if p.found}

    def hides_chip(self, result: AttestationResult) -> bool:
        """Tell whether Evidence names no chip where one of its platform is banned."""
        return not result.chip and result.platform in self._chips_named

    def quarantine(self, instance: bytes, *, now: Millis, until: Millis) -> None:
        """Have everybody know, for as long as an instance is admitted, that it takes nothing new."""
        self._quarantined.setdefault(instance, now)
        self._list_quarantined(instance, until)

    def lift(self, instance: bytes) -> None:
        """Have everybody know that an instance takes things again."""
        self._quarantined.pop(instance, None)
        self.withdraw(QUARANTINE, instance.hex())

    def announce(self, kind: str, value: str, *, now: Millis, until: Millis) -> None:
        """List an entry that names nobody: every party holds it, or counts no beacon."""
        last = self._listed.get((kind, value))
        if last is None:
            self._revoked = None
            self._listed[kind, value] = _Listed(Revocation(kind, value, now, ()), until)
        else:
            self._listed[kind, value] = _Listed(last.entry, max(until, last.until))

    def withdraw(self, kind: str, value: str) -> None:
        """List an entry no more."""
        if self._listed.pop((kind, value), None) is not None:
            self._revoked = None

    def is_quarantined(self, instance: bytes) -> bool:
        """Tell whether an instance may only finish what it has."""
        return instance in self._quarantined

    def named(self, kind: str, value: str) -> list[Party]:
        """Return everyone, admitted or remembered, whom `kind` and `value` name."""
        named = [party for party in self.remembered() if party.is_named(kind, value)]
        if kind != MEASUREMENT:
            return named
        images = {image_of(party.found) for party in named if party.found}
        return [party for party in self.remembered() if party.found and image_of(party.found) in images]

    def strike(
        self, kind: str, value: str, struck: Iterable[Party], *, now: Millis, until: Millis, grace: Millis
    ) -> None:
        """Take parties out of the registry and into the revoked set, as entry `kind` and `value`.

        The entry is listed to `until` at least, and for a grace after the last of their admissions and
        keys has ended.
        """
        last = self._listed.get((kind, value))
        instances = set(last.entry.instances if last else ())
        if kind == INSTANCE:
            # Not of this registry, it may still hold an admission of the term before.
            instances.add(bytes.fromhex(value))
        for party in struck:
            self._parties.pop(party.instance, None)
            self._past.pop(party.instance, None)
            instances.add(party.instance)
            until = max(until, party.expires + grace, party.keys_until + grace)
        self._revoked = None
        self._listed[kind, value] = _Listed(
            Revocation(kind, value, last.entry.time if last else now, tuple(sorted(instances))),
            max(until, last.until if last else 0),
        )

    def expired(self, now: Millis) -> list[Party]:
        """Take out and return whose admission has ended; their keys are remembered."""
        ended = [party for party in self._parties.values() if party.expires <= now]
        for party in ended:
            del self._parties[party.instance]
            self._past[party.instance] = replace(party, admission=b"")
        return ended

    def overdue(self, now: Millis) -> list[Party]:
        """Return who had to prove again and has not, whether or not its admission has ended meanwhile."""
        return [p for p in self.remembered() if p.prove_by is not None and p.prove_by <= now]

    def forget(self, now: Millis) -> bool:
        """Forget whose epochs have all closed; tell whether the revoked set changed."""
        self._past = {key: party for key, party in self._past.items() if now < party.keys_until}
        before = len(self._listed)
        self._listed = {key: each for key, each in self._listed.items() if self._is_due(key[0], each, now)}
        if len(self._listed) == before:
            return False
        self._revoked = None
        return True

    def _is_due(self, kind: str, listed: _Listed, now: Millis) -> bool:
        if kind == QUARANTINE and any(each in self._parties for each in listed.entry.instances):
            return True  # it renews its admission to finish its work
        return now < listed.until

    def _list_quarantined(self, instance: bytes, until: Millis) -> bool:
        since, key = self._quarantined.get(instance), (QUARANTINE, instance.hex())
        if since is None or key in self._listed:
            return False
        self._revoked = None
        self._listed[key] = _Listed(Revocation(*key, since, (instance,)), until)
        return True

    def _unlist(self, instance: bytes) -> bool:
        for key, listed in list(self._listed.items()):
            if key[0] != QUARANTINE and instance in listed.entry.instances:
                self._revoked = None
                rest = tuple(each for each in listed.entry.instances if each != instance)
                if rest:
                    entry = msgspec.structs.replace(listed.entry, instances=rest)
                    self._listed[key] = _Listed(entry, listed.until)
                else:
                    del self._listed[key]
                return True
        return False
