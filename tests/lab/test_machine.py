"""A machine and its child: a real process, which sees what was measured and nothing else."""

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import appraise
from attestation.errors import AttestationError
from lab.descriptor import EvidenceRequest, HostRequest, read_request
from lab.image import ENVIRONMENT, Builder, Spec
from lab.launch import ENCLAVE_DISTRIBUTIONS, Exited, open_rack
from lab.layers import CACHE, Store
from lab.machine import Machine, Simulator
from lab.simulate import nitro, sev_snp, tdx, tdx_issuer
from schemas.codec import encode
from schemas.errors import MalformedError, Reason, UsageError
from schemas.evidence import (
    NITRO,
    PLATFORMS,
    SEV_SNP,
    TDX,
    Endorsements,
    Evidence,
    PlatformValues,
    ReferenceValues,
    WorkloadValues,
)
from tests.amd import amd_root

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
KEY_BINDING = bytes(range(64))
CHALLENGE = bytes(range(32))

# What a child may import, and what lies installed on the host all the same.
INSIDE = ["cryptography", "nacl", "msgspec", "nats", "anyio", "cbor2", "nkeys", "asyncio", "ssl"]
OUTSIDE = ["pytest", "hypothesis", "lab", "console", "pip", "idlelib", "site_only"]

# Children of the tests, which print one JSON object.
CHILDREN = {
    "world": """
import json, os, sys
import toylibrary, toypackage
def importable(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True
descriptors = {}
for number in os.listdir("/proc/self/fd"):
    try:
        descriptors[number] = os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        pass  # the listing's own
print(json.dumps({
    "path": sys.path,
    "argv": sys.argv[1:],
    "environment": dict(os.environ),
    "descriptors": descriptors,
    "inheritable": os.get_inheritable(3),
    "directory": sorted(os.listdir(".")),
    "anchor": open("anchor.cbor", "rb").read().hex(),
    "importable": [name for name in json.loads(sys.argv[2]) if importable(name)],
    "maps": open("/proc/self/maps").read(),
    "bytecode": [each.__cached__ for each in sys.modules.values() if getattr(each, "__cached__", None)],
    "compiled": os.path.exists(toylibrary.__cached__),
    "mark": toylibrary.A,
}))
""",
    "ask": """
import anyio, json
from attestation.attesters.attester import DescriptorAttester
async def main():
    device = DescriptorAttester(3)
    evidence, endorsements = await device.evidence(bytes(range(64)), bytes(range(32)))
    endorsements = {name: data.hex() for name, data in endorsements.items()}
    print(json.dumps({"type": evidence.type, "value": evidence.value.hex(),
        "endorsements": endorsements, "host": await device.host()}))
anyio.run(main)
""",
    "junk": """
import json, socket, struct, sys
from schemas.codec import decode_any, encode
machine = socket.socket(fileno=3)
replies = []
def exchange(body):
    machine.sendall(struct.pack(">I", len(body)) + body)
    (size,) = struct.unpack(">I", machine.recv(4, socket.MSG_WAITALL))
    return decode_any(machine.recv(size, socket.MSG_WAITALL))
for body in (b"", b"\\xff", b"junk", encode(1), encode([]), encode(["evidence"]), encode(["host", 1]),
    encode(["evidence", b"short", bytes(32)]), encode(["evidence", "text", bytes(32)]), bytes(1024)):
    replies.append(exchange(body))
replies.append(exchange(encode(["host"])))
machine.sendall(struct.pack(">I", 2**32 - 1))
(size,) = struct.unpack(">I", machine.recv(4, socket.MSG_WAITALL))
replies.append(decode_any(machine.recv(size, socket.MSG_WAITALL)))
print(json.dumps([replies, machine.recv(1).hex()]))
""",
    "half": """
import os, socket, struct
socket.socket(fileno=3).sendall(struct.pack(">I", 100) + b"half")
os._exit(7)
""",
    "wait": "import socket; socket.socket(fileno=3).recv(1)",
    "deaf": """
import signal, socket, struct
from schemas.codec import encode
signal.signal(signal.SIGTERM, signal.SIG_IGN)
body = encode(["evidence", bytes(64), bytes(32)])
socket.socket(fileno=3).sendall(struct.pack(">I", len(body)) + body)
signal.pause()
""",
}


