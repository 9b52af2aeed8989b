"""`sealbus agents` and `sealbus workloads`: who is admitted, and who is to go or to take nothing more.

Given as many keys as have to sign, one command makes, signs and sends; given fewer it writes what the other
operators sign with `sealbus revoke sign`.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import click
from rich.console import Console

from console.evidence import print_json
from console.operating import acts
from console.operating.acts import Act
from console.operating.asking import policy_in_force
from console.operating.desk import DONE, REFUSED, Desk, desk_options, json_option
from console.operating.drafts import revocation
from console.operating.naming import ALONE, FULL, Registry, UnknownHereError, digest_of, instance_of, tidy
from console.operating.options import anyway_option, reason_option
from console.operating.receipts import tell_struck
from console.operating.screen import act_data, act_lines, agents_table, party_data
from console.operating.striking import strike
from console.operating.tainting import Measured, measured, measured_as
from console.operator import NO_TERM, OperatorLine
from console.policy import files
from console.policy.screen import say
from console.policy.signing_commands import File
from schemas import codec
from schemas.errors import UsageError
from schemas.messages import (
    CHIP,
    INSTANCE,
    LIFT,
    MEASUREMENT,
    QUARANTINE,
    WORKLOAD,
    MeshStatus,
)
from schemas.words import count

out_option = click.option(
    "--out", type=File, default=Path("revocation.act"), show_default=True, help="If signatures are missing."
)


@click.group()
def agents() -> None:
    """See who is admitted; evict, quarantine, or end a quarantine."""


@click.group()
def workloads() -> None:
    """See what runs by workload; taint a measurement that turned bad."""


@agents.command("list")
@desk_options
@json_option
def list_agents(desk: Desk, as_data: bool) -> int:
    """List everybody that the coordinator has admitted."""

    async def work() -> int:
        parties = (await _status(desk)).parties
        if as_data:
            print_json({"agents": [party_data(each) for each in parties if each.kind != "operator"]})
        else:
            Console().print(agents_table(parties))
        return DONE

    return anyio.run(work)


@agents.command()
@desk_options
@click.argument("instance", required=False)
@click.option("--chip", help="Evict what runs on a chip, and admit nothing from it again.")
@click.option("--workload", help="Evict all instances of a workload by its name.")
@reason_option
@out_option
@anyway_option
@json_option
def evict(
    desk: Desk,
    instance: str | None,
    chip: str | None,
    workload: str | None,
    reason: str,
    out: Path,
    anyway: bool,
    as_data: bool,
) -> int:
    """Evict INSTANCE, by its id or eight digits of it that are its alone: out everywhere, for good."""
    named = [
        (kind, value) for kind, value in ((INSTANCE, instance), (CHIP, chip), (WORKLOAD, workload)) if value
    ]
    if len(named) != 1:
        raise UsageError("name one: an INSTANCE, or --chip, or --workload")
    kind, value = named[0]
    return _decide(
        desk,
        lambda told: [(kind, instance_of(told, value) if kind == INSTANCE else value)],
        reason,
        out,
        anyway,
        as_data,
    )


@agents.command()
@desk_options
@click.argument("instance")
@reason_option
@out_option
@anyway_option
@json_option
def quarantine(desk: Desk, instance: str, reason: str, out: Path, anyway: bool, as_data: bool) -> int:
    """Let INSTANCE finish what it has and take nothing new. Its code sees to it: evict whom you distrust."""
    return _decide(
        desk, lambda told: [(QUARANTINE, instance_of(told, instance))], reason, out, anyway, as_data
    )


@agents.command()
@desk_options
@click.argument("instance")
@reason_option
@out_option
@anyway_option
@json_option
def lift(desk: Desk, instance: str, reason: str, out: Path, anyway: bool, as_data: bool) -> int:
    """End the quarantine of INSTANCE: it takes things again. Nothing else that was revoked comes back."""
    return _decide(desk, lambda told: [(LIFT, instance_of(told, instance))], reason, out, anyway, as_data)


@workloads.command("list")
@desk_options
@json_option
def list_workloads(desk: Desk, as_data: bool) -> int:
    """List the workloads that run or may, with each measurement and how many instances there are."""

    async def work() -> int:
        async with desk.line() as line:
            status = await line.status()
            parties = status.parties
            known = measured(parties, await policy_in_force(line))
        _hint(status)
        counted = Counter(each.workload_id.hex() for each in parties)
        if as_data:
            print_json({"workloads": [_workload_data(each, counted[each.value]) for each in known]})
        else:
            for each in known:
                pinned = "" if each.is_pinned else "; the policy in force pins it no more"
                say([f"{each}: {count(counted[each.value], 'instance')}{pinned}", f"  {each.value}"])
        return DONE

    return anyio.run(work)


def _workload_data(known: Measured, instances: int) -> dict[str, Any]:
    return {
        "workload": known.workload,
        "platform": known.platform,
        "measurement": known.value,
        "instances": instances,
        "pinned": known.is_pinned,
    }


@workloads.command()
@desk_options
@click.argument("workload")
@reason_option
@out_option
@anyway_option
@json_option
def taint(desk: Desk, workload: str, reason: str, out: Path, anyway: bool, as_data: bool) -> int:
    """Put out what measures as WORKLOAD, a name or a measurement's id: all that is admitted or pinned so."""

    async def work() -> int:
        if len({key.public for key in desk.keys}) < desk.council.threshold:
            value = await _one_measurement(desk, workload)
            return _write(desk, _signed(desk, [(MEASUREMENT, value)], reason), out, as_data)
        async with desk.line() as line:
            here = desk.of(line.council)
            meant = measured_as(await _measured(line), workload)
            made = _signed(here, [(MEASUREMENT, each.value) for each in meant], reason)
            struck = await strike(line, here, made, anyway=anyway)
        return tell_struck(here, struck, as_data)

    return anyio.run(work)


