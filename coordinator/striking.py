"""Putting parties out, with all that follows at once: revoked set, beacon, log, and their roles' keys.

Pure. Who goes is decided elsewhere: by operators who name somebody, by a policy (`coordinator.eviction`), by
a proof that was due.
"""

from coordinator import eviction
from coordinator.audit import AuditLog
from coordinator.changes import Changes
from coordinator.ledger import Ledger, Party
from coordinator.turning import Turning
from schemas.audit import BY_POLICY, UNPROVEN
from schemas.limits import MINUTE, SECOND
from schemas.messages import ENCLAVE, INSTANCE, WORKLOAD, Millis
from schemas.policy import Limits, Policy

# A party that must prove again notices within a grace and needs a handshake and a quote.
PROVE_WITHIN = MINUTE


class Striking:
    """What one coordinator does to whoever may not stay."""

    def __init__(self, ledger: Ledger, turning: Turning, changes: Changes, audit: AuditLog) -> None:
        self._ledger, self._turning, self._changes, self._audit = ledger, turning, changes, audit

    def strike(
        self,
        kind: str,
        value: str,
        struck: list[Party],
        *,
        cause: str,
        limits: Limits,
        now: Millis,
        until: Millis = 0,
    ) -> frozenset[bytes]:
        """Put parties out under one entry of the revoked set; return whose sessions end."""
        grace = limits.grace_seconds * SECOND
        until = max(until, now + limits.admission_seconds * SECOND + grace)
        self._ledger.strike(kind, value, struck, now=now, until=until, grace=grace)
        named = [bytes.fromhex(value)] if kind == INSTANCE else []
        self._changes.revoked([*named, *(party.instance for party in struck)], now)
        for party in struck:
            instance = party.instance.hex()
            self._audit.append("evicted", now=now, instance=instance, roles=party.roles, cause=cause)
        for role in sorted({role for party in struck if party.kind == ENCLAVE for role in party.roles}):
            # Its members' secret is with the evicted: nothing under it is believed from here on.
            self._turning.hard(role, now)
        return frozenset(party.instance for party in struck)

    def by_policy(self, old: Policy, new: Policy, now: Millis) -> frozenset[bytes]:
        """Put out whom `new` does not name any more; return whose sessions end, who must prove again too."""
        verdicts = {p.instance: (p, eviction.judge(p, old, new)) for p in self._ledger.remembered()}
        out = [party for party, verdict in verdicts.values() if verdict is eviction.Verdict.OUT]
        entries: dict[tuple[str, str], list[Party]] = {}
        for party in out:
            enclave = party.kind == ENCLAVE
            entry = (WORKLOAD, party.workload) if enclave else (INSTANCE, party.instance.hex())
            entries.setdefault(entry, []).append(party)
        dropped: frozenset[bytes] = frozenset()
        for (kind, value), parties in sorted(entries.items()):
            dropped |= self.strike(kind, value, parties, cause=BY_POLICY, limits=new.limits, now=now)
        # Whoever cannot be judged by what it proved loses its session, and with it its keys' renewal.
        return dropped | self._must_prove(
            [party for party, verdict in verdicts.values() if verdict is eviction.Verdict.MUST_PROVE],
            limits=new.limits,
            now=now,
        )

    def by_chip(self, *, limits: Limits, now: Millis) -> frozenset[bytes]:
        """Have whoever named no chip, where one is banned now, prove again; return whose sessions end."""
        hidden = [p for p in self._ledger.remembered() if p.result and self._ledger.hides_chip(p.result)]
        return self._must_prove(hidden, limits=limits, now=now)

    def _must_prove(self, parties: list[Party], *, limits: Limits, now: Millis) -> frozenset[bytes]:
        for party in parties:
            if self._ledger.admitted(party.instance) is None:
                # Its admission is over and its keys are not: it has no session in which it could prove.
                instance = party.instance.hex()
                self.strike(INSTANCE, instance, [party], cause=UNPROVEN, limits=limits, now=now)
                continue
            self._ledger.must_prove(party.instance, now + PROVE_WITHIN)
            self._audit.append("must-prove", now=now, instance=party.instance.hex())
        return frozenset(party.instance for party in parties)
