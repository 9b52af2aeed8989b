"""What the scheduler counts. Numbers only: no token, no task id, nothing that a log must not hold."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Totals since the start, one meaning each."""

    received: int = 0  # messages of the stream, whatever became of them
    done: int = 0
    undeliverable: int = 0  # done after having been dead-lettered
    expired: int = 0
    returned: int = 0  # handed back to the stream
    assigned: int = 0
    dead_lettered: int = 0
    reasked: int = 0  # assigned to their holder once more, because it stopped speaking of them
    silent: int = 0  # assignments that a live agent let pass
    handed_back: int = 0
    lost: int = 0  # assignments whose agent fell silent altogether
    redelivered: int = 0  # messages that are in flight here already
    repeated: int = 0  # messages of tasks that were done a moment ago
    adopted: int = 0  # messages sent to an agent that spoke of their task first
    superseded: int = 0  # messages of a task in flight under another frame
    malformed_tasks: int = 0
    oversize_tasks: int = 0
    loads: int = 0
    malformed_loads: int = 0
    refused_loads: int = 0  # names that are not the sender's, a full house, floods
    unknown_statuses: int = 0  # of tasks that are not in flight here
    foreign_statuses: int = 0  # of tasks that the sender was never assigned
    idle_statuses: int = 0  # that change nothing where the task stands
    agents_seen: int = 0
    agents_lost: int = 0
    send_failures: int = 0
    dropped_loads: int = 0  # by the transport, because we were too slow


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is in our hands now."""

    agents: int
    classes: int
    waiting: int
    in_flight: int
    held_bytes: int


def totals(counters: Counters, gauges: Gauges) -> dict[str, int]:
    """Return everything as one flat table."""
    return asdict(counters) | asdict(gauges)
