"""`sealbus order` and `sealbus revoke`: what operators sign apart, in a file that grows to the threshold.

Exit codes: 0 done, 1 refused or signatures missing, 2 unreadable, 3 no coordinator or no receipt.
"""

from functools import partial
from pathlib import Path

import anyio
import click

from console.documents import SignedPolicy, VerifiedPolicy, open_signed_policy
from console.evidence import print_json
from console.operating import acts, doubts
from console.operating.acts import Act
from console.operating.desk import DONE, REFUSED, Desk, desk_options, json_option, now
from console.operating.doubts import Known
from console.operating.kept import text_of
from console.operating.memory import RememberedError, check_policy
from console.operating.naming import digest_of, of_kind
from console.operating.publishing import open_term
from console.operating.reasons import LOUD_REASON, REASON
from console.operating.roll import has_to_wait
from console.operating.screen import act_data, act_lines, receipt_data, receipt_lines
from console.operating.striking import Struck, strike, struck_data
from console.policy import files
from console.policy.screen import say
from console.policy.signatures import date
from console.policy.signing_commands import File, signed_path
from schemas import codec
from schemas.decisions import check_addition
from schemas.documents import BreakGlass, LogReceipt, Order, Renewal, RevocationOrder
from schemas.errors import MalformedError, Reason, UsageError
from schemas.limits import ROLL_MOST
from schemas.messages import CHIP, INSTANCE, LIFT, MEASUREMENT, QUARANTINE, WORKLOAD, Event, Roll
from schemas.rules import Rule
from schemas.words import sentence
from sealing import cose
from sealing.errors import SealingError
from sealing.roll import EMPTY, open_roll, roll_hash

ORDERED = "ordered on the command line"

policy_option = click.option("--policy", "policy_file", type=File, help="The signed policy of the term.")
reason_option = click.option(
    "--reason", default=ORDERED, type=REASON, help="Goes into the coordinator's log."
)
unseen_option = click.option(
    "--anyway", is_flag=True, help="Sign also what this console has not seen: compare it with the others."
)
untimely_option = click.option("--anyway", is_flag=True, help="Sign it also if its time is not now.")
anyway_option = click.option("--anyway", is_flag=True, help="Send it also if it names nobody.")


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
    made = acts.act_of(Renewal(desk.mesh.id, term or desk.kept.memory().term, now()))
    return _write(desk, acts.sign(desk.council, desk.mesh, made, desk.keys), out, as_data)


@glass.command("new")
@desk_options
@click.argument("role")
@click.argument("may", type=click.Choice(["submit", "call"]))
@click.argument("what")
@click.option("--reason", required=True, type=LOUD_REASON, help="Stands in every log.")
@click.option("--hours", type=click.FloatRange(0, 24, min_open=True), default=1.0, show_default=True)
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
    """Write that ROLE may submit, or call, WHAT from now on for some hours: 24 at most."""
    if not anyway:
        _check_glass(_policy_at_hand(desk, policy_file), Rule(role=role, may=may, what=what))
    begins = now()
    until = begins + int(hours * 3_600_000)
    number = term or desk.kept.memory().term
    made = acts.act_of(BreakGlass(desk.mesh.id, number, role, may, what, reason, begins, until))
    _takes(made, "names have lower-case letters, digits, '.', '_' and '-', 64 at most")
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
    _check_order(desk, act, verified)

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


def revocation(desk: Desk, kind: str, value: str, reason: str) -> Act:
    """Return an unsigned revocation, or raise `UsageError`."""
    made = acts.act_of(RevocationOrder(desk.mesh.id, kind, of_kind(kind, value), reason, now()))
    _takes(made, f"a {kind} to revoke has 1 to 256 characters")
    return made


def _takes(made: Act, wanted: str) -> None:
    try:
        acts.document(made)
    except MalformedError as error:
        raise UsageError(f"this can't be signed: {wanted}") from error


def order_for(desk: Desk, policy: VerifiedPolicy | None, instance: bytes, term: int | None) -> Act:
    """Return an order of the next term for an instance, that asks for every revocation that is known here."""
    number = term or desk.kept.memory().term + 1
    roll = desk.holding()
    if len(roll) > ROLL_MOST:
        raise UsageError(
            f"{len(roll)} revocations are known here, and an order asks for {ROLL_MOST} at most: remove "
            f"those of instances that are long gone from {desk.kept.root}, as every operator"
        )
    held = policy.policy_hash if policy else None
    return acts.act_of(Order(desk.mesh.id, number, instance, held, None, roll_hash(roll), now()), roll)


