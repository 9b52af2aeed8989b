"""Simulated machines, made once: RSA-4096 keys take seconds."""

from datetime import UTC, datetime

import pytest

from lab.simulate import nitro, sev_snp

BORN = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def amd() -> dict[str, bytes]:
    return sev_snp.make_root(BORN)


@pytest.fixture(scope="session")
def chip(amd: dict[str, bytes]) -> sev_snp.SevSnpChip:
    return sev_snp.SevSnpChip.from_files(amd, serial=1)


@pytest.fixture(scope="session")
def aws() -> dict[str, bytes]:
    return nitro.make_root(BORN)


@pytest.fixture(scope="session")
def card(aws: dict[str, bytes]) -> nitro.NitroCard:
    return nitro.NitroCard.from_files(aws, serial=1)
