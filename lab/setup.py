"""Making a lab: roots, keys, anchor, and a policy that the operators sign. Done once.

`make` does it all; `resign` measures again what changed and has the operators sign a new version. No
later start signs a policy.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from console.documents import make_anchor, sign_policy
from lab.blueprint import Blueprint, read_blueprint
from lab.council import lab_council, operator_keys, written_policy
from lab.image import Builder, Spec
from lab.launch import agent_spec, coordinator_spec
from lab.layers import Store
from lab.simulate import nitro, sev_snp, tdx
from lab.state import ANCHOR, POLICY, POLICY_TEXT, State, make_state
from schemas import codec
from schemas.evidence import NITRO, PLATFORMS, SEV_SNP, TDX, PlatformValues
from schemas.pinning import Pinned
from schemas.policy import Client, Policy, Workload, dump
from sealing.context import SUITE_GCM
from sealing.documents import open_anchor
from sealing.keys import SigningKey

OPERATORS = ("alice", "bob", "carol")
THRESHOLD = 2
BLUEPRINT = "blueprint.path"

Progress = Callable[[str], None]

_MAKE_ROOT = {SEV_SNP: sev_snp.make_root, TDX: tdx.make_root, NITRO: nitro.make_root}


def simulator(
    platform: str, files: dict[str, bytes], serial: int
) -> "sev_snp.SevSnpChip | tdx.TdxPlatform | nitro.NitroCard":
    """Return one simulated chip of a platform."""
    if platform == SEV_SNP:
        return sev_snp.SevSnpChip.from_files(files, serial=serial)
    if platform == TDX:
        return tdx.TdxPlatform.from_files(files, serial=serial)
    return nitro.NitroCard.from_files(files, serial=serial)


def make(root: Path, blueprint_file: Path, say: Progress, *, suite: int = SUITE_GCM) -> None:
    """Make a new lab's state directory: whole, or not at all. Its anchor fixes the suite, for good."""
    blueprint = read_blueprint(blueprint_file)
    now = datetime.now(UTC)
    with make_state(root) as state:
        for platform in PLATFORMS:
            say(f"root of the simulated {platform} machines")
            state.save_root(platform, _MAKE_ROOT[platform](now))
        say("keys of operators and clients")
        for name in OPERATORS:
            state.save_key("operators", name, os.urandom(32))
        for name in blueprint.clients:
            state.save_key("clients", name, os.urandom(32))
        roots = _roots(state)
        operators = [(name, SigningKey(seed).public) for name, seed in state.load_keys("operators").items()]
        anchor = make_anchor(operators, THRESHOLD, list(roots.values()), _millis(), suite)
        state.save(ANCHOR, anchor)
        state.save(BLUEPRINT, os.fsencode(blueprint_file.resolve()))
        say("measuring the coordinator and the agents")
        policy = measured_policy(state, blueprint, blueprint_file.parent, version=1, predecessor=None)
        say(f"policy 1, signed by {THRESHOLD} of {len(OPERATORS)} operators")
        _sign(state, policy)


def resign(state: State, say: Progress) -> int:
    """Measure again and have the operators sign the next version of the policy; return its number."""
    held, keys = written_policy(state), operator_keys(state)
    blueprint_file = blueprint_path(state)
    say("measuring the coordinator and the agents")
    policy = measured_policy(
        state,
        read_blueprint(blueprint_file),
        blueprint_file.parent,
        version=held.policy.version + 1,
        predecessor=held.policy_hash.hex(),
    )
    council, _ = lab_council(state)
    say(f"policy {policy.version}, signed by {len(keys)} of {len(council.operators)} operators")
    _sign(state, policy)
    return policy.version


def blueprint_path(state: State) -> Path:
    """Return the blueprint that a lab was made from."""
    return Path(os.fsdecode(state.load(BLUEPRINT)))


def agent_specs(anchor: bytes, blueprint: Blueprint, folder: Path) -> dict[str, Spec]:
    """Return what the machines of each agent launch."""
    return {
        name: agent_spec(anchor, folder / plan.file, packages=plan.packages, distributions=plan.distributions)
        for name, plan in blueprint.agents.items()
    }


def measured_policy(
    state: State, blueprint: Blueprint, folder: Path, *, version: int, predecessor: str | None
) -> Policy:
    """Return the policy that a blueprint and its measured images make."""
    anchor = state.load(ANCHOR)
    _, mesh = open_anchor(anchor)
    builder = Builder(Store(state.layers))
    coordinator = builder.build(coordinator_spec(anchor))
    workloads = {}
    for name, spec in agent_specs(anchor, blueprint, folder).items():
        image = builder.build(spec)
        on = {platform: _pinned(image.measurements(platform)) for platform in PLATFORMS}
        workloads[name] = Workload(roles=(blueprint.agents[name].role,), on=on)
    seeds = state.load_keys("clients")
    return Policy(
        mesh=mesh.id.hex(),
        version=version,
        predecessor=predecessor,
        issued=_millis(),
        platforms={platform: PlatformValues(lab_roots=(root,)) for platform, root in _roots(state).items()},
        coordinators={platform: _pinned(coordinator.measurements(platform)) for platform in PLATFORMS},
        workloads=workloads,
        clients={
            name: Client(key=SigningKey(seeds[name]).public.hex(), roles=roles)
            for name, roles in blueprint.clients.items()
        },
        classes=blueprint.classes,
        tools=blueprint.tools,
        messages=blueprint.messages,
        contexts=blueprint.contexts,
        rules=blueprint.rules,
        limits=blueprint.limits,
    )


def _pinned(measurements: dict[str, bytes]) -> Pinned:
    return Pinned(measurements={name: value.hex() for name, value in measurements.items()})


def _roots(state: State) -> dict[str, str]:
    return {platform: simulator(platform, state.load_root(platform), 1).root for platform in PLATFORMS}


def _sign(state: State, policy: Policy) -> None:
    council, _ = open_anchor(state.load(ANCHOR))
    state.save(POLICY_TEXT, dump(policy).encode())
    state.save(POLICY, codec.encode(sign_policy(council, operator_keys(state), policy)))


def _millis() -> int:
    return time.time_ns() // 1_000_000
