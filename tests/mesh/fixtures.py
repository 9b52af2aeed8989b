"""Fixtures that the tests of the mesh and of the invariants share."""

import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.mesh import RunningMesh
from tests.mesh.world import LAB, copy_lab, in_own_task, make_lab, stage, up

_TEMPLATE = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
def lab_template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a lab that is made once in a run and only copied, its images staged."""
    # This fixture belongs to several folders, and workers share what takes seconds to make.
    stash = request.config.stash
    if _TEMPLATE not in stash:
        base = tmp_path_factory.getbasetemp()
        home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "template"
        home.mkdir(exist_ok=True)
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (home / "made").exists():
                stage(make_lab(home))
                (home / "made").touch()
        stash[_TEMPLATE] = home / LAB
    return stash[_TEMPLATE]


@pytest.fixture(scope="module")
def lab(lab_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a module's own lab."""
    return copy_lab(lab_template, tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
async def mesh(anyio_backend: str, lab: Path) -> AsyncIterator[RunningMesh]:
    """A module's own mesh, with every agent admitted."""
    async with in_own_task(up(lab)) as running:
        yield running
