"""`sealbus order` and `sealbus revoke`: what operators sign apart, in a file that grows to the threshold.

Exit codes: 0 done, 1 refused or signatures missing, 2 unreadable, 3 no coordinator or no receipt.
"""

from functools import partial
from pathlib import Path

import anyio
import click

from console.documents import VerifiedPolicy
from console.evidence import print_json
from console.operating import acts, doubts
from console.operating.acts import Act
from console.operating.desk import DONE, REFUSED, Desk, desk_options, json_option, now
from console.operating.drafts import (
    check_order,
    keep_policy,
    known,
    order_for,
    read_policy,
    refuse_untakable,
    revocation,
    served_term,
    waiting_coordinator,
)
from console.operating.hours import Hours
from console.operating.memory import check_policy
from console.operating.naming import digest_of
from console.operating.options import (
    anyway_option,
    policy_option,
    reason_option,
    unseen_option,
    untimely_option,
)
from console.operating.publishing import open_term
from console.operating.reasons import LOUD_REASON
from console.operating.receipts import tell_receipts, tell_struck
from console.operating.roll import has_to_wait
from console.operating.screen import act_data, act_lines
from console.operating.striking import strike
from console.policy import files
from console.policy.screen import say
from console.policy.signatures import date
from console.policy.signing_commands import File
from schemas import codec
from schemas.decisions import check_addition
from schemas.documents import BreakGlass, Order, Renewal, RevocationOrder
from schemas.errors import UsageError
from schemas.limits import HOUR
from schemas.messages import CHIP, INSTANCE, LIFT, MEASUREMENT, QUARANTINE, WORKLOAD
from schemas.rules import Rule
from schemas.words import sentence


@click.group()
def order() -> None:
    """Order the term of a coordinator: made, signed apart, and sent. Each coordinator needs one."""


@click.group()
def renewal() -> None:
    """Renew the operators' lease, where a policy has one: made, signed apart, and sent."""


@click.group()
def glass() -> None:
    """Break glass: give a right for some hours outside the policy, for a reason, loudly in every log."""


@click.group()
def revoke() -> None:
    """Revoke instances, chips, workloads or measurements: made, signed apart, and sent."""


@order.command("new")
@desk_options
@policy_option
@click.option("--instance", help="The coordinator's instance id; asked of the one that answers if absent.")
@click.option(
    "--term", type=click.IntRange(1), help="Its number; the next that this console has not seen if absent."
)
@click.option("--out", type=File, default=Path("order.act"), show_default=True)
@json_option
def new_order(
    desk: Desk,
    policy_file: Path | None,
    instance: str | None,
    term: int | None,
    out: Path,
    as_data: bool,
) -> int:
    """Write an order for the coordinator that answers, signed with the keys that are given."""
    verified = read_policy(desk, policy_file)
    if verified is not None:
        check_policy(desk.kept.memory(), verified.policy, verified.policy_hash)

    async def work() -> int:
        who = await waiting_coordinator(desk, verified) if instance is None else digest_of(instance)
        made = order_for(desk, verified, who, term)
        desk.tell_lacking(made.roll)
        return _write(desk, acts.sign(desk.council, desk.mesh, made, desk.keys), out, as_data)

    return anyio.run(work)


@revoke.command("new")
@desk_options
@click.argument("kind", type=click.Choice([INSTANCE, CHIP, WORKLOAD, MEASUREMENT, QUARANTINE, LIFT]))
@click.argument("value")
@reason_option
@click.option("--out", type=File, default=Path("revocation.act"), show_default=True)
@json_option
def new_revocation(desk: Desk, kind: str, value: str, reason: str, out: Path, as_data: bool) -> int:
    """Write a revocation of VALUE, signed with the keys that are given."""
    made = revocation(desk, kind, value, reason)
    return _write(desk, acts.sign(desk.council, desk.mesh, made, desk.keys), out, as_data)


@renewal.command("new")
@desk_options
@click.option("--term", type=click.IntRange(1), help="The coordinator's; that which was seen last if absent.")
@click.option("--out", type=File, default=Path("renewal.act"), show_default=True)
@json_option
def new_renewal(desk: Desk, term: int | None, out: Path, as_data: bool) -> int:
    """Write a renewal as of now, signed with the keys that are given."""
    made = acts.act_of(Renewal(desk.mesh.id, served_term(desk, term), now()))
    return _write(desk, acts.sign(desk.council, desk.mesh, made, desk.keys), out, as_data)


