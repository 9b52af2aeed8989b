"""Who may do what: admission of attested agents, the registry, grants, group keys and beacons.

`Core` is the coordinator as a pure machine; `Service` puts it on a transport with a clock and a device.
"""

from coordinator.actions import Action, AppraisalRequest, Publish, Subscribe, Unsubscribe
from coordinator.core import Core
from coordinator.errors import RefusedError
from coordinator.service import Service

__all__ = [
    "Action",
    "AppraisalRequest",
    "Core",
    "Publish",
    "RefusedError",
    "Service",
    "Subscribe",
    "Unsubscribe",
]