async def waiting_coordinator(desk: Desk, policy: VerifiedPolicy | None) -> bytes:
    """Return the instance of the coordinator that answers and has no term, or raise `UsageError`."""
    async with desk.line(policy.profile if policy else None) as line:
        if line.term:
            raise UsageError(f"the coordinator that answers serves term {line.term}: it needs no order")
        return line.coordinator


def sent_order(desk: Desk, instance: bytes, term: int) -> Event:
    """Return the order of a coordinator's term that was sent from here, or raise `UsageError`."""
    for event in desk.kept.orders():
        order = codec.decode(cose.unverified_payload(event.documents[0]), Order)
        if (order.instance, order.term) == (instance, term):
            return event
    raise UsageError(
        f"the coordinator that answers serves term {term}, which was not ordered from here: it needs no "
        "order, and `sealbus policy publish FILE` puts a policy in force"
    )


def roll_of(desk: Desk, order: Event) -> Roll:
    """Return the roll of an order that was sent from here, or raise `UsageError`."""
    named = codec.decode(text_of(order), Order).revocations
    event = desk.kept.roll(named)
    if event is None and named != EMPTY:
        raise UsageError(
            f"the list of revocations that the order names is gone from {desk.kept.root}: send the order's "
            "file again, or start a new coordinator"
        )
    return open_roll(event.documents[0], named) if event else ()


def _check_order(desk: Desk, act: Act, policy: VerifiedPolicy | None) -> None:
    memory, order = desk.kept.memory(), codec.decode(act.text, Order)
    if policy is not None:
        check_policy(memory, policy.policy, policy.policy_hash)
    named = {None, memory.policy_hash, policy.policy_hash if policy else None}
    if memory.policy_version and order.policy_hash not in named:
        raise RememberedError(
            Reason.STATE_ROLLED_BACK,
            f"the order names the policy {(order.policy_hash or b'').hex()}, and version "
            f"{memory.policy_version} was seen in force here: give a later one that it names with "
            "--policy; nothing was sent",
        )


def read_policy(desk: Desk, file: Path | None) -> VerifiedPolicy | None:
    """Return the policy that a file holds or, without one, that was last seen in force."""
    data = desk.kept.policy() if file is None else files.read(signed_path(file), files.MAX_SIGNED)
    try:
        source = str(signed_path(file)) if file else "the policy that was seen in force"
        return None if data is None else open_signed_policy(desk.council, desk.mesh, data, source)
    except SealingError as error:
        if file is not None:
            raise
        raise UsageError(
            f"the policy that was seen in force is not signed by the operators of now ({error}): name it as "
            "they signed it with --policy"
        ) from error


def known(desk: Desk, policy: VerifiedPolicy | None) -> Known:
    """Return what this console knows of what is in force; `policy`: what was named besides."""
    return Known(
        desk.kept.memory(),
        {text_of(event) for event in desk.kept.orders()},
        desk.holding(),
        policy.policy_hash if policy else None,
        desk.waiting(),
    )


def keep_policy(desk: Desk, policy: VerifiedPolicy | None) -> None:
    """Remember a policy that a coordinator acknowledged."""
    if policy is not None:
        signed: SignedPolicy = policy.signed
        desk.kept.keep_policy(codec.encode(signed))


def tell_receipts(desk: Desk, held: list[tuple[Event, LogReceipt]], as_data: bool) -> int:
    """Say what is in force, by receipts that are here."""
    if as_data:
        print_json({"done": True, "receipts": [receipt_data(desk, event, each) for event, each in held]})
    else:
        for event, each in held:
            say(receipt_lines(desk, event, each))
    return DONE


def tell_struck(desk: Desk, struck: list[Struck], as_data: bool) -> int:
    """Say which revocations are in force, and how many instances each put out."""
    if as_data:
        told = [receipt_data(desk, each.event, each.receipt) | struck_data(each) for each in struck]
        print_json({"done": True, "receipts": told})
    else:
        for each in struck:
            say([*receipt_lines(desk, each.event, each.receipt), str(each)])
    return DONE


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