@glass.command("new")
@desk_options
@click.argument("role")
@click.argument("may", type=click.Choice(["submit", "call"]))
@click.argument("what")
@click.option("--reason", required=True, type=LOUD_REASON, help="Stands in every log.")
@click.option("--hours", type=Hours(), default=1.0, show_default=True)
@click.option("--term", type=click.IntRange(1), help="The coordinator's; that which was seen last if absent.")
@click.option(
    "--policy",
    "policy_file",
    type=File,
    help="The signed policy to check it by; that seen in force if absent, or one beside the anchor.",
)
@click.option("--anyway", is_flag=True, help="Write it also if that policy has no such right to give.")
@click.option("--out", type=File, default=Path("glass.act"), show_default=True)
@json_option
def new_glass(
    desk: Desk,
    role: str,
    may: str,
    what: str,
    reason: str,
    hours: float,
    term: int | None,
    policy_file: Path | None,
    anyway: bool,
    out: Path,
    as_data: bool,
) -> int:
    """Write that ROLE may submit, or call, WHAT from now on for some hours: a minute to 24 hours."""
    if not anyway:
        _check_glass(_policy_at_hand(desk, policy_file), Rule(role=role, may=may, what=what))
    number, begins = served_term(desk, term), now()
    until = begins + int(hours * HOUR)
    made = acts.act_of(BreakGlass(desk.mesh.id, number, role, may, what, reason, begins, until))
    refuse_untakable(made, "names have lower-case letters, digits, '.', '_' and '-', 64 at most")
    return _write(desk, acts.sign(desk.council, desk.mesh, made, desk.keys), out, as_data)


def _policy_at_hand(desk: Desk, file: Path | None) -> VerifiedPolicy | None:
    beside = desk.anchor_file.with_name("policy.toml.signed")
    if file is None and desk.kept.policy() is None and beside.is_file():
        file = beside
    return read_policy(desk, file)


def _check_glass(policy: VerifiedPolicy | None, rule: Rule) -> None:
    if policy is None:
        click.echo(
            "sealbus: no policy is known here, so nobody but the coordinator checks what this names: "
            "name one with --policy",
            err=True,
        )
        return
    try:
        check_addition(policy.policy, rule)
    except UsageError as error:
        raise UsageError(
            sentence(f"policy version {policy.policy.version} has no such right to give: {error}")
            + " Nothing was written: --policy names a later version, --anyway writes it nevertheless"
        ) from error


def _signed(desk: Desk, file: Path, act: Act, as_data: bool) -> int:
    if not desk.keys:
        raise UsageError("name your key with --key")
    # Signatures of before operators followed count no more, and are no reason not to sign now.
    current = acts.without_former(desk.council, desk.mesh, act)
    signed = acts.sign(desk.council, desk.mesh, current, desk.keys)
    files.replace(file, codec.encode(signed), before=partial(_keep, desk, signed))
    return _tell(desk, signed, as_data)


@order.command("sign")
@click.argument("file", type=File)
@desk_options
@policy_option
@unseen_option
@json_option
def sign_order(desk: Desk, file: Path, policy_file: Path | None, anyway: bool, as_data: bool) -> int:
    """Add your signature to FILE, after reading what it says: it has to follow what was seen here."""
    act = _read(file, acts.ORDER)
    named = read_policy(desk, policy_file) if policy_file else None
    said = codec.decode(act.text, Order)
    doubts.refuse(doubts.of_order(said, act.roll, known(desk, named), now()), anyway=anyway)
    return _signed(desk, file, act, as_data)


def _apart(group: click.Group, kind: str) -> None:
    @group.command()
    @click.argument("file", type=File)
    @desk_options
    @untimely_option
    @json_option
    def sign(desk: Desk, file: Path, anyway: bool, as_data: bool) -> int:
        """Add your signature to FILE, after reading what it says: it has to be of now, or known here."""
        act = _read(file, kind)
        again = kind == acts.REVOCATION and act.text in {each.text for each in desk.kept.known()}
        doubts.refuse(doubts.of_time(acts.document(act), now(), again=again), anyway=anyway)
        return _signed(desk, file, act, as_data)


_apart(revoke, acts.REVOCATION)
_apart(renewal, acts.RENEWAL)
_apart(glass, acts.GLASS)


