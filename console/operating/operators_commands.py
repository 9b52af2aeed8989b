"""`sealbus operators`: who they are, and how others follow: made, signed apart, and published.

Exit codes: 0 done, 1 refused or signatures missing, 2 unreadable, 3 no coordinator or no receipt.
"""

from functools import partial
from pathlib import Path

import anyio
import click

from console.council_files import CHAIN, encode_chain
from console.documents import VerifiedPolicy
from console.evidence import print_json
from console.operating import acts, doubts, succession
from console.operating.acts import ORDER, REVOCATION, Act
from console.operating.desk import DONE, REFUSED, Desk, desk_options, json_option, now
from console.operating.drafts import keep_policy, known, read_policy
from console.operating.options import policy_option, unseen_option
from console.operating.publishing import bring
from console.operating.reasons import LOUD_REASON
from console.operating.receipts import tell_receipts
from console.operating.succession import Change
from console.operating.succession_screen import change_data, change_lines, council_data, council_lines
from console.operator import OperatorLine
from console.policy import files
from console.policy.operators import read_public
from console.policy.screen import say
from console.policy.signatures import decode_signed
from console.policy.signing_commands import File
from schemas import codec
from schemas.documents import LogReceipt, OperatorKey, Order
from schemas.errors import Reason, UsageError
from schemas.messages import Event, SignedByOperators
from schemas.policy import Policy, from_compiled
from sealing import cose
from sealing.council import Council
from sealing.errors import SealingError


@click.group()
def operators() -> None:
    """See who decides in a mesh, and let others follow: a lost key is replaced by the others."""


@operators.command()
@click.argument("file", required=False, type=File)
@desk_options
@click.option("--out", type=File, help="Write every change so far, as others need it beside their anchor.")
@json_option
def show(desk: Desk, file: Path | None, out: Path | None, as_data: bool) -> int:
    """Say who the operators are, or what the change FILE says and who has signed it: exit 1 if too few."""
    if file is not None:
        return DONE if _tell(desk, _usable(desk, file), as_data) else REFUSED
    if out is not None:
        files.replace(out, encode_chain(desk.council))
    if as_data:
        print_json(council_data(desk.council))
    else:
        say(council_lines(desk.council))
    return DONE


@operators.command()
@desk_options
@click.option("--remove", "gone", multiple=True, metavar="NAME", help="Who is an operator no more.")
@click.option("--add", "come", multiple=True, type=File, metavar="NAME.pub", help="Who becomes one.")
@click.option(
    "--threshold", type=int, help="How many sign together; the least that is more than half if absent."
)
@click.option("--reason", required=True, type=LOUD_REASON, help="Stands in the document and in the log.")
@policy_option
@click.option("--out", type=File, default=Path("operators.change"), show_default=True)
@json_option
def new(
    desk: Desk,
    gone: tuple[str, ...],
    come: tuple[Path, ...],
    threshold: int | None,
    reason: str,
    policy_file: Path | None,
    out: Path,
    as_data: bool,
) -> int:
    """Write a change of operators, signed with the keys that are given.

    With a broker and a key it has the order in force from the coordinator; else what was sent from here.
    """
    publics = [read_public(files.read_small_text(path), str(path)) for path in come]
    people = succession.replaced(desk.council, gone, [OperatorKey(*each) for each in publics])
    policy = read_policy(desk, policy_file)

    async def work() -> int:
        order = await _order_in_force(desk, policy)
        again = [] if order is None else [Act(ORDER, cose.unverified_payload(order[0]), ())]
        # The end of a quarantine gives something back: it is signed by itself, or not at all.
        again += [acts.act_of(each) for each in desk.holding().values()]
        made = succession.make(
            desk.council,
            people,
            threshold,
            reason=reason,
            time=now(),
            policy=policy.policy if policy else None,
            again=again,
        )
        change = _signed(desk, made)
        files.write_new(out, codec.encode(change))
        _tell(desk, change, as_data)
        return DONE

    return anyio.run(work)


def _sides(council: Council, file: Path | None) -> tuple[Council, ...]:
    """Return whose keys count for the change in a file: those of before, and of after."""
    if file is None:
        return (council,)
    change = _read(file)
    return succession.before(council, change), succession.after(council, change)


_either_side = partial(desk_options, whose=_sides)


@operators.command()
@click.argument("file", type=File)
@_either_side
@policy_option
@unseen_option
@json_option
def sign(desk: Desk, file: Path, policy_file: Path | None, anyway: bool, as_data: bool) -> int:
    """Add your signature to FILE, after reading what it says. Who comes signs with the new key.

    The order, the policy and the revocations that are signed again have to be those that were seen here.
    """
    if not desk.keys:
        raise UsageError("name your key with --key")
    change = _usable(desk, file)
    named = read_policy(desk, policy_file) if policy_file else None
    doubts.refuse(doubts.of_change(change, known(desk, named)), anyway=anyway)
    change = _signed(desk, change)
    files.replace(file, codec.encode(change))
    _tell(desk, change, as_data)
    return DONE


