"""Options that several of the operators' commands take."""

import click

from console.operating.reasons import REASON
from console.policy.signing_commands import File

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
