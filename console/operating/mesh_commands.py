"""`sealbus mesh` and `sealbus policy publish`: open a term, put a policy in force, see how a mesh stands."""

from pathlib import Path

import anyio
import click
from rich.console import Console

from console.documents import open_signed_policy
from console.evidence import print_json
from console.operating import acts
from console.operating.desk import DONE, Desk, desk_options, json_option, now
from console.operating.drafts import keep_policy, order_for, read_policy, roll_of, sent_order
from console.operating.memory import check_policy
from console.operating.options import policy_option
from console.operating.publishing import open_term, policy_event
from console.operating.receipts import tell_receipts
from console.operating.screen import agents_table, status_data, status_lines
from console.policy import files
from console.policy.screen import say
from console.policy.signing_commands import File, signed_path
from schemas.documents import Renewal
from schemas.errors import UsageError


@click.group()
def mesh() -> None:
    """See a mesh that runs, and open the term of its coordinator."""


@mesh.command()
@desk_options
@click.option("--agents", "listed", is_flag=True, help="List who is admitted too.")
@json_option
def status(desk: Desk, listed: bool, as_data: bool) -> int:
    """Say where the coordinator stands, after its Evidence was verified and compared with what was seen."""

    async def work() -> int:
        async with desk.line() as line:
            told, coordinator = await line.status(), line.coordinator
        if as_data:
            print_json(status_data(told, coordinator, parties=listed))
        else:
            say(status_lines(told, coordinator))
            if listed:
                Console().print(agents_table(told.parties))
        return DONE

    return anyio.run(work)


@mesh.command("open")
@desk_options
@policy_option
@click.option("--term", type=click.IntRange(1), help="Its number; the next if absent.")
@json_option
def open_mesh(desk: Desk, policy_file: Path | None, term: int | None, as_data: bool) -> int:
    """Order the term of the coordinator that answers and hand it revocations and policy, in one step."""
    verified = read_policy(desk, policy_file)
    if verified is not None:
        check_policy(desk.kept.memory(), verified.policy, verified.policy_hash)

    async def work() -> int:
        async with desk.line(verified.profile if verified else None) as line:
            here = desk.of(line.council)
            if line.term:
                # The same again: an earlier run may have ended between the order and the policy.
                event = sent_order(here, line)
                roll = roll_of(here, event)
            else:
                act = order_for(here, verified, line.coordinator, term)
                if lacking := here.lacking(act.roll):
                    raise UsageError(
                        "too few have signed here what the term would wait for: have it signed with `sealbus "
                        "revoke sign`, or remove what was given up; nothing was sent: "
                        + ", ".join(map(str, lacking))
                    )
                event = acts.event_of(
                    here.council, here.mesh, acts.sign(here.council, here.mesh, act, here.keys)
                )
                roll = act.roll
            with here.naming_lacking(roll):
                receipt = await open_term(
                    line,
                    event,
                    acts.roll_event(roll) if roll else None,
                    here.revocations(roll),
                    verified.signed if verified else None,
                )
        keep_policy(desk, verified)
        return tell_receipts(desk, [(event, receipt)], as_data)

    return anyio.run(work)


@mesh.command()
@desk_options
@json_option
def renew(desk: Desk, as_data: bool) -> int:
    """Say that the operators are there, in one step; with fewer keys: `sealbus renewal`."""

    async def work() -> int:
        async with desk.line() as line:
            made = acts.act_of(Renewal(desk.mesh.id, line.term, now()))
            council = line.council
            event = acts.event_of(council, desk.mesh, acts.sign(council, desk.mesh, made, desk.keys))
            receipt = await line.send(event)
        return tell_receipts(desk, [(event, receipt)], as_data)

    return anyio.run(work)


@click.command()
@click.argument("file", type=File)
@desk_options
@json_option
def publish(desk: Desk, file: Path, as_data: bool) -> int:
    """Put the signed policy FILE in force: done only when the coordinator's signed receipt is here."""
    signatures = signed_path(file)
    if file.exists() and not signatures.exists():
        raise UsageError(f"nobody has signed {file}: sealbus policy sign {file} --key KEY, each operator")
    data = files.read(signatures, files.MAX_SIGNED)
    verified = open_signed_policy(desk.council, desk.mesh, data, str(signatures))
    if file.suffix != ".signed" and file.exists() and files.read_policy(file) != verified.policy:
        raise UsageError(f"{file} was changed since it was signed: put it back, or sign it again")

    async def work() -> int:
        event = policy_event(verified.signed)
        async with desk.line(verified.profile) as line:
            receipt = await line.send(event)
        keep_policy(desk, verified)
        return tell_receipts(desk, [(event, receipt)], as_data)

    return anyio.run(work)
