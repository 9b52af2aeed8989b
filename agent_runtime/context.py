"""What a handler holds: calls and submissions in its own name, for the task it works on."""

from math import inf
from typing import Any, TypeVar

from agent_runtime.agent import decode_value, encode_value
from agent_runtime.calls import Calls, check_within
from agent_runtime.gate import Gate
from agent_runtime.membership import Membership
from agent_runtime.submitter import SubmittedTask, Submitter
from agent_runtime.submitting import Origin
from schemas.errors import UsageError
from schemas.limits import SECOND
from schemas.peer import APART, bin_parts

WITHIN = 30.0  # seconds

T = TypeVar("T")


class NodeContext:
    """The `Context` of one task, one call, or a client."""

    def __init__(
        self,
        membership: Membership,
        gate: Gate,
        calls: Calls,
        submitter: Submitter,
        task_id: bytes | None,
        caller_role: str,
        caller_instance: bytes,
        origin: Origin | None = None,
    ) -> None:
        self._membership = membership
        self._gate = gate
        self._calls = calls
        self._submitter = submitter
        self.task_id = task_id
        self.caller_role = caller_role
        self.caller_instance = caller_instance
        self._origin = origin

    async def call(self, tool: str, arguments: Any, kind: type[T], *, within: float = WITHIN) -> T:
        """Call a tool and return its value within so many seconds, or raise `CallFailedError`."""
        # Before it is permitted: somebody's own type may take its time, and a permission is of now.
        large = type(arguments) is bytes and len(arguments) >= APART
        encoded = bin_parts(arguments) if large else encode_value(arguments)
        way = self._gate.may_say("call", tool, arguments)
        value = await self._calls.call(way, tool, encoded, within=within, idempotency=self.task_id)
        return decode_value(value, kind)

    async def send(self, kind: str, payload: Any, *, within: float = WITHIN) -> None:
        """Send a message that nobody answers; return when it is on its way, or raise `CallFailedError`."""
        if within is not WITHIN:
            check_within(within)
        # Most of what is sent in one turn goes where the first of it went.
        if not self._calls.send_on(kind, payload):
            encoded = encode_value(payload)
            way = self._gate.may_say("send", kind, payload)
            await self._calls.send(way, kind, encoded, within=within)

    async def submit(
        self,
        task_class: str,
        payload: Any,
        *,
        lifetime: float | None = None,
        priority: int = 5,
        affinity: str | None = None,
        label: str = "",
    ) -> SubmittedTask:
        """Submit a task; return when the broker has acknowledged it.

        Its `lifetime`, in seconds, is at most that of its class; `UsageError` for what is none.
        """
        if lifetime is not None and not 0 < lifetime < inf:
            raise UsageError(f"a task lives for some seconds, not {lifetime}")
        self._gate.may_say("submit", task_class, payload)
        return await self._submitter.submit(
            task_class,
            encode_value(payload),
            lifetime=int(lifetime * SECOND) if lifetime is not None else None,
            priority=priority,
            affinity=affinity,
            label=label,
            origin=self._origin,
        )