def _common(group: click.Group, kind: str) -> None:
    @group.command()
    @click.argument("file", type=File)
    @click.argument("others", metavar="OTHER...", nargs=-1, required=True, type=File)
    @desk_options
    @json_option
    def join(desk: Desk, file: Path, others: tuple[Path, ...], as_data: bool) -> int:
        """Add to FILE the signatures that others made elsewhere."""
        act = _read(file, kind)
        for other in others:
            act = acts.join(desk.council, desk.mesh, act, _read(other, kind))
        files.replace(file, codec.encode(act))
        return _tell(desk, act, as_data)

    @group.command()
    @click.argument("file", type=File)
    @desk_options
    @json_option
    def show(desk: Desk, file: Path, as_data: bool) -> int:
        """Say what FILE says and who has signed it. Exit 0 if enough have, 1 if not."""
        act = _read(file, kind)
        _tell(desk, act, as_data)
        return DONE if len(acts.signers(desk.council, desk.mesh, act)) >= desk.council.threshold else REFUSED


_common(order, acts.ORDER)
_common(revoke, acts.REVOCATION)
_common(renewal, acts.RENEWAL)
_common(glass, acts.GLASS)


@order.command("send")
@click.argument("file", type=File)
@desk_options
@policy_option
@json_option
def send_order(desk: Desk, file: Path, policy_file: Path | None, as_data: bool) -> int:
    """Send a signed order, and after it its roll, all revocations that are known here and the policy."""
    act = _read(file, acts.ORDER)
    event = acts.event_of(desk.council, desk.mesh, act)
    if early := [each for digest, each in desk.waiting().items() if digest in act.roll]:
        raise UsageError(f"{doubts.too_early(early)}; nothing was sent")
    verified = read_policy(desk, policy_file)
    check_order(desk, act, verified)

    async def work() -> int:
        async with desk.line(verified.profile if verified else None) as line:
            roll = acts.roll_event(act.roll) if act.roll else None
            told = desk.revocations(act.roll)
            with desk.naming_lacking(act.roll):
                receipt = await open_term(line, event, roll, told, verified.signed if verified else None)
        keep_policy(desk, verified)
        return tell_receipts(desk, [(event, receipt)], as_data)

    return anyio.run(work)


@revoke.command("send")
@click.argument("file", type=File)
@desk_options
@anyway_option
@json_option
def send_revocation(desk: Desk, file: Path, anyway: bool, as_data: bool) -> int:
    """Send a revocation that enough operators signed, and say how many instances it struck."""
    act = _read(file, acts.REVOCATION)
    acts.event_of(desk.council, desk.mesh, act)  # not before enough have signed
    said = codec.decode(act.text, RevocationOrder)
    if has_to_wait(said, now()):  # what is kept as sent would count here until a coordinator refuses it
        raise UsageError(
            f"{file} is of {date(said.time)}, and no coordinator takes it before; nothing was sent"
        )

    async def work() -> int:
        async with desk.line() as line:
            struck = await strike(line, desk, [act], anyway=anyway)
        return tell_struck(desk, struck, as_data)

    return anyio.run(work)


def _sent(group: click.Group, kind: str) -> None:
    @group.command()
    @click.argument("file", type=File)
    @desk_options
    @json_option
    def send(desk: Desk, file: Path, as_data: bool) -> int:
        """Send what enough operators signed; it is done when the coordinator's receipt is here."""
        event = acts.event_of(desk.council, desk.mesh, _read(file, kind))

        async def work() -> int:
            async with desk.line() as line:
                receipt = await line.send(event)
            return tell_receipts(desk, [(event, receipt)], as_data)

        return anyio.run(work)


_sent(renewal, acts.RENEWAL)
_sent(glass, acts.GLASS)


def _read(path: Path, kind: str) -> Act:
    act = acts.decode_act(files.read(path, acts.MAX_ACT), str(path))
    if act.kind != kind:
        raise UsageError(f"{path} holds a document of kind {act.kind}, not of kind {kind}")
    return act


def _write(desk: Desk, act: Act, out: Path, as_data: bool) -> int:
    files.write_new(out, codec.encode(act), before=partial(_keep, desk, act))
    return _tell(desk, act, as_data)


def _keep(desk: Desk, act: Act) -> None:
    if act.kind == acts.REVOCATION and act.signatures:
        desk.keep_known(act)  # before anybody else has the signature


def _tell(desk: Desk, act: Act, as_data: bool) -> int:
    names = acts.signers(desk.council, desk.mesh, act)
    holding = desk.holding() if act.kind == acts.ORDER else {}
    if as_data:
        print_json(act_data(act, names, desk.council, holding))
    else:
        say(act_lines(act, names, desk.council, holding))
    return DONE