@operators.command()
@click.argument("file", type=File)
@click.argument("others", metavar="OTHER...", nargs=-1, required=True, type=File)
@desk_options
@json_option
def join(desk: Desk, file: Path, others: tuple[Path, ...], as_data: bool) -> int:
    """Add to FILE the signatures that others made elsewhere."""
    change = _usable(desk, file)
    for other in others:
        change = succession.join(desk.council, change, _usable(desk, other))
    files.replace(file, codec.encode(change))
    _tell(desk, change, as_data)
    return DONE


@operators.command()
@click.argument("file", type=File)
@_either_side
@json_option
def publish(desk: Desk, file: Path, as_data: bool) -> int:
    """Put the change FILE in force: done only when the coordinator's signed receipt is here.

    It is sent by an operator of before; by one of after where the coordinator has no term yet.
    """
    change = _usable(desk, file)
    # All of it is signed by enough before any of it is sent.
    council = succession.follow(desk.council, change)
    policy = succession.policy_of(council, change)
    revocations = succession.revocations_of(council, change)

    async def work() -> int:
        async with _sending(desk, council).line(policy.profile if policy else None) as line:
            event = succession.event_of(council, change, running=bool(line.term))
            _check_order(line, change)
            receipts = [(event, await line.send(event))]
            # The change is in force, whatever becomes of the rest.
            keep_policy(desk, policy)
            _write_chain(desk, council)
            receipts += await _revoke_again(desk, line, council, revocations)
        if not as_data:
            say([f"every change so far: {desk.anchor_file.with_name(CHAIN)}, for the others' consoles too"])
        return tell_receipts(desk, receipts, as_data)

    return anyio.run(work)


async def _order_in_force(desk: Desk, policy: VerifiedPolicy | None) -> SignedByOperators | None:
    if desk.url is not None and desk.keys:
        async with desk.line(policy.profile if policy else None) as line:
            _check_policy(line, policy)
            return line.term_proof.order if line.term else None
    term = desk.kept.memory().term
    if not term:
        return None
    for event in reversed(desk.kept.orders()):
        if codec.decode(cose.unverified_payload(event.documents[0]), Order).term == term:
            return event.documents
    raise UsageError(
        f"the order of term {term}, which the new operators sign again, was not sent from here: name the "
        "broker with --nats, and a key, so that the coordinator is asked for it"
    )


def _check_policy(line: OperatorLine, policy: VerifiedPolicy | None) -> None:
    held = policy.policy_hash if policy else None
    if line.policy_version and line.policy_hash != held:
        raise UsageError(
            f"policy version {line.policy_version} is in force, which the new operators sign again: name it "
            "with --policy"
        )


def _check_order(line: OperatorLine, change: Change) -> None:
    if not line.term:
        return
    if cose.unverified_payload(line.term_proof.order[0]) != succession.order_text(change):
        raise SealingError(
            Reason.CONSTRAINT_VIOLATED,
            "another order is in force at the coordinator than the one that was signed again: make the "
            "change anew with `sealbus operators new`",
        )


async def _revoke_again(
    desk: Desk, line: OperatorLine, council: Council, revocations: list[Event]
) -> list[tuple[Event, LogReceipt]]:
    """Bring the revocations as the new operators signed them, so that later coordinators can be told."""
    for event in revocations:
        desk.kept.pend(event)
    if not line.term or desk.keys[0].public not in council.keys:
        return []  # told with the order, or by one of those who are the operators now
    return await bring(line, revocations)


def _sending(desk: Desk, council: Council) -> Desk:
    """Return the desk of who sends: one who only comes shows the change to a coordinator without a term."""
    if desk.keys and desk.keys[0].public in desk.council.keys:
        return desk
    return desk.of(council)


def _write_chain(desk: Desk, council: Council) -> None:
    files.replace(desk.anchor_file.with_name(CHAIN), encode_chain(council))


def _signed(desk: Desk, change: Change) -> Change:
    change = succession.sign(desk.council, change, desk.keys)
    if desk.keys:  # whoever signs a revocation knows of it
        desk.keep_known(*(act for act in change.acts if act.kind == REVOCATION))
    return change


def _read(path: Path) -> Change:
    return succession.decode(files.read(path, succession.MAX_CHANGE), str(path), now())


def _usable(desk: Desk, path: Path) -> Change:
    return succession.usable(desk.council, _read(path))


def _tell(desk: Desk, change: Change, as_data: bool) -> bool:
    progress = succession.progress(desk.council, change)
    held = _policy_seen(desk)
    if as_data:
        print_json(change_data(change, progress, held))
    else:
        say(change_lines(change, progress, held))
    return progress.whole


def _policy_seen(desk: Desk) -> Policy | None:
    data = desk.kept.policy()
    if data is None:
        return None
    signed = decode_signed(data, "the policy that was seen in force")
    return from_compiled(cose.unverified_payload(signed.policy[0]))  # it was verified when it was kept
