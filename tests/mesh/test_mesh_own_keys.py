"""Each enclave of a running mesh looks for its own keys in what the tap recorded: none, until one is told."""

import pytest

from lab.mesh import RunningMesh
from schemas.subjects import Kind, Party, subject
from sealing.erasure import held_secrets
from tests.mesh.world import client_identity, joined
from transport import connect

pytestmark = pytest.mark.anyio


async def test_no_enclave_finds_a_key_until_one_is_published(mesh: RunningMesh) -> None:
    before = set(held_secrets())
    async with joined(mesh, client_identity(mesh)) as node:
        # A client is of the mesh's group: that secret it shares with every enclave, its own seed with none.
        own = {*node.membership.identity.key.secrets()} if node.membership.identity.key else set()
        shared = {secret for secret in held_secrets() if secret not in before} - own
        await mesh.recorded()
        clean = await mesh.own_keys()
        assert set(clean) == {"coordinator", *mesh.machines} - ({"coordinator"} - set(clean))
        assert len(clean) == mesh.enclaves
        for name, report in clean.items():
            assert report.control, name
            assert report.found == 0, name
            assert report.searched >= 3, name  # a signing seed, two KEM parts and more

        async with connect(
            mesh.url, name="traitor", credentials=mesh.credentials(Party.CLIENT)
        ) as transport:
            for secret in shared:
                await transport.publish(subject(mesh.mesh.id, Kind.HELLO), secret)
            await transport.flush()
        await mesh.recorded()
        for name, report in (await mesh.own_keys()).items():
            assert report.found > 0, name
