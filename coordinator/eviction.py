"""What a new policy means for those whom an older one admitted. Pure."""

from coordinator.ledger import Party
from schemas.messages import CLIENT, OPERATOR
from schemas.policy import Policy
from schemas.succession import Verdict, client_permitted, judge_enclave

__all__ = ["Verdict", "client_permitted", "judge"]


def judge(party: Party, old: Policy, new: Policy) -> Verdict:
    """Judge a party that `old` admitted by `new`."""
    if party.kind == OPERATOR:
        return Verdict.STAYS  # operators have documents of their own, no policy names them
    if party.kind == CLIENT:
        return Verdict.STAYS if client_permitted(new, party.signing_key, party.roles) else Verdict.OUT
    if party.result is None:
        return Verdict.OUT
    return judge_enclave(party.result, party.roles, old, new)
