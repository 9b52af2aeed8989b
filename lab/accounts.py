"""The broker's accounts, from the subject table: one NKey per kind of party.

Not for secrecy, but so that a stranger cannot spend the broker. An account says what kind of party may
use which subjects; who somebody is, the mesh finds out for itself.
"""

from schemas.subjects import RESULT_STREAM, TABLE, TASK_STREAM, Party, every, stream_name
from transport import Access, appending, consuming, creating_stream, publishing, subscribing
from transport.access import DEFAULT_INBOX

ONE_EACH = "*"  # durable consumers: the scheduler has one for each class, a submitter one for its results


def access_for(party: Party, mesh: bytes) -> Access:
    """Return what a kind of party may publish and subscribe to."""
    access = subscribing(f"{DEFAULT_INBOX}.>")  # every connection listens there for the broker's answers
    for row in TABLE:
        subject = every(mesh, row.kind)
        if party in row.publishers:
            access += appending(subject) if row.stream else publishing(subject)
        # What is in a stream is read through a consumer, not by subscribing to its subjects.
        if party in row.subscribers and not row.stream:
            access += subscribing(subject)
    if party in (Party.AGENT, Party.CLIENT):
        access += consuming(stream_name(mesh, RESULT_STREAM), ONE_EACH)
    if party is Party.SCHEDULER:
        for stream in (TASK_STREAM, RESULT_STREAM):
            access += creating_stream(stream_name(mesh, stream))
        access += consuming(stream_name(mesh, TASK_STREAM), ONE_EACH)
    return access
