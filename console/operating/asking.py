"""Having a coordinator tell what `explain` needs: all of one moment, and what operators signed verified."""

from agent_runtime.coordination import UnreachableError
from agent_runtime.joining import AdmissionRefusedError
from console.operating.acts import signed
from console.operating.asked import Broken, Told
from console.operator import NO_TERM, PAGES_TRIED, OperatorLine
from schemas import codec
from schemas.documents import BreakGlass
from schemas.errors import Reason, UsageError
from schemas.messages import Event, MeshStatus
from schemas.policy import Policy, from_compiled
from sealing.context import sha256


async def ask(line: OperatorLine) -> Told:
    """Return what the coordinator tells, or raise a `PeerError`; `UsageError` while it has no policy."""
    for _ in range(PAGES_TRIED):
        told = await _ask(line)
        if told is not None:
            return told
    raise UnreachableError("the mesh changes faster than it can be asked: ask again")


async def _ask(line: OperatorLine) -> Told | None:
    status = await line.status()
    if not status.term:
        raise UsageError(f"{NO_TERM}; until then nobody may do anything")
    if not status.policy_version:
        raise UsageError(
            f"no policy is in force in term {status.term}, so nobody may do anything: "
            "`sealbus policy publish FILE`"
        )
    text, signers = await _policy(line)
    broken = await _broken(line, status)
    revoked = await line.revoked()
    if sha256(text) != status.policy_hash or broken is None:
        return None  # something came into force meanwhile
    return Told(status, from_compiled(text), signers, broken, revoked)


async def policy_in_force(line: OperatorLine) -> Policy | None:
    """Return the policy in force, verified by the operators' signatures; None if there is none."""
    if not line.policy_version:
        return None
    text, _ = await _policy(line)
    return from_compiled(text)


async def _policy(line: OperatorLine) -> tuple[bytes, tuple[str, ...]]:
    return signed(line.council, "policy", (await line.ask("policy", "", Event)).documents)


async def _broken(line: OperatorLine, status: MeshStatus) -> tuple[Broken, ...] | None:
    found: list[Broken] = []
    try:
        for number in range(len(status.break_glass)):
            event = await line.ask("break-glass", str(number), Event)
            text, signers = signed(line.council, "break-glass", event.documents)
            found.append(Broken(codec.decode(text, BreakGlass), signers))
    except AdmissionRefusedError as error:
        if error.reason is not Reason.NO_HANDLER:
            raise
        return None
    return tuple(found)
