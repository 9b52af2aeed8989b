"""What stands against signing what others wrote, as far as this console can tell from what it has seen.

Pure. Whoever signs is answerable for each document in a file; one that this console does not know is named,
and is signed only by somebody who says so.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from console.operating import acts
from console.operating.acts import ORDER, Act, Document
from console.operating.memory import NO_HASH, Memory
from console.operating.roll import Holding, in_words, is_early
from console.operating.succession import Change, order_text
from console.policy.signatures import date
from schemas import codec
from schemas.documents import Order, RevocationOrder
from schemas.errors import UsageError
from schemas.limits import DAY
from schemas.messages import Millis
from schemas.words import count
from sealing.context import sha256

OLD = 7 * DAY  # signing apart takes days at most
NAMED = 8  # revocations that a doubt names
JUMP = 2**20  # terms are counted one by one: a number far ahead leaves few after it


@dataclass(frozen=True, slots=True)
class Known:
    """What one console knows of what is in force."""

    memory: Memory
    orders: Collection[bytes]  # texts that were sent from here
    holding: Holding  # revocations that were sent from here, or signed
    policy_hash: bytes | None  # of a policy that was named for this
    waiting: Holding  # revocations that were sent or signed, and that no coordinator takes yet

    def knows_policy(self, digest: bytes) -> bool:
        """Tell whether this is the policy that was seen in force, or that was named."""
        seen = bool(self.memory.policy_version) and digest == self.memory.policy_hash
        return seen or digest == self.policy_hash


def refuse(doubts: Iterable[str], *, anyway: bool) -> None:
    """Raise `UsageError` that names all doubts, unless it is to be signed nevertheless."""
    if (told := list(doubts)) and not anyway:
        raise UsageError(
            f"not signed: {'; '.join(told)}. `show` prints all of it; --anyway signs what you have compared"
        )


def of_order(order: Order, roll: Collection[bytes], known: Known, now: Millis) -> list[str]:
    """Say what stands against an order of a term that is to be opened."""
    memory, found = known.memory, []
    if order.term > 1 and not memory.term:
        found.append(f"it orders term {order.term}, and this console has seen none")
    elif order.term <= memory.term and sha256(codec.encode(order)) != memory.order_hash:
        found.append(f"it orders term {order.term}, and term {memory.term} was seen here")
    elif order.term > memory.term + JUMP:
        found.append(
            f"it orders term {order.term}, far beyond term {memory.term}, which was seen here: few are left "
            "after it"
        )
    if order.policy_hash is None and memory.policy_version:
        found.append(
            f"it names no policy, so that any is its first, and version {memory.policy_version} was seen in "
            "force here"
        )
    elif memory.policy_version and not known.knows_policy(order.policy_hash or NO_HASH):
        found.append(
            f"its policy {(order.policy_hash or NO_HASH).hex()} is not version {memory.policy_version}, "
            "which was seen in force here: name a later one with --policy"
        )
    if order.log_head is not None and order.log_head != memory.log_root:
        found.append(f"the log's head {order.log_head.hex()} is not the one that was seen here")
    if lost := [each for digest, each in known.holding.items() if digest not in roll]:
        found.append(f"it leaves out {_names(lost)}, which the new term would not know of")
    if early := [each for digest, each in known.waiting.items() if digest in roll]:
        found.append(too_early(early))
    return found + of_time(order, now)


def of_time(document: Document, now: Millis, *, again: bool = False) -> list[str]:
    """Say that a document is not of now; `again`: it is known here, and may be as old as it likes."""
    if is_early(document, now) or (document.time < now - OLD and not again):
        return [f"it is of {date(document.time)}, which is not now"]
    return []


def too_early(early: Sequence[RevocationOrder]) -> str:
    """Say of an order that its term would wait for what no coordinator takes before its time."""
    told = ", ".join(f"the {in_words(each)} of {date(each.time)}" for each in early[:NAMED])
    return f"it asks for what no coordinator takes before its time has come: {told}"


def of_change(change: Change, known: Known) -> list[str]:
    """Say what this console does not know of all that is signed again with a change, and what is missing."""
    memory = known.memory
    found = [each for act in change.acts if (each := _of_act(act, known))]
    if change.policy is None:
        if memory.policy_version:
            found.append(
                f"it signs no policy again, and version {memory.policy_version} was seen in force here"
            )
    elif not known.knows_policy(digest := sha256(change.policy)):
        found.append(f"the policy {digest.hex()} was not seen in force here: name it with --policy")
    if memory.term and order_text(change) is None:
        found.append(f"it signs no order again, and that of term {memory.term} was seen here")
    return found + _left_out(change, known)


def _left_out(change: Change, known: Known) -> list[str]:
    """Name what counts no more after the change, for nobody signs it again."""
    there = {sha256(act.text) for act in change.acts}
    lost = [each for digest, each in known.holding.items() if digest not in there]
    return [f"it does not sign again {_names(lost)}"] if lost else []


def _names(known: Sequence[RevocationOrder]) -> str:
    told = ", ".join(f"the {in_words(each)}" for each in known[:NAMED])
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return f"{count(len(known), 'revocation')} of what was sent or signed here: {told}{more}"


def _of_act(act: Act, known: Known) -> str | None:
    said = acts.document(act)
    if act.kind == ORDER and isinstance(said, Order):
        seen = known.memory.order_hash not in (NO_HASH, sha256(act.text))
        ours = known.memory.order_hash == sha256(act.text)
        sent = act.text in known.orders and said.term == known.memory.term and not seen
        return None if ours or sent else f"the order of term {said.term} is not the one that was seen here"
    if isinstance(said, RevocationOrder) and sha256(act.text) not in known.holding:
        return f"the {in_words(said)} was neither sent nor signed here"
    return None
