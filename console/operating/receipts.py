"""What is said when something is in force: the receipts, and whom a revocation struck."""

from console.evidence import print_json
from console.operating.desk import DONE, Desk
from console.operating.screen import receipt_data, receipt_lines
from console.operating.striking import Struck, struck_data
from console.policy.screen import say
from schemas.documents import LogReceipt
from schemas.messages import Event


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
