"""Simulated machines, made once: RSA-4096 keys take seconds."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab.simulate import nitro, sev_snp
from tests.amd import amd_root

BORN = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def amd() -> dict[str, bytes]:
    # Whoever runs these tests a hundred times over (the mutants) makes the keys once.
    kept = os.environ.get("SEALBUS_TEST_AMD")
    if kept:
        return {path.name: path.read_bytes() for path in Path(kept).iterdir()}
    return amd_root(BORN)


@pytest.fixture(scope="session")
def chip(amd: dict[str, bytes]) -> sev_snp.SevSnpChip:
    return sev_snp.SevSnpChip.from_files(amd, serial=1)


@pytest.fixture(scope="session")
def aws() -> dict[str, bytes]:
    return nitro.make_root(BORN)


@pytest.fixture(scope="session")
def card(aws: dict[str, bytes]) -> nitro.NitroCard:
    return nitro.NitroCard.from_files(aws, serial=1)
