"""A large mesh for `sealbus bench grants`: a coordinator with many rules, roles and admitted agents.

What is timed is what a coordinator does between an event that arrives and a mesh under the new policy: the
operators' signatures, the whole policy read and checked, every agent judged, every grant and view signed.
"""

import gc
import os
import time
import tracemalloc
from typing import Any

from msgspec.structs import replace as changed

from coordinator.authority import Authority
from coordinator.granting import every_right
from coordinator.ledger import Ledger, Party
from schemas import codec
from schemas.documents import Admission, Anchor, OperatorKey, Order
from schemas.evidence import NITRO, AttestationResult, PlatformValues
from schemas.limits import HOUR, MINUTE, SECOND
from schemas.messages import ENCLAVE, Event
from schemas.pinning import Pinned
from schemas.policy import Policy, Workload, compiled
from schemas.rules import CALL, Rule
from sealing.context import Mesh, sha256
from sealing.documents import open_anchor, sign_admission, sign_by_operators
from sealing.keys import KemKey, PartyKeys, SigningKey
from sealing.profile import profile_of
from sealing.roll import EMPTY

RULES, ROLES, AGENTS = 1_000, 500, 10_000
_START = 1_790_000_000_000
_ROOT = "aa" * 32


class LargeMesh:
    """A coordinator that has adopted a large policy and admitted many agents."""

    def __init__(self, rules: int = RULES, roles: int = ROLES, agents: int = AGENTS) -> None:
        self.operators = [SigningKey() for _ in range(3)]
        named = tuple(OperatorKey(f"op-{number}", key.public) for number, key in enumerate(self.operators))
        self.anchor, self.mesh = open_anchor(codec.encode(Anchor(1, named, 2, (_ROOT,), _START, 1)))
        self.keys = PartyKeys()
        self.authority = Authority(
            self.anchor, self.mesh, self.keys, random=os.urandom, emit=lambda line: None
        )
        order = Order(self.mesh.id, 1, self.keys.instance, None, None, EMPTY, _START)
        self.authority.open_term(
            Event("order", self._sign("order", codec.encode(order)), None, ()), now=_START, ahead=int
        )
        self.policy = _policy(self.mesh, rules, roles)
        self.now = _START + MINUTE
        self.authority.adopt(self._event(self.policy), self.now)
        self.parties = [_party(self.mesh, self.keys.signing, self.policy, n) for n in range(agents)]
        for party in self.parties:
            self.authority.enter(party, self.now)

    def adoption(self) -> float:
        """Adopt the next version and return how many milliseconds of CPU it took."""
        before = sha256(compiled(self.policy))
        rules = tuple(changed(rule, per_minute=(rule.per_minute or 0) + 1) for rule in self.policy.rules)
        self.policy = changed(
            self.policy, version=self.policy.version + 1, predecessor=before.hex(), rules=rules
        )
        event = self._event(self.policy)
        self.now += SECOND
        gc.collect()
        start = time.process_time()
        self.authority.adopt(event, self.now)
        return (time.process_time() - start) * 1e3

    def grants(self) -> int:
        """Return how many grants are published."""
        return len({decision for each in every_right(self.policy).values() for decision, _ in each.permits})

    def registry_bytes(self) -> float:
        """Return what the registry holds for each agent, its admission among it."""
        gc.collect()
        tracemalloc.start()
        try:
            ledger, until = Ledger(), self.now + HOUR  # the end of an epoch, the same for all of a role
            for party in self.parties:
                # As they come out of a message: nothing of one is another's.
                ledger.enter(_as_received(party))
                ledger.holds_keys(party.instance, until)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / len(self.parties)
        finally:
            tracemalloc.stop()

    def _sign(self, label: str, payload: bytes) -> tuple[bytes, ...]:
        return sign_by_operators(self.operators[:2], self.anchor, label, payload)

    def _event(self, policy: Policy) -> Event:
        profile = codec.encode(profile_of(self.mesh, policy))
        return Event("policy", self._sign("policy", compiled(policy)), self._sign("profile", profile), ())


def _as_received(party: Party) -> Party:
    def copied(value: Any, kind: Any) -> Any:
        return codec.decode(codec.encode(value), kind)

    return changed(
        party,
        instance=copied(party.instance, bytes),
        roles=copied(party.roles, tuple[str, ...]),
        signing_key=copied(party.signing_key, bytes),
        found=copied(party.found, AttestationResult),
        chip=copied(party.chip, str),
        evidence=copied(party.evidence, bytes),
        expires=copied(party.expires, int),
        admission=copied(party.admission, bytes),
        session_id=copied(party.session_id, bytes),
    )


def _pinned(number: int) -> Pinned:
    return Pinned(measurements=dict.fromkeys(("pcr0", "pcr1", "pcr2"), f"{number:096x}"))


def _policy(mesh: Mesh, rules: int, roles: int) -> Policy:
    names = [f"role-{number}" for number in range(roles)]
    return Policy(
        mesh=mesh.id.hex(),
        version=1,
        issued=_START,
        platforms={NITRO: PlatformValues(lab_roots=(_ROOT,))},
        coordinators={NITRO: _pinned(roles)},
        workloads={
            name: Workload(roles=(name,), on={NITRO: _pinned(number)}) for number, name in enumerate(names)
        },
        tools={f"tool-{number}": name for number, name in enumerate(names)},
        rules=tuple(
            Rule(
                role=names[n % roles],
                may=CALL,
                what=f"tool-{(n * 7 + n // roles) % roles}",
                max_bytes=4096,
            )
            for n in range(rules)
        ),
    )


def _party(mesh: Mesh, key: SigningKey, policy: Policy, number: int) -> Party:
    names = list(policy.workloads)
    name = names[number % len(names)]
    instance, signing = os.urandom(32), os.urandom(32)
    expires = _START // SECOND + 3_600
    admission = Admission(
        subject=instance,
        expires=expires,
        issued=_START // SECOND,
        signing_key=signing,
        kem_key=_KEM,
        mesh=mesh.id,
        term=1,
        policy_version=1,
        kind=ENCLAVE,
        workload=name,
        platform=NITRO,
        roles=(name,),
    )
    measurements = dict(policy.workloads[name].on[NITRO].measurements)
    return Party(
        instance=instance,
        kind=ENCLAVE,
        roles=(name,),
        signing_key=signing,
        found=_result(name, measurements),
        chip=f"i-{number:017x}",
        admission=sign_admission(key, mesh, admission),
        term=1,
        expires=expires * SECOND,
        session_id=os.urandom(8),
        evidence=os.urandom(32),
        lifetime=3_600,
    )


def _result(workload: str, measurements: dict[str, Any]) -> AttestationResult:
    return AttestationResult(
        platform=NITRO,
        workload=workload,
        workload_id=sha256(workload.encode()),
        measurements=measurements,
        chip="",
        debug=False,
        status="",
        lab=False,
    )


_KEM = KemKey().public
