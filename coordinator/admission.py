"""Admission: init -> accept, confirm, Evidence -> appraisal -> Admission.

Pure: no clock, no randomness, no I/O. Appraisal is asked for by `begin_evidence` and made elsewhere;
`judge` gets its result. A challenge is good for one appraisal, whatever the outcome.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from msgspec import structs

from coordinator.actions import AppraisalRequest
from coordinator.errors import RefusedError
from coordinator.eviction import client_permitted
from coordinator.ledger import Ledger, Party, without_chip
from coordinator.links import Link, Links
from coordinator.offers import OfferMemory
from coordinator.terms import Standing
from schemas import codec
from schemas.documents import Admission
from schemas.errors import MalformedError, Reason
from schemas.evidence import AttestationResult
from schemas.limits import BOOTSTRAP_MEMORY, CHALLENGE_LIFETIME, MAX_HANDSHAKE, SECOND
from schemas.messages import (
    CLIENT,
    ENCLAVE,
    OPERATOR,
    CoordinatorCredential,
    Credential,
    EvidenceAnswer,
    Init,
    Millis,
    State,
)
from schemas.policy import Policy
from sealing import binding
from sealing.context import Mesh, sha256
from sealing.documents import sign_admission
from sealing.errors import ReplayedError
from sealing.keys import PartyKeys, client_instance, instance
from sealing.session import Peer, accept_init, open_init

MOMENT_SHARE = 10  # the part of an admission's life in which another decides nothing new
HASTE_MOST = 8  # with other roles, one after the other: programs of one key that take turns


class Handshakes:
    """Answers inits: each once, and only those that answer an offer or renew a session of ours."""

    def __init__(self, mesh: Mesh, keys: PartyKeys, random: Callable[[int], bytes]) -> None:
        self._mesh = mesh
        self._keys = keys
        self._random = random
        self._credential = codec.encode(CoordinatorCredential(keys.signing.public, keys.kem.public))
        self._seen: OrderedDict[bytes, Millis] = OrderedDict()

    def accept(
        self,
        wire: bytes,
        links: Links,
        offers: OfferMemory,
        *,
        transcript: Callable[[bytes], bytes | None],
        state: Callable[[bytes], State],
        now: Millis,
    ) -> tuple[Link, bytes]:
        """Answer an init; `transcript` is that of an instance's session, if it is admitted.

        1. Size, room, and that it was not here before: all before the one decryption.
        2. Sealed to us, by a credential of a known kind, in answer to an offer or to renew; signed.
        3. The instance's own limit.
        4. The challenge, and the accept that carries it.
        """
        # 1.
        if len(wire) > MAX_HANDSHAKE:
            raise RefusedError(Reason.TOO_LARGE, "init")
        links.check_room()
        if sha256(wire) in self._seen:
            raise ReplayedError("init")
        # 2.
        judged: list[Credential] = []

        def judge(init: Init) -> Peer:
            credential = codec.decode(init.credential, Credential)
            judged.append(credential)
            peer = Peer(_instance(credential), credential.signing_key)
            if not (init.role is init.responder_role is init.beacon is None):
                raise MalformedError("an init to the coordinator names roles or a beacon")
            if not offers.knows(init.context, now) and init.context != transcript(peer.instance):
                raise RefusedError(Reason.CHALLENGE_UNKNOWN, "neither an offer of ours nor a renewal")
            return peer

        opened = open_init(self._mesh, self._keys, wire, judge)
        self._seen[opened.init_hash] = now
        # 3.
        links.check_instance(opened.initiator.instance)
        # 4.
        challenge = self._random(32)
        accept, session = accept_init(
            self._mesh,
            self._keys,
            opened,
            credential=self._credential,
            state=codec.encode(state(challenge)),
            secret=self._random(32),
            session_id=self._fresh_id(links),
        )
        link = Link(session, opened.init_hash, judged[-1], opened.initiator.instance, now, challenge)
        links.open(link)
        return link, accept

    def sweep(self, now: Millis) -> None:
        """Forget inits whose context no offer of ours answers to any more."""
        while self._seen and now - next(iter(self._seen.values())) >= BOOTSTRAP_MEMORY:
            self._seen.popitem(last=False)

    def _fresh_id(self, links: Links) -> bytes:
        session_id = self._random(8)
        while session_id in links:
            session_id = self._random(8)
        return session_id


def _instance(credential: Credential) -> bytes:
    if credential.kind == ENCLAVE:
        return instance(credential.signing_key, credential.kem_key)
    if credential.kind in (CLIENT, OPERATOR):
        return client_instance(credential.signing_key)
    raise MalformedError("a credential of no known kind")


def begin_evidence(
    mesh: Mesh,
    standing: Standing,
    link: Link,
    request: bytes,
    answer: EvidenceAnswer,
    *,
    now: Millis,
) -> AppraisalRequest | None:
    """Burn the challenge and say what has to be appraised: None for those whom a pinned key admits.

    1. The challenge is this session's, unused, and fresh.
    2. An operator's key is one of those that count now.
    3. Everybody else waits for the order and the policy.
    4. A client's key is in the policy.
    5. An enclave answers with Evidence.
    """
    # 1.
    challenge, link.challenge = link.challenge, None
    if challenge is None:
        raise RefusedError(Reason.CHALLENGE_UNKNOWN, "the challenge was used")
    if now - link.opened >= CHALLENGE_LIFETIME:
        raise RefusedError(Reason.EXPIRED, "the challenge is too old")
    credential = link.credential
    if credential.kind != ENCLAVE and (answer.evidence is not None or answer.endorsements):
        raise MalformedError("Evidence of somebody who is not an enclave")
    if credential.kind != OPERATOR and answer.operators:
        raise MalformedError("changes of operators, of somebody who is none")
    # 2.
    if credential.kind == OPERATOR:
        if credential.signing_key not in standing.council.keys:
            raise RefusedError(Reason.CLIENT_NOT_IN_POLICY, "not an operator of this mesh")
        return None
    # 3.
    if standing.order is None:
        raise RefusedError(Reason.TERM_NOT_ACCEPTED, "no order is in force: only operators are admitted")
    policy = standing.policy
    # 4.
    if credential.kind == CLIENT:
        key = credential.signing_key.hex()
        if policy is None or all(client.key != key for client in policy.clients.values()):
            raise RefusedError(Reason.CLIENT_NOT_IN_POLICY)
        return None
    # 5.
    if answer.evidence is None:
        raise MalformedError("an enclave without Evidence")
    link.evidence = sha256(answer.evidence.value)
    if policy is None:
        raise RefusedError(Reason.PLATFORM_NOT_IN_POLICY, "no policy is in force")
    return AppraisalRequest(
        session_id=link.session.own_id,
        request=request,
        evidence=answer.evidence,
        endorsements=answer.endorsements,
        reference_values=policy.reference_values(),
        key_binding=binding.key_binding(
            mesh,
            binding.AGENT,
            challenge,
            link.session.transcript,
            credential.signing_key,
            credential.kem_key,
        ),
        challenge=challenge,
        now=now,
        policy_hash=standing.policy_hash,
    )


def again(request: AppraisalRequest, policy: Policy, policy_hash: bytes, *, now: Millis) -> AppraisalRequest:
    """Return a request to appraise the same Evidence by the policy that came into force meanwhile."""
    return replace(request, reference_values=policy.reference_values(), policy_hash=policy_hash, now=now)


def judge(
    mesh: Mesh,
    keys: PartyKeys,
    standing: Standing,
    ledger: Ledger,
    link: Link,
    result: AttestationResult | None,
    *,
    now: Millis,
) -> Party:
    """Admit the party of a session whose proof was accepted, or raise.

    1. It wants at least one role, each once, and only such as its workload, or its key, may hold.
    2. Neither it, nor its chip, nor its workload is revoked.
    3. Admitted a moment ago, it gets that admission again, with its end; as something else, only so often.
    """
    credential = link.credential
    # 1.
    if not _roles_permitted(credential, standing, result):
        raise RefusedError(Reason.ROLE_NOT_PERMITTED)
    # 2.
    ledger.check(link.instance, result)
    party = Party(
        instance=link.instance,
        kind=credential.kind,
        roles=credential.roles,
        signing_key=credential.signing_key,
        found=without_chip(result),
        chip=result.chip if result else "",
        admission=b"",
        term=standing.term,
        expires=(now // SECOND + standing.limits.admission_seconds) * SECOND,
        session_id=link.session.own_id,
        evidence=link.evidence,
        lifetime=standing.limits.admission_seconds,
        policy_version=standing.policy_version,
    )
    # 3.
    party = _without_haste(party, ledger.admitted(link.instance), now)
    admission = Admission(
        subject=link.instance,
        expires=party.expires // SECOND,
        issued=party.issued // SECOND,
        signing_key=credential.signing_key,
        kem_key=credential.kem_key,
        mesh=mesh.id,
        term=standing.term,
        policy_version=standing.policy_version,
        kind=credential.kind,
        workload=result.workload if result else "",
        platform=result.platform if result else "",
        roles=credential.roles,
    )
    return structs.replace(party, admission=sign_admission(keys.signing, mesh, admission))


def _without_haste(party: Party, last: Party | None, now: Millis) -> Party:
    # Each new admission is an entry of the log, which keeps a number of them: nobody may push out the others'
    # by being admitted over and over. Who renews when it is due never meets this.
    if last is None or last.prove_by is not None:
        return party
    if (last.term, last.policy_version) != (party.term, party.policy_version):
        return party
    if now - last.issued >= (last.expires - last.issued) // MOMENT_SHARE:
        return party
    again = structs.replace(party, lifetime=last.lifetime, expires=last.expires, haste=last.haste)
    if again.repeats(last):
        return again
    if last.haste >= HASTE_MOST:
        raise RefusedError(Reason.UNAVAILABLE, "admitted as something else too often: wait for a moment")
    return structs.replace(party, haste=last.haste + 1)


def _roles_permitted(credential: Credential, standing: Standing, result: AttestationResult | None) -> bool:
    wanted, policy = credential.roles, standing.policy
    if not wanted or len(set(wanted)) != len(wanted):
        return False
    if credential.kind == OPERATOR:
        return wanted == (OPERATOR,)
    if policy is None:
        return False
    if credential.kind == CLIENT:
        return client_permitted(policy, credential.signing_key, wanted)
    workload = policy.workloads.get(result.workload) if result else None
    return workload is not None and set(wanted) <= set(workload.roles)
