"""Which machines a blueprint makes: names, platforms, chips and images. One list, whoever runs them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab.blueprint import Blueprint, read_blueprint
from lab.evidence import EVIDENCE
from lab.image import Builder, Spec
from lab.launch import coordinator_spec
from lab.machine import Machine
from lab.setup import agent_specs, blueprint_path, simulator
from lab.state import ANCHOR, State
from schemas.errors import UsageError
from schemas.subjects import Party

COORDINATOR = "coordinator"
SCHEDULER = "scheduler"
CLIENTS = "clients"
OPERATORS = "operators"


@dataclass(frozen=True, slots=True)
class Plan:
    """One machine. `serial` names its chip; the coordinator has no workload."""

    name: str
    platform: str
    workload: str
    serial: int
    spec: Spec
    party: Party


def machine_names(blueprint: Blueprint) -> dict[str, str]:
    """Return the agents' machines with their workloads."""
    return {
        f"{workload}-{number}" if len(plan.machines) > 1 else workload: workload
        for workload, plan in sorted(blueprint.agents.items())
        for number, _ in enumerate(plan.machines, 1)
    }


def parties(blueprint: Blueprint) -> list[str]:
    """Return everybody who has a connection to the broker, in the order of a tap's ports."""
    return [CLIENTS, OPERATORS, COORDINATOR, SCHEDULER, *machine_names(blueprint)]


def read_plans(state: State) -> dict[str, Plan]:
    """Return every machine of a lab by name, the coordinator's first."""
    anchor, file = state.load(ANCHOR), blueprint_path(state)
    blueprint = read_blueprint(file)
    specs = agent_specs(anchor, blueprint, file.parent)
    plans = [Plan(COORDINATOR, blueprint.coordinator, "", 1, coordinator_spec(anchor), Party.COORDINATOR)]
    names = machine_names(blueprint)
    platforms = [platform for _, plan in sorted(blueprint.agents.items()) for platform in plan.machines]
    for (name, workload), platform in zip(names.items(), platforms, strict=True):
        plans.append(Plan(name, platform, workload, len(plans) + 1, specs[workload], Party.AGENT))
    return {plan.name: plan for plan in plans}


def make_machine(plan: Plan, state: State, builder: Builder, host: Mapping[str, str]) -> Machine:
    """Return a plan's machine, under the root of its platform; `host` is what its child gets unmeasured."""
    return Machine(
        plan.name,
        plan.platform,
        simulator(plan.platform, state.load_root(plan.platform), plan.serial),
        builder,
        plan.spec,
        output=log_of(state, plan.name),
        clock=lambda: datetime.now(UTC),
        host=host,
        keep=state.root / EVIDENCE / plan.name,
    )


def log_of(state: State, name: str) -> Path:
    """Name the file into which a part prints."""
    return state.logs / f"{name}.log"


def plan_of(state: State, name: str) -> Plan:
    """Return one machine's plan, or raise `UsageError` that names those that there are."""
    plans = read_plans(state)
    if name not in plans:
        raise UsageError(f"this lab has no machine {name!r}: there are {', '.join(plans)}")
    return plans[name]
