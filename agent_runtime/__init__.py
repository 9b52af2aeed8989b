"""The SDK: write functions, have them sealed, attested and authorised.

    from agent_runtime import Agent, Context

These two are enough for an agent; the errors are for what it catches and raises. `connect_client`, with an
`Identity`, is for programs outside any TEE. `Node` is what either runs on.
"""

from agent_runtime.agent import Agent, Context, Task
from agent_runtime.client import Client, connect_client
from agent_runtime.errors import CallFailedError, HandBackError, RefusedError, TaskFailedError
from agent_runtime.journal import JournalError
from agent_runtime.node import Identity, Node

__all__ = [
    "Agent",
    "CallFailedError",
    "Client",
    "Context",
    "HandBackError",
    "Identity",
    "JournalError",
    "Node",
    "RefusedError",
    "Task",
    "TaskFailedError",
    "connect_client",
]
