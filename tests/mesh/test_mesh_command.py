"""`sealbus lab` as a user meets it: up, status, evidence, down, parts by themselves, and what goes wrong."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import cbor2
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from lab.attached import attach
from lab.facts import LAB_FILE, LabFacts, read_facts
from lab.mesh import recording_of
from lab.setup import OPERATORS
from lab.start import initialise
from lab.state import hold_part, open_state
from tests.attestation.tdx_forge import judge
from tests.mesh.world import copy_lab, eventually, in_own_task, is_alive
from tests.ports import free_ports

pytestmark = pytest.mark.anyio

SEALBUS = [sys.executable, "-c", "from console.cli import main; main()"]
AGENTS = {"worker-1", "worker-2", "counter", "relay"}


def environment(url: str | None = None) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "SEALBUS_NATS_URL"}
    return own | ({"SEALBUS_NATS_URL": url} if url else {})


async def sealbus(*arguments: str, url: str | None = None) -> "subprocess.CompletedProcess[bytes]":
    """Run one command to its end."""
    with anyio.fail_after(120):
        return await anyio.run_process([*SEALBUS, *arguments], check=False, env=environment(url))


@asynccontextmanager
async def lab_up(root: Path) -> AsyncIterator[tuple[anyio.abc.Process, LabFacts]]:
    command = [*SEALBUS, "lab", "up", "--json", "--dir", str(root)]
    async with await anyio.open_process(command, stderr=None, env=environment()) as process:
        assert process.stdout is not None
        try:
            with anyio.fail_after(120):
                facts = msgspec.json.decode(await process.stdout.receive(), type=LabFacts)
            yield process, facts
        finally:
            if process.returncode is None:
                process.kill()


@pytest.fixture(scope="module")
async def up(anyio_backend: str, lab: Path) -> AsyncIterator[LabFacts]:
    """A lab that another process brought up in `lab`."""
    async with in_own_task(lab_up(lab)) as (process, facts):
        yield facts
        process.terminate()
        with anyio.fail_after(90):
            assert await process.wait() == 0
    assert not any(map(is_alive, facts.pids.values()))


async def test_status_says_who_is_admitted(lab: Path, up: LabFacts) -> None:
    found = await sealbus("lab", "status", "--dir", str(lab), "--json")
    assert found.returncode == 0
    said = json.loads(found.stdout)
    assert said["url"] == up.nats_url
    assert said["reachable"] is True
    assert {agent["name"]: agent["platform"] for agent in said["admitted"]} == {
        "worker-1": "sev-snp",
        "worker-2": "tdx",
        "counter": "nitro",
        "relay": "tdx",
    }
    assert said["refused"] == {}
    assert said["missing"] == []


async def test_a_second_lab_in_one_directory_is_told_what_to_do(lab: Path, up: LabFacts) -> None:
    found = await sealbus("lab", "up", "--dir", str(lab))
    assert found.returncode == 2
    assert found.stderr.startswith(b"sealbus: another lab uses ")
    assert b"sealbus lab down" in found.stderr
    assert found.stderr.count(b"\n") == 1


# A genuine VCEK has serial number 0 too.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
async def test_evidence_is_judged_by_the_tools_of_others(lab: Path, up: LabFacts, tmp_path: Path) -> None:
    found = await sealbus("lab", "evidence", "--dir", str(lab), "--out", str(tmp_path), "--json")
    assert found.returncode == 0, found.stderr
    folders = {name: Path(folder) for name, folder in json.loads(found.stdout).items()}
    assert set(folders) == {*AGENTS, "coordinator"}
    instances = {agent.name: agent.instance for agent in up.admitted}
    for name, folder in folders.items():
        meta = json.loads((folder / "meta.json").read_bytes())
        assert folder.relative_to(tmp_path).parts == (meta["platform"], name)
        assert meta.get("instance") == instances.get(name)
        _JUDGES[meta["platform"]](folder, meta)


async def test_a_client_elsewhere_finds_the_lab(lab: Path, up: LabFacts) -> None:
    # Evicting needs an operator's session with the coordinator.
    found = await sealbus("lab", "evict", "--dir", str(lab), "--kind", "chip", "00ff")
    assert found.returncode == 0, found.stderr
    unknown = await sealbus("lab", "evict", "--dir", str(lab), "worker-7")
    assert unknown.returncode == 2
    assert b"worker-1, worker-2" in unknown.stderr


async def test_the_operators_own_commands_work_against_a_lab(lab: Path, up: LabFacts, tmp_path: Path) -> None:
    out = tmp_path / "operators"
    found = await sealbus("lab", "keys", "--dir", str(lab), "--out", str(out))
    assert found.returncode == 0, found.stderr
    assert {path.name for path in out.glob("*.key")} == {f"{name}.key" for name in OPERATORS}
    checked = await sealbus("policy", "diff", str(out / "policy.toml"), str(lab / "policy.toml"))
    assert checked.returncode == 0, checked.stderr
    command = found.stdout.decode().split()[1:]
    told = await sealbus(*command, "--state", str(tmp_path / "state"), "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["term"] >= 1
    again = await sealbus("lab", "keys", "--dir", str(lab), "--out", str(out))
    assert again.returncode == 2
    assert b"name a folder that is not there" in again.stderr


async def test_what_is_written_of_the_processes_follows_them(lab: Path, up: LabFacts) -> None:
    async def follows(name: str) -> None:
        before = read_facts(lab).pids[name]
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: read_facts(lab).pids.get(name, before) != before, within=120)
        assert is_alive(read_facts(lab).pids[name])

    for name in ("scheduler", "broker", "relay"):
        await follows(name)

    async def told() -> dict[str, Any]:
        return dict(json.loads((await sealbus("lab", "status", "--dir", str(lab), "--json")).stdout))

    with anyio.fail_after(120):
        while (found := await told())["dead"] or len(found["admitted"]) < len(AGENTS):  # noqa: ASYNC110
            await anyio.sleep(0.1)


def judge_tdx(folder: Path, meta: dict[str, Any]) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    at = datetime.fromisoformat(meta["valid_at"]) + timedelta(seconds=1)
    assert judge(files["quote.bin"], files, files["root.der"], now=at).status == "UpToDate"
    assert files["quote.bin"][48 + 520 : 48 + 584].hex() == meta["report_data"]
    assert files["quote.bin"][48 + 136 : 48 + 184].hex() == meta["measurement"]["mrtd"]


def judge_snp(folder: Path, meta: dict[str, Any]) -> None:
    report = (folder / "report.bin").read_bytes()
    vcek, ask, ark = (
        x509.load_der_x509_certificate((folder / f"{name}.der").read_bytes())
        for name in ("vcek", "ask", "ark")
    )
    assert (folder / "root.der").read_bytes() == (folder / "ark.der").read_bytes()
    for issued, issuer in ((vcek, ask), (ask, ark), (ark, ark)):
        key = issuer.public_key()
        assert not isinstance(key, ec.EllipticCurvePublicKey)
        pss = padding.PSS(padding.MGF1(SHA384()), 48)
        key.verify(issued.signature, issued.tbs_certificate_bytes, pss, SHA384())  # type: ignore[union-attr, call-arg, arg-type]
    r, s = (int.from_bytes(report[at : at + 72], "little") for at in (0x2A0, 0x2A0 + 72))
    chip = vcek.public_key()
    assert isinstance(chip, ec.EllipticCurvePublicKey)
    chip.verify(encode_dss_signature(r, s), report[:0x2A0], ec.ECDSA(SHA384()))
    assert report[0x50:0x90].hex() == meta["report_data"]
    assert report[0x90:0xC0].hex() == meta["measurement"]["measurement"]


def judge_nitro(folder: Path, meta: dict[str, Any]) -> None:
    protected, _, payload, signature = cbor2.loads((folder / "attestation.cbor").read_bytes())
    document = cbor2.loads(payload)
    chain = [
        x509.load_der_x509_certificate(each) for each in (*document["cabundle"], document["certificate"])
    ]
    assert document["cabundle"][0] == (folder / "root.der").read_bytes()
    for issuer, issued in itertools.pairwise(chain):
        issued.verify_directly_issued_by(issuer)
    key = chain[-1].public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA384()))
    assert document["pcrs"][0].hex() == meta["measurement"]["pcr0"]
    assert document["nonce"].hex() == meta["challenge"]


_JUDGES = {"tdx": judge_tdx, "sev-snp": judge_snp, "nitro": judge_nitro}


def test_a_recording_of_another_time_is_not_taken_for_this_mesh(
    lab_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = copy_lab(lab_template, tmp_path)
    monkeypatch.setenv("SEALBUS_NATS_URL", "nats://127.0.0.1:1")
    with open_state(lab, exclusive=False) as state:
        mesh = attach(state)

        def seen() -> Path | None:
            return mesh.recording

        recording = recording_of(state)
        assert seen() is None
        recording.parent.mkdir()
        recording.write_bytes(b"")
        assert seen() == recording
        with hold_part(state, "scheduler"):
            assert seen() is None
            with hold_part(state, "tap"):
                assert seen() == recording


async def test_what_is_not_there_is_told(tmp_path: Path, lab_template: Path) -> None:
    nowhere = await sealbus("lab", "status", "--dir", str(tmp_path / "none"))
    assert nowhere.returncode == 2
    assert b"sealbus lab init" in nowhere.stderr
    lab = str(copy_lab(lab_template, tmp_path))
    for command, code in (("status", 3), ("evidence", 2), ("evict", 2)):
        more = {"evidence": ["--out", str(tmp_path / "out")], "evict": ["counter"]}.get(command, [])
        found = await sealbus("lab", command, "--dir", lab, *more)
        assert (found.returncode, b"sealbus lab up" in found.stderr) == (code, True), found.stderr
    unknown = await sealbus("lab", "start", "nobody", "--dir", lab)
    assert unknown.returncode == 2
    assert b"coordinator" in unknown.stderr
    urlless = await sealbus("lab", "start", "counter", "--dir", lab)
    assert urlless.returncode == 2
    assert b"SEALBUS_NATS_URL" in urlless.stderr
    silent = await sealbus("lab", "status", "--dir", lab, url="nats://127.0.0.1:1")
    assert silent.returncode == 3
    assert b"does not answer" in silent.stderr


@contextmanager
def taken() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


async def test_a_port_that_is_taken_is_told(tmp_path: Path, lab_template: Path) -> None:
    lab = str(copy_lab(lab_template, tmp_path))
    with taken() as port:
        url = f"nats://127.0.0.1:{port}"
        for part in ("broker", "tap"):
            found = await sealbus("lab", "start", part, "--dir", lab, "--port", str(port), url=url)
            assert found.returncode == 2
            assert str(port).encode() in found.stderr
            assert found.stderr.startswith(b"sealbus: port ")


@pytest.mark.slow
async def test_a_lab_that_was_killed_is_cleaned_up_by_down(lab_template: Path, tmp_path: Path) -> None:
    lab = copy_lab(lab_template, tmp_path)
    async with lab_up(lab) as (process, facts):
        while not (lab / LAB_FILE).exists():  # noqa: ASYNC110 - written beside what it printed
            await anyio.sleep(0.02)
        process.kill()
        await process.wait()
    await eventually(lambda: not any(map(is_alive, facts.pids.values())))
    assert (await sealbus("lab", "status", "--dir", str(lab))).returncode == 3
    assert (await sealbus("lab", "down", "--dir", str(lab))).returncode == 0
    assert not (lab / LAB_FILE).exists()
    assert (await sealbus("lab", "down", "--dir", str(lab))).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["down", "interrupt"])
async def test_a_lab_that_is_told_to_end_leaves_no_process(
    lab_template: Path, tmp_path: Path, how: str
) -> None:
    lab = copy_lab(lab_template, tmp_path)
    async with lab_up(lab) as (process, facts):
        if how == "down":
            found = await sealbus("lab", "down", "--dir", str(lab))
            assert found.returncode == 0
            assert str(process.pid).encode() in found.stderr
        else:
            process.send_signal(signal.SIGINT)
        with anyio.fail_after(90):
            assert await process.wait() == 0
    assert not any(map(is_alive, facts.pids.values()))
    assert not (lab / LAB_FILE).exists()


@pytest.mark.slow
async def test_a_lab_of_parts_is_the_same_lab(lab_template: Path, tmp_path: Path) -> None:
    lab = copy_lab(lab_template, tmp_path)
    initialise(lab, "127.0.0.1", lambda _: None)
    parties = ["clients", "operators", "coordinator", "scheduler", "counter", "relay", "worker-1", "worker-2"]
    broker = free_ports(1 + len(parties))
    at = {name: f"nats://127.0.0.1:{broker + 1 + number}" for number, name in enumerate(parties)}
    ready = {name: tmp_path / f"{name}.ready" for name in ("broker", "tap", *parties[1:])}
    parts = {}
    async with anyio.create_task_group() as tasks:

        async def run(name: str, *more: str) -> None:
            command = [*SEALBUS, "lab", "start", name, "--dir", str(lab), "--ready", str(ready[name]), *more]
            url = at.get(name, f"nats://127.0.0.1:{broker}")
            process = await anyio.open_process(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(url)
            )
            parts[name] = process
            with anyio.fail_after(120):
                while not ready[name].exists():  # noqa: ASYNC110 - a file tells nobody that it is there
                    await anyio.sleep(0.05)

        try:
            await run("broker", "--port", str(broker))
            await run("tap", "--port", str(broker + 1))
            for name in ("coordinator", "operators", "scheduler"):
                await run(name)
            for name in sorted(AGENTS):
                tasks.start_soon(run, name)
            await eventually(lambda: all(path.exists() for path in ready.values()), within=120)
            up = await sealbus("lab", "status", "--dir", str(lab), "--json", url=at["clients"])
            assert up.returncode == 0, up.stdout
            assert set(json.loads(up.stdout)["parts"]) == set(ready)
            # Another coordinator: the operators notice, and order its term.
            assert (lab / "term").read_bytes() == b"1"
            parts["coordinator"].kill()
            await parts["coordinator"].wait()
            ready["coordinator"].unlink()
            await run("coordinator")
            await eventually(lambda: (lab / "term").read_bytes() == b"2", within=120)
            heard = await sealbus(
                "lab", "evict", "--dir", str(lab), "--kind", "chip", "00ff", url=at["clients"]
            )
            assert heard.returncode == 0, heard.stderr
        finally:
            with anyio.CancelScope(shield=True):
                assert (await sealbus("lab", "down", "--dir", str(lab))).returncode == 0
                for process in parts.values():
                    await process.aclose()
    assert {name: process.returncode for name, process in parts.items()} == dict.fromkeys(ready, 0)
    assert not any(path.exists() for path in ready.values())


async def test_a_lab_that_is_stopped_before_it_was_up_says_so(lab: Path, tmp_path: Path) -> None:
    root = copy_lab(lab, tmp_path)
    command = [*SEALBUS, "lab", "up", "--json", "--dir", str(root)]
    process = await anyio.open_process(command, env=environment())
    async with process:
        assert process.stderr is not None
        with anyio.fail_after(90):
            said = await process.stderr.receive()  # it has begun
            process.terminate()
            assert await process.wait() == 1
            async for more in process.stderr:
                said += more
    assert b"stopped before the lab was up" in said
