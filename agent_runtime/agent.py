"""What the people who write agents write: functions, named by the task class or tool that they serve.

    agent = Agent("redactor")

    @agent.task("redact")
    async def redact(part: Part, context: Context) -> Redacted: ...

Arguments and results are msgspec types, checked at the border; a plain `def` runs in a worker thread, an
`async def` in the event loop. No cryptography is in sight because none is theirs to get wrong.
"""

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from agent_runtime.bugs import Home, home_of
from agent_runtime.errors import RefusedError
from schemas.errors import Reason, UsageError
from schemas.plain import Form, form_of

T = TypeVar("T")
Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)


class Task(Protocol):
    """A task that was submitted and acknowledged."""

    @property
    def id(self) -> bytes: ...

    @property
    def label(self) -> str:
        """What its submitter called it; a client's journal keeps it beside the id."""

    async def result(self, kind: type[T]) -> T:
        """Wait for the end: return its value, or raise `TaskFailedError`."""

    def forget(self) -> None:
        """Strike it from the client's journal, once what came of it is in safe hands."""


# msgspec has an error of its own for all but text that is not UTF-8 and nesting without end.
NOT_OF_TYPE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Context(Protocol):
    """What a handler may do besides computing: everything it asks for is checked against its grants."""

    @property
    def task_id(self) -> bytes | None:
        """The task being worked on; the idempotency key of calls made for it. None in a tool."""

    @property
    def caller_role(self) -> str:
        """The role of who submitted or called."""

    @property
    def caller_instance(self) -> bytes:
        """The instance of who submitted or called."""

    async def call(self, tool: str, arguments: Any, kind: type[T], *, within: float = 30.0) -> T:
        """Call a tool; return its value in so many seconds, an hour at most, or raise `CallFailedError`.

        One instance of the tool's role runs it, once; if that is gone before it has answered, another does.
        """

    async def send(self, kind: str, payload: Any, *, within: float = 30.0) -> None:
        """Send a message to the role that takes its kind, at most once; nobody answers.

        Returns when it is on its way. `within` is how many seconds to look for somebody who takes it before
        `CallFailedError`; that it was heeded, nothing says.
        """

    async def submit(
        self,
        task_class: str,
        payload: Any,
        *,
        lifetime: float | None = None,
        priority: int = 5,
        affinity: str | None = None,
        label: str = "",
    ) -> Task:
        """Submit a task; returns when the broker has acknowledged it.

        `lifetime` is in seconds, at most that of its class; a handler that still runs then is ended.
        """


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A handler with the types of its argument and result."""

    name: str
    handler: Handler
    argument: "msgspec.msgpack.Decoder[Any]"
    is_async: bool
    form: Form = field(init=False, compare=False)  # what the argument's type says of its parts
    copies: bool = field(
        init=False, compare=False
    )  # the argument is made of its payload, and keeps none of it
    home: Home = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "form", form_of(self.argument.type))
        object.__setattr__(self, "copies", self.argument.type is bytes)
        object.__setattr__(self, "home", home_of(self.handler))

    def decode(self, payload: bytes | memoryview) -> Any:
        """Return the argument, or raise `arguments-invalid`."""
        try:
            # Other types may be made of views: those would keep all that came with a payload.
            return self.argument.decode(payload if self.copies else bytes(payload))
        except NOT_OF_TYPE as error:
            raise self.misfit() from error

    def misfit(self) -> RefusedError:
        """Return what refuses bytes that are no argument."""
        return RefusedError(Reason.ARGUMENTS_INVALID, f"not an argument of {self.name}")


class Agent:
    """An agent: one role, its task handlers, tools and message handlers.

    A handler leaves every cancel scope and task group that it entered, as those around a `yield` in a
    generator that it does not iterate to its end: `contextlib.aclosing` closes one. What is left open ends
    the agent.
    """

    def __init__(self, role: str, *, concurrency: int = 4) -> None:
        if concurrency < 1:
            raise UsageError("an agent's concurrency must be at least 1")
        self.role = role
        self.concurrency = concurrency
        self.tasks: dict[str, Endpoint] = {}
        self.tools: dict[str, Endpoint] = {}
        self.messages: dict[str, Endpoint] = {}

    def task(self, task_class: str) -> Callable[[H], H]:
        """Serve the tasks of a class with the decorated function `(payload, context) -> result`."""
        return self._register(self.tasks, task_class)

    def tool(self, name: str) -> Callable[[H], H]:
        """Offer the decorated function `(arguments, context) -> value` as a tool."""
        return self._register(self.tools, name)

    def message(self, kind: str) -> Callable[[H], H]:
        """Heed the messages of a kind with the decorated function `(payload, context) -> None`.

        Handlers of one sender's messages begin in the order sent; those that wait, and plain functions,
        which run in threads, run beside each other. Those that came together share one context as long as
        none waits: what one sets in a `ContextVar`, set back in it, or the next ones of that sender see it.
        """
        return self._register(self.messages, kind)

    def _register(self, table: dict[str, Endpoint], name: str) -> Callable[[H], H]:
        def register(handler: H) -> H:
            if name in table:
                raise UsageError(f"{name!r} has two handlers in this agent: keep one")
            hints = _hints(name, handler)
            parameters = list(inspect.signature(handler).parameters)
            if len(parameters) != 2 or parameters[0] not in hints or "return" not in hints:
                raise UsageError(
                    f"the handler of {name!r} needs the form (payload: Type, context: Context) -> Type"
                )
            argument = msgspec.msgpack.Decoder(hints[parameters[0]])
            table[name] = Endpoint(name, handler, argument, inspect.iscoroutinefunction(handler))
            return handler

        return register


def _hints(name: str, handler: Handler) -> dict[str, Any]:
    try:
        return typing.get_type_hints(handler)
    except NameError as error:
        raise UsageError(
            f"the handler of {name!r} names a type that is not imported at run time: {error.name}"
        ) from error


# An application value as MessagePack.
encode_value: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


def decode_value(data: bytes | memoryview, kind: type[T]) -> T:
    """Return an application value of the expected type, or raise `arguments-invalid`."""
    try:
        return msgspec.msgpack.decode(data if kind is bytes else bytes(data), type=kind)
    except NOT_OF_TYPE as error:
        raise RefusedError(Reason.ARGUMENTS_INVALID, "the value is of another type than asked for") from error
