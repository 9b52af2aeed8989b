"""`sealbus`: the one command line.

Exit codes: 0 done, 1 refused or failed, 2 usage or unreadable input, 3 the mesh or broker could not be
reached. Errors are a line that says what to do next, and with `--json` an object too; a traceback is a bug.
"""

import io
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

import click
from rich.console import Console

from console.audit import audit
from console.collateral import collateral
from console.doctor import doctor
from console.evidence import evidence, print_json
from console.evidence_files import UnreadableError
from console.explain_command import explain_command
from console.operating.act_commands import glass, order, renewal, revoke
from console.operating.agent_commands import agents, workloads
from console.operating.mesh_commands import mesh
from console.operating.operators_commands import operators
from console.output import OutputError
from console.policy.commands import policy
from schemas.errors import PeerError, Reason, SealbusError, UsageError
from schemas.toml_place import printable
from transport import TransportError, UnavailableError

COMMANDS = "sealbus.commands"
USAGE = "usage"
_REASONS = {1: "failed", 2: USAGE, 3: Reason.UNAVAILABLE.value}  # of errors that have none of their own


class Commands(click.Group):
    """Commands of this package and of those above it, which are found by name and loaded when asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """List every command that is installed."""
        return sorted({*super().list_commands(context), *_plugins()})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a command, loading the package that offers it."""
        own = super().get_command(context, name)
        plugin = _plugins().get(name)
        if own is not None or plugin is None:
            return own
        command = plugin.load()
        return command if isinstance(command, click.Command) else None


@cache  # what is installed stays so: finding it reads every distribution's metadata
def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=COMMANDS)}


@click.group(cls=Commands)
@click.version_option(package_name="sealbus")
def sealbus() -> None:
    """Run cooperating agents in attested enclaves over a broker that nobody has to trust."""


sealbus.add_command(audit)
sealbus.add_command(doctor)
sealbus.add_command(collateral)
sealbus.add_command(evidence)
sealbus.add_command(policy)
sealbus.add_command(explain_command)
for _group in (order, revoke, renewal, glass, operators, agents, workloads, mesh):
    sealbus.add_command(_group)


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = _run(arguments)
        # Else the interpreter does it, and its failing would not be told as an error of the output.
        if sys.stdout is not None:
            sys.stdout.flush()
    except OutputError as error:
        return _report(error)
    return code


def _run(arguments: list[str]) -> int:
    as_data = "--json" in arguments
    try:
        outcome = sealbus.main(args=arguments, prog_name="sealbus", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        for line in text.getvalue().rstrip("\n").split("\n"):
            click.echo(printable(line.expandtabs()), err=True)
        if as_data:
            _tell(USAGE, error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("stopped")
        return 1
    except SealbusError as error:
        return _report(error, as_data=as_data)
    except BaseExceptionGroup as group:
        expected, bugs = group.split((SealbusError, KeyboardInterrupt))
        if bugs is not None or expected is None:
            raise
        gravest = max(leaves(expected), key=code_of)
        for each in leaves(expected):
            _report(each, as_data=as_data and each is gravest)
        return code_of(gravest)
    return outcome if isinstance(outcome, int) else 0


def code_of(error: BaseException) -> int:
    """Return the exit code that an error stands for."""
    if isinstance(error, UsageError):
        return 2
    unreachable = isinstance(error, PeerError) and error.reason in (Reason.UNAVAILABLE, Reason.NOT_LIVE)
    if unreachable or isinstance(error, UnavailableError | TransportError):
        return 3
    return 1


def _report(error: BaseException, *, as_data: bool = False) -> int:
    _say("stopped" if isinstance(error, KeyboardInterrupt) else str(error))
    code = code_of(error)
    if as_data:
        if isinstance(error, PeerError):
            _tell(error.reason.value, error.detail)
        elif isinstance(error, UnreadableError):
            _tell(error.reason.value, str(error))
        elif not isinstance(error, KeyboardInterrupt):
            _tell(_REASONS[code], str(error))
    return code


def _tell(reason: str, detail: str) -> None:
    print_json({"done": False, "reason": reason, "detail": detail})


def _say(text: str) -> None:
    # Errors quote names that somebody else chose: none of their characters steers a terminal.
    line = f"sealbus: {printable(text)}"
    Console(stderr=True, highlight=False).print(line, markup=False, soft_wrap=True)


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the errors that a group of errors holds, however deep."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