@dataclass
class FakeChip:
    """Mints nothing genuine, and remembers what it was asked."""

    asked: list[dict[str, bytes]] = field(default_factory=list)

    def evidence(
        self,
        measurements: dict[str, bytes],
        key_binding: bytes,
        challenge: bytes,
        *,
        now: datetime,
        debug: bool = False,
    ) -> tuple[Evidence, Endorsements]:
        self.asked.append(measurements)
        return Evidence("text/plain", key_binding + challenge), {"debug": bytes([debug])}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("sources")
    (root / "toypackage").mkdir()
    (root / "toypackage" / "__init__.py").write_text("")
    for name, text in CHILDREN.items():
        (root / "toypackage" / f"{name}.py").write_text(text)
    (root / "toylibrary.py").write_text("A = 'measured'\n")
    (root / "site_only.py").write_text("")
    information = root / "toylibrary-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toylibrary\nVersion: 1.0\n")
    (information / "RECORD").write_text("toylibrary.py,,\n")
    (root / "agent.py").write_text("A = 1\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(root))
        importlib.invalidate_caches()
        yield root


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # With a blank, because loaders and shells split at one.
    return tmp_path_factory.mktemp("a lab") / "layers"


@pytest.fixture(scope="module")
def builder(layers: Path) -> Builder:
    return Builder(Store(layers))


def spec_of(child: str, sources: Path) -> Spec:
    return Spec(
        module=f"toypackage.{child}",
        packages=("toypackage", "schemas", "attestation", "sealing"),
        distributions=(*ENCLAVE_DISTRIBUTIONS, "toylibrary"),
        anchor=b"an anchor",
        agent=sources / "agent.py",
        arguments=("agent.py", json.dumps(INSIDE + OUTSIDE)),
    )


Make = Callable[..., Machine]


@pytest.fixture
def make(builder: Builder, sources: Path, tmp_path: Path) -> Make:
    def make(
        child: str, *, simulator: Simulator | None = None, platform: str = TDX, **options: Any
    ) -> Machine:
        return Machine(
            options.pop("name", child),
            platform,
            simulator or FakeChip(),
            options.pop("builder", builder),
            options.pop("spec", spec_of(child, sources)),
            output=tmp_path / f"{child}.log",
            clock=lambda: NOW,
            **options,
        )

    return make


def run(machine: Machine) -> Any:
    """Run the machine's child to its end and read what it printed."""
    output = machine._output
    status = anyio.run(machine.run)
    text = output.read_text()
    assert status == 0, text
    return json.loads(text)


def test_a_child_sees_what_was_measured_and_nothing_else(
    make: Make, layers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    world = run(make("world"))
    assert world["environment"] == ENVIRONMENT
    assert world["argv"] == ["agent.py", json.dumps(INSIDE + OUTSIDE)]
    assert all(Path(path).is_relative_to(layers) for path in world["path"])
    assert world["importable"] == INSIDE
    assert world["directory"] == ["agent.py", "anchor.cbor", "launch.json"]
    assert bytes.fromhex(world["anchor"]) == b"an anchor"


def test_a_child_inherits_its_end_of_the_pair_and_nothing_else(make: Make) -> None:
    leaked, other = os.pipe()
    try:
        os.set_inheritable(leaked, True)
        world = run(make("world"))
    finally:
        os.close(leaked)
        os.close(other)
    descriptors = world["descriptors"]
    assert set(descriptors) == {"0", "1", "2", "3"}
    assert descriptors["0"] == "/dev/null"
    assert descriptors["3"].startswith("socket:")
    assert world["inheritable"] is False


def test_a_child_maps_and_reads_only_staged_python(make: Make, layers: Path) -> None:
    world = run(make("world"))
    python = [line for line in world["maps"].splitlines() if "python" in line and "/" in line]
    assert python
    assert all(str(layers) in line for line in python)
    assert all(Path(path).is_relative_to(layers) for path in world["bytecode"])
    assert world["compiled"] is True  # by the machine, which is why a start is fast


def test_bytecode_planted_beside_the_sources_is_not_run(make: Make, sources: Path, tmp_path: Path) -> None:
    plant(sources / "toylibrary.py", tmp_path)
    assert run(make("world"))["mark"] == "measured"


def test_bytecode_planted_in_the_store_is_not_run(make: Make, layers: Path, tmp_path: Path) -> None:
    assert run(make("world"))["mark"] == "measured"
    (tmp_path / "world.log").unlink()
    (staged,) = layers.glob("*/toylibrary.py")
    plant(staged, tmp_path)
    assert run(make("world"))["mark"] == "measured"


def plant(source: Path, tmp_path: Path) -> None:
    """Put bytecode of another text where the import system would look for that of `source`."""
    other = tmp_path / "planted.py"
    other.write_text("A = 'planted'\n")
    target = source.parent / CACHE / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    code = f"import py_compile; py_compile.compile({str(other)!r}, {str(target)!r}, invalidation_mode="
    subprocess.run(
        [sys.executable, "-c", code + "py_compile.PycInvalidationMode.UNCHECKED_HASH)"], check=True
    )


@pytest.fixture(scope="module")
def chips() -> Mapping[str, Simulator]:
    return {
        SEV_SNP: sev_snp.SevSnpChip.from_files(amd_root(NOW), serial=1),
        TDX: tdx.TdxPlatform.from_files(tdx_issuer.make_root(NOW), serial=1),
        NITRO: nitro.NitroCard.from_files(nitro.make_root(NOW), serial=1),
    }


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_evidence_of_a_child_is_appraised_as_its_image(
    make: Make, chips: Mapping[str, Any], platform: str, sources: Path
) -> None:
    machine = make("ask", simulator=chips[platform], platform=platform, host={"broker": "nats://here"})
    said = run(machine)
    assert said["host"] == {"broker": "nats://here"}
    evidence = Evidence(said["type"], bytes.fromhex(said["value"]))
    endorsements = {name: bytes.fromhex(data) for name, data in said["endorsements"].items()}

    def judge(spec: Spec) -> str:
        measurements = Builder(Store(Path("unused"))).build(spec).measurements(platform)
        workload = WorkloadValues(
            workload="w", platform=platform, measurements={name: m.hex() for name, m in measurements.items()}
        )
        values = ReferenceValues(
            platforms={platform: PlatformValues(lab_roots=(chips[platform].root,))},
            workloads=(workload,),
        )
        return appraise(
            evidence, endorsements, values, key_binding=KEY_BINDING, challenge=CHALLENGE, now=NOW
        ).workload

    assert judge(machine.spec) == "w"
    with pytest.raises(AttestationError) as refusal:
        judge(replace(machine.spec, arguments=("another argument",)))
    assert refusal.value.reason is Reason.MEASUREMENT_NOT_IN_POLICY


def test_the_measurements_in_evidence_are_those_of_the_launched_image(make: Make) -> None:
    chip = FakeChip()
    machine = make("ask", simulator=chip)
    said = run(machine)
    assert chip.asked == [machine.image().measurements(TDX)]
    assert bytes.fromhex(said["value"]) == KEY_BINDING + CHALLENGE
    assert said["endorsements"] == {"debug": "00"}


def test_a_debuggable_machine_says_so(make: Make) -> None:
    assert run(make("ask", debug=True))["endorsements"] == {"debug": "01"}


def test_junk_on_the_descriptor_is_answered_and_the_machine_goes_on(make: Make) -> None:
    replies, rest = run(make("junk", host={"a": "b"}))
    assert replies == [["error", "malformed"]] * 10 + [["host", {"a": "b"}], ["error", "too-large"]]
    assert rest == ""


def test_a_child_that_dies_in_the_middle_of_a_request_only_ends(make: Make) -> None:
    assert anyio.run(make("half").run) == 7


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_malformed(data: bytes) -> None:
    try:
        request = read_request(data)
    except MalformedError:
        return
    assert isinstance(request, EvidenceRequest | HostRequest)


def test_genuine_requests_are_read() -> None:
    assert read_request(encode(["host"])) == HostRequest()
    assert read_request(encode(["evidence", KEY_BINDING, CHALLENGE])) == EvidenceRequest(
        KEY_BINDING, CHALLENGE
    )


def test_a_killed_child_is_reported_and_its_machine_can_be_started_again(make: Make) -> None:
    ended: list[Exited] = []

    async def main() -> None:
        async with open_rack(ended.append) as rack:
            machine = make("wait")
            first = await rack.start(machine)
            assert rack.pids() == {"wait": first}
            with pytest.raises(UsageError, match="running already"):
                await rack.start(machine)
            await rack.kill("wait")
            assert rack.pids() == {}
            second = await rack.start(machine)
            assert second != first
            await rack.stop("wait")

    anyio.run(main)
    assert ended == [Exited("wait", -signal.SIGKILL), Exited("wait", -signal.SIGTERM)]


def test_a_child_that_ignores_the_request_to_end_is_killed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.launch.STOP_DEADLINE", 0.0)
    ended: list[Exited] = []

    async def main() -> None:
        async with open_rack(ended.append) as rack:
            await rack.start(make("deaf"))
            await rack.stop_all()

    anyio.run(main)
    assert [each.name for each in ended] == ["deaf"]


def test_an_agent_edited_between_two_launches_is_measured_as_edited(
    make: Make, sources: Path, tmp_path: Path
) -> None:
    chip = FakeChip()
    agent = tmp_path / "edited.py"
    machine = make("ask", simulator=chip, spec=replace(spec_of("ask", sources), agent=agent))
    agent.write_text("A = 1\n")
    anyio.run(machine.run)
    agent.write_text("A = 2\n")
    anyio.run(machine.run)
    first, second = chip.asked
    assert {name for name in first if first[name] != second[name]} == {"rtmr1"}


def test_leaving_the_rack_kills_the_children(make: Make) -> None:
    async def main() -> int:
        async with open_rack(lambda _: None) as rack:
            return os.pidfd_open(await rack.start(make("wait")))

    child = anyio.run(main)
    assert has_ended(child)
    os.close(child)


def test_an_image_that_cannot_be_read_is_the_callers_to_mend(make: Make, sources: Path) -> None:
    machine = make("wait", spec=replace(spec_of("wait", sources), agent=Path("/nowhere.py")))

    async def main() -> None:
        async with open_rack(lambda _: None) as rack:
            with pytest.raises(UsageError, match="nowhere"):
                await rack.start(machine)
            assert rack.pids() == {}

    anyio.run(main)


SUPERVISOR = """
import sys, anyio
from datetime import UTC, datetime
from pathlib import Path
from lab.image import Builder, Spec
from lab.launch import ENCLAVE_DISTRIBUTIONS
from lab.layers import Store
from lab.machine import Machine
from schemas.evidence import Evidence
class Chip:
    def evidence(self, *args, **options):
        print(machine.pid, flush=True)  # not before the child runs its module
        return Evidence("text/plain", b""), {}
spec = Spec("toypackage.deaf", ("toypackage", "schemas"), (*ENCLAVE_DISTRIBUTIONS, "toylibrary"), b"anchor")
machine = Machine("m", "tdx", Chip(), Builder(Store(Path(sys.argv[1]))), spec,
    output=Path(sys.argv[2]), clock=lambda: datetime.now(UTC))
anyio.run(machine.run)
"""


def test_a_child_dies_with_its_machine(layers: Path, sources: Path, tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(layers), str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(sources)},
    )
    with supervisor:
        assert supervisor.stdout is not None
        child = os.pidfd_open(int(supervisor.stdout.readline()))
        supervisor.kill()
    assert has_ended(child)
    os.close(child)


def test_a_child_whose_machine_died_before_it_began_does_not_begin(builder: Builder, sources: Path) -> None:
    staged = builder.stage(builder.build(spec_of("wait", sources)))
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        ended = subprocess.run(
            staged.command(theirs.fileno()),
            cwd=staged.interpreter.directory,
            env=staged.environment,
            pass_fds=(theirs.fileno(),),
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, b"the machine is gone\n")


def has_ended(child: int) -> bool:
    """Wait until the process behind a pidfd has ended."""
    poll = select.poll()
    poll.register(child, select.POLLIN)
    return bool(poll.poll(20_000))
