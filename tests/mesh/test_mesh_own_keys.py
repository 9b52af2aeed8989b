"""Each enclave of a running mesh looks for its own keys in what the tap recorded: none, until one is told."""

import pytest

from lab.mesh import RunningMesh
from lab.plan import COORDINATOR
from lab.tap import payloads
from schemas.subjects import Kind, Party, subject
from sealing.erasure import held_secrets
from tests.mesh.world import client_identity, eventually, joined
from transport import connect

pytestmark = pytest.mark.anyio


async def test_no_enclave_finds_a_key_until_one_is_published(mesh: RunningMesh) -> None:
    before = set(held_secrets())
    path = mesh.recording
    assert path is not None
    async with joined(mesh, client_identity(mesh)) as desk:
        held = [secret for secret in held_secrets() if secret not in before]
        # The secret of the mesh's group every enclave holds too, and the operators here, who follow the log.
        held += [secret for opener in desk.membership.mesh_openers() for secret in opener.secrets()]
        clean = await mesh.own_keys()
        assert set(clean) == {COORDINATOR, *mesh.machines}
        assert len(clean) == mesh.enclaves
        for name, report in clean.items():
            assert (report.found, report.control) == (0, True), name
            assert report.searched > 3, name  # a signing seed, two parts of a KEM key, an epoch's secret

        credentials = mesh.credentials(Party.CLIENT)
        async with connect(mesh.url, name="traitor", credentials=credentials) as transport:
            for secret in held:
                await transport.publish(subject(mesh.mesh.id, Kind.HELLO), secret.hex().encode())
            await transport.flush()
        await eventually(lambda: any(held[-1].hex().encode() in each for each in payloads(path)))
        for name, report in (await mesh.own_keys()).items():
            assert report.found > 0, name
            assert report.control, name