async def _measured(line: OperatorLine) -> list[Measured]:
    return measured((await line.status()).parties, await policy_in_force(line))


async def _one_measurement(desk: Desk, workload: str) -> str:
    """Return the measurement that is meant, asking nobody if it is named in full; a file holds one."""
    if len(tidy(workload)) == FULL:
        return digest_of(workload).hex()
    if not desk.keys or desk.url is None:
        raise UnknownHereError(f"{workload!r}: {ALONE.format('a measurement')}")
    async with desk.line() as line:
        meant = measured_as(await _measured(line), workload)
    if len(meant) > 1:
        values = ", ".join(f"{each.value} ({each})" for each in meant)
        raise UsageError(
            f"{workload!r} measures in {len(meant)} ways, and a file holds one: make one of each, {values}"
        )
    return meant[0].value


Naming = Callable[[Registry | None], list[tuple[str, str]]]


def _decide(desk: Desk, naming: Naming, reason: str, out: Path, anyway: bool, as_data: bool) -> int:
    async def work() -> int:
        if len({key.public for key in desk.keys}) < desk.council.threshold:
            return _write(desk, _signed(desk, await _one_named(desk, naming), reason), out, as_data)
        async with desk.line() as line:
            here = desk.of(line.council)
            made = _signed(here, naming((await line.status()).parties), reason)
            struck = await strike(line, here, made, anyway=anyway)
        return tell_struck(here, struck, as_data)

    return anyio.run(work)


async def _one_named(desk: Desk, naming: Naming) -> list[tuple[str, str]]:
    """Return what is named, asking nobody if it is named in full."""
    try:
        return naming(None)
    except UnknownHereError:
        if not desk.keys or desk.url is None:
            raise
        return naming((await _status(desk)).parties)


def _signed(desk: Desk, named: list[tuple[str, str]], reason: str) -> list[Act]:
    made = [revocation(desk, kind, value, reason) for kind, value in named]
    return [acts.sign(desk.council, desk.mesh, act, desk.keys) for act in made]


def _write(desk: Desk, made: list[Act], out: Path, as_data: bool) -> int:
    (act,) = made

    def keep() -> None:
        if act.signatures:
            desk.keep_known(act)  # before anybody else has the signature

    files.write_new(out, codec.encode(act), before=keep)
    names = acts.signers(desk.council, desk.mesh, act)
    if as_data:
        print_json({"done": False, "file": str(out)} | act_data(act, names, desk.council))
    else:
        say(act_lines(act, names, desk.council))
        say([f"nothing was sent: others sign {out} with `sealbus revoke sign`; then `sealbus revoke send`"])
    return REFUSED


async def _status(desk: Desk) -> MeshStatus:
    async with desk.line() as line:
        status = await line.status()
    _hint(status)
    return status


def _hint(status: MeshStatus) -> None:
    if not status.term:
        click.echo(f"sealbus: {NO_TERM}; until then nobody but operators is admitted", err=True)
