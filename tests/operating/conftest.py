"""Fixtures of the operators' commands."""

from pathlib import Path

import pytest

from agent_runtime import coordination
from console import operator
from lab.broker import Broker
from sealing import keyfile
from tests.operating.world import Mesh


@pytest.fixture
def mesh(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Mesh:
    """A mesh of three operators on a real broker; nothing of it runs yet."""
    # What guessing costs is not what these tests are about.
    monkeypatch.setattr(keyfile.lock, "__kwdefaults__", {"operations": 1, "memory": 8192})
    monkeypatch.delenv("SEALBUS_NATS_URL", raising=False)
    return Mesh(tmp_path, broker.url, capsys)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a console wait for seconds, not for half a minute, for what never comes."""
    monkeypatch.setattr(coordination, "STEP_DEADLINE", 2.0)
    monkeypatch.setattr(coordination, "ADMISSION_DEADLINE", 3.0)
    monkeypatch.setattr(operator, "RECEIPT_DEADLINE", 3.0)
