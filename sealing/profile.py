"""The profile that a policy implies: they come out of one act and share their version. Pure."""

from schemas.documents import Profile
from schemas.limits import SECOND
from schemas.policy import Policy
from sealing.context import Mesh


def profile_of(mesh: Mesh, policy: Policy) -> Profile:
    """Return the profile that follows from a policy: what parties know of the coordinator beforehand."""
    return Profile(
        mesh=mesh.id,
        version=policy.version,
        issued=policy.issued,
        reference_values=policy.coordinator_values(),
        grace=policy.limits.grace_seconds * SECOND,
    )
