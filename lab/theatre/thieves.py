"""Acts of whoever stole one operator's key and can write every file of the operators, and of the revoked.

The one stolen key opens a line to the coordinator. It signs nothing that counts alone.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from console.operating.kept import Kept
from console.operator import RECEIPT_DEADLINE
from lab.theatre.act import Verdict, refused, succeeded
from lab.theatre.stage import Stage
from schemas import codec
from schemas.errors import PeerError
from schemas.messages import Event, SignedByOperators


async def forged_grant(stage: Stage) -> Verdict:
    """Write one more rule into the signed policy file, and bring that with the signatures it had."""
    signed = stage.mesh.operators.policy.signed
    return await _bring(stage, tuple(map(_with_one_rule_more, signed.policy)), signed.profile)


async def too_few_signatures(stage: Stage) -> Verdict:
    """Bring a newer policy that one operator alone has signed."""
    signed = stage.mesh.operators.sign(stage.mesh.operators.next_policy())
    return await _bring(stage, signed.policy[:1], signed.profile)


async def old_policy(stage: Stage) -> Verdict:
    """Let the operators publish a newer policy, and bring the one that it replaced."""
    operators = stage.mesh.operators
    before = operators.policy.signed
    await operators.publish(operators.sign(operators.next_policy()))
    return await _bring(stage, before.policy, before.profile)


async def revoked_agent(stage: Stage) -> Verdict:
    """Let the operators evict an agent's instance, which then asks to be admitted with the keys it has."""
    mesh = stage.mesh
    agent = next(a for a in mesh.admitted() if list(mesh.workloads.values()).count(a.workload) > 1)
    await mesh.operators.revoke("instance", agent.instance, "attack theatre")
    if not await stage.until(lambda: agent.name in mesh.refused):
        return succeeded(f"{agent.name} goes on")
    reason = mesh.refused.pop(agent.name).partition(":")[0]
    # A machine that starts again is a new instance, with new keys: the policy still names its workload.
    await mesh.rack.start(mesh.machines[agent.name])
    admitted = stage.admissions(agent.name)
    await stage.until(lambda: stage.admissions(agent.name) > admitted)
    return refused(reason, f"the coordinator, to {agent.name}, and everybody whom it calls")


async def _bring(stage: Stage, documents: SignedByOperators, profile: SignedByOperators) -> Verdict:
    event = Event("policy", documents, profile, ())
    try:
        # A console of the thief's own: the operators' would not even send it.
        with TemporaryDirectory(prefix="sealbus-thief-") as memory:
            operators = stage.mesh.operators
            async with operators.line(kept=Kept(Path(memory), operators.mesh.id)) as line:
                await line.coordination.request("event", event, within=RECEIPT_DEADLINE)
    except PeerError as refusal:
        return refused(refusal.reason.value, "the coordinator, to the operator whose key was stolen")
    return succeeded("the policy is in force")


def _with_one_rule_more(document: bytes) -> bytes:
    protected, unprotected, payload, signature = codec.decode_any(document, "a signed policy")
    policy: dict[str, Any] = dict(codec.decode_any(payload, "a policy"))
    rule = dict(policy["rules"][0])
    taken = {(each["role"], each["what"]) for each in policy["rules"]}
    roles = sorted({each["role"] for each in policy["rules"]})
    role, tool = next((r, t) for r in roles for t in sorted(policy["tools"]) if (r, t) not in taken)
    policy["rules"] = [*policy["rules"], rule | {"role": role, "may": "call", "what": tool}]
    policy["version"] += 1
    return codec.encode([protected, unprotected, codec.encode(policy), signature])
