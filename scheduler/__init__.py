"""The untrusted scheduler: decides where a task runs, without seeing what it is.

It imports neither `sealing` nor `attestation`, holds no key and keeps no truth: kill it at any moment
and another one resumes from the stream. `core` decides, `service` does.
"""

from scheduler.core import Core
from scheduler.service import Service, host_clock, streams

__all__ = ["Core", "Service", "host_clock", "streams"]
