"""The lab in containers: built from the wheel, brought up, worked with, looked at, and taken down."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.attached import TAP
from lab.blueprint import installed_blueprint, read_blueprint
from lab.plan import CLIENTS, COORDINATOR, OPERATORS, SCHEDULER, machine_names, parties
from lab.start import BROKER, TAP_PORT
from tests.containers.conftest import PROJECT_PREFIX
from tests.ports import free_ports

# Whichever comes first builds the image and brings everything up.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
PROJECT = f"{PROJECT_PREFIX}{os.getpid()}"
BLUEPRINT = read_blueprint(installed_blueprint())
MACHINES = {COORDINATOR, *machine_names(BLUEPRINT)}


class Compose:
    """One project of docker compose."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "SEALBUS_PORT": str(free_ports()),
            "SEALBUS_OUT": str(out),
            "SEALBUS_INPUT": str(out),
        }

    def run(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run one command to its end."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def lab_in_containers(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The lab, up."""
    out = tmp_path_factory.mktemp("out")
    out.chmod(0o777)  # whoever runs this, the containers' user writes here
    out.parent.chmod(0o755)
    compose = Compose(out)
    try:
        compose.run("up", "-d", "--build", "--wait")
        yield compose
    finally:
        compose.run("--profile", "demo", "down", "-v", "--remove-orphans")


def test_the_demo_does_its_job_in_containers(lab_in_containers: Compose) -> None:
    done = lab_in_containers.run("run", "--rm", "-T", "demo", "--json")
    said = json.loads(done.stdout)
    assert said["documents"] == {"read": 30, "redacted": 30, "skipped": 0, "failed": 0}
    assert said["precision"] == 1.0
    assert {agent["name"] for agent in said["agents"]} == MACHINES - {COORDINATOR}
    wire = said["wire"]
    assert (wire["hits"], wire["control_found"], wire["unclassified"]) == (0, True, 0)
    assert wire["store_bytes"] > 0
    assert wire["broker_in_msgs"] is None
    assert said["own_keys"] is None
    assert len(list((lab_in_containers.out / "redacted-out" / "redacted").rglob("*.*"))) == 30


def test_files_of_ones_own_are_redacted_in_containers(lab_in_containers: Compose) -> None:
    (lab_in_containers.out / "mine.txt").write_text("Write to anna.berg@example.org today.")
    lab_in_containers.run("run", "--rm", "-T", "demo", "mine.txt")
    text = (lab_in_containers.out / "redacted-out" / "redacted" / "mine.txt").read_text()
    assert "anna.berg" not in text
    assert text.startswith("Write to [EMAIL-")
    missing = lab_in_containers.run("run", "--rm", "-T", "demo", "nothing.txt", check=False)
    assert missing.returncode == 2
    assert "sealbus: nothing.txt cannot be read" in missing.stderr


def test_a_coordinator_that_dies_gets_its_next_term_from_the_operators(lab_in_containers: Compose) -> None:
    def term() -> str:
        return lab_in_containers.run("exec", "-T", OPERATORS, "cat", "/lab/term").stdout

    before = int(term())
    lab_in_containers.run("kill", COORDINATOR)
    lab_in_containers.run("up", "-d", "--wait")
    lab_in_containers.run("run", "--rm", "-T", "demo")
    assert int(term()) == before + 1
    status = lab_in_containers.run(
        "exec", "-T", OPERATORS, "sealbus", "lab", "status", "--dir", "/lab", "--json"
    )
    assert {agent["name"] for agent in json.loads(status.stdout)["admitted"]} == MACHINES - {COORDINATOR}


def test_each_container_has_what_it_needs_and_no_more(lab_in_containers: Compose) -> None:
    described = json.loads(lab_in_containers.run("--profile", "demo", "config", "--format", "json").stdout)
    mounts = {
        name: {mount["target"] for mount in service.get("volumes", [])}
        for name, service in described["services"].items()
    }
    assert {name for name, at in mounts.items() if "/lab/roots" in at} == {"init", *MACHINES}
    assert {name for name, at in mounts.items() if "/lab/operators" in at} == {"init", OPERATORS}
    assert {name for name, at in mounts.items() if "/lab/clients" in at} == {"init", "demo"}
    assert mounts[BROKER] == {"/lab/broker"}
    # The tap's ports are counted off in the order of the parties.
    ports = {name: f"nats://tap:{TAP_PORT + n}" for n, name in enumerate(parties(BLUEPRINT))}
    ports["demo"] = ports.pop(CLIENTS)
    urls = {
        name: service["environment"]["SEALBUS_NATS_URL"]
        for name, service in described["services"].items()
        if "environment" in service and name not in (TAP, BROKER, "init")
    }
    assert urls == ports


def test_no_container_runs_as_root_or_can_change_its_image(lab_in_containers: Compose) -> None:
    ids = lab_in_containers.run("ps", "-q").stdout.split()
    assert len(ids) == len(MACHINES) + len({BROKER, TAP, OPERATORS, SCHEDULER})
    found = json.loads(subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True).stdout)
    for container in found:
        host = container["HostConfig"]
        assert container["State"]["Health"]["Status"] == "healthy"
        assert container["Config"]["User"].partition(":")[0] not in ("", "0", "root")
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        published = [at["HostIp"] for ports in (host["PortBindings"] or {}).values() for at in ports]
        assert set(published) <= {"127.0.0.1"}
