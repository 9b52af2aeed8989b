"""Services on their machine's own TEE: no launcher, and the broker from the environment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from agent_runtime import __main__ as agent
from attestation.detect import detect
from lab.broker import Broker
from schemas import codec
from tests.coordinator.world import World

# The machine is played by a folder in which a Nitro enclave's device exists.
START = """
import sys
from pathlib import Path
import attestation.own_machine
from attestation.detect import detect
from coordinator.__main__ import main
root = Path(sys.argv.pop(1))
attestation.own_machine.detect = lambda _: detect(root)
sys.exit(main())
"""


@pytest.mark.anyio
async def test_a_coordinator_starts_and_ends_without_a_launcher(tmp_path: Path, broker: Broker) -> None:
    device = tmp_path / "machine" / "dev" / "nsm"
    device.parent.mkdir(parents=True)
    device.touch()
    anchor = tmp_path / "anchor.cbor"
    anchor.write_bytes(codec.encode(World().anchor))
    command = [sys.executable, "-c", START, str(tmp_path / "machine"), "--own-tee", "--anchor", str(anchor)]
    async with await anyio.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "SEALBUS_NATS_URL": broker.url},
    ) as process:
        assert process.stderr is not None
        said = b""
        with anyio.fail_after(30):
            while b"coordinator" not in said:
                said += await process.stderr.receive()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert b"Traceback" not in said


def test_an_agent_on_a_machine_without_a_tee_ends_with_a_usage_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if detect().attester is not None:
        pytest.skip("this machine is a TEE")
    file = tmp_path / "agent.py"
    file.write_text("from agent_runtime import Agent\nagent = Agent('greeter')\n")
    assert agent.main([str(file), "--own-tee", "--nats-url", "nats://127.0.0.1:1"]) == 2
    assert "sealbus doctor" in caplog.text
