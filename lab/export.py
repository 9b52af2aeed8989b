"""Writing out the Evidence of everyone who is admitted in a lab that is up, and of its coordinator."""

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from attestation import nitro
from lab import logs
from lab.blueprint import read_blueprint
from lab.council import written_policy
from lab.evidence import EVIDENCE, Exported, Minted, export, kept, relied_on
from lab.plan import COORDINATOR, machine_names
from lab.setup import blueprint_path
from lab.state import State
from schemas.errors import UsageError


def export_all(state: State, out: Path) -> list[Exported]:
    """Write out what each admission rests on, judged once more by the policy that the operators signed."""
    policy = written_policy(state).policy
    times = logs.admission_times(state.logs)
    standing = logs.standing(state.logs, machine_names(read_blueprint(blueprint_path(state))))
    if not standing:
        raise UsageError(f"nobody is admitted in {state.root}: run: sealbus lab up --dir {state.root}")
    exported = []
    for agent in standing:
        minted = _found(state, agent.name, times[agent.instance])
        facts = {"name": agent.name, "workload": agent.workload, "instance": agent.instance}
        exported.append(export(out, agent.name, minted, root_of(minted), policy.reference_values(), facts))
    minted = _found(state, COORDINATOR, None)
    facts = {"name": COORDINATOR, "workload": COORDINATOR}
    exported.append(export(out, COORDINATOR, minted, root_of(minted), policy.coordinator_values(), facts))
    return exported


def root_of(minted: Minted) -> bytes:
    """Return the root under which Evidence was made; that the policy names it, the appraisal finds."""
    given = minted.endorsements
    if "ark.der" in given:
        return given["ark.der"]
    if "pck_crl_chain.pem" in given:
        return load_pem_x509_certificates(given["pck_crl_chain.pem"])[-1].public_bytes(Encoding.DER)
    return nitro.parse(minted.evidence.value).payload.cabundle[0]


def _found(state: State, name: str, admitted: int | None) -> Minted:
    minted = relied_on(kept(state.root / EVIDENCE / name), admitted)
    if minted is None:
        raise UsageError(f"the host of {name} kept no Evidence of its admission: start {name} again")
    return minted
