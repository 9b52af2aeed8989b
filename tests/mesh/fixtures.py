"""Fixtures that the tests of the mesh and of the invariants share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.mesh import RunningMesh
from tests.mesh.world import copy_lab, in_own_task, make_lab, up

_TEMPLATE = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
def lab_template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a lab that is made once and only copied."""
    # This fixture belongs to two folders, and roots take seconds to make.
    stash = request.config.stash
    if _TEMPLATE not in stash:
        stash[_TEMPLATE] = make_lab(tmp_path_factory.mktemp("template"))
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
