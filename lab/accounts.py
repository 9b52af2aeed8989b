"""The broker's accounts, from the subject table: one NKey per kind of party.

Not for secrecy, but so that a stranger cannot spend the broker. An account says what kind of party may
use which subjects; who somebody is, the mesh finds out for itself.
"""

from collections.abc import Mapping

from lab.broker import BrokerUser, make_nkey, public_key
from lab.state import ACCOUNTS, State
from schemas.subjects import RESULT_STREAM, TABLE, TASK_STREAM, Party, every, stream_name
from sealing.context import Mesh
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
        access += consuming(stream_name(mesh, RESULT_STREAM), ONE_EACH, sole=True)
    if party is Party.SCHEDULER:
        for stream in (TASK_STREAM, RESULT_STREAM):
            access += creating_stream(stream_name(mesh, stream))
        access += consuming(stream_name(mesh, TASK_STREAM), ONE_EACH)
    return access


def draw_accounts(state: State, mesh: Mesh) -> tuple[tuple[BrokerUser, ...], dict[str, str]]:
    """Draw new accounts and save their seeds; return what the broker is told, and the seeds by party."""
    seeds = {}
    for party in Party:
        seeds[party.value], _ = make_nkey()
        state.save(_file(party), seeds[party.value].encode())
    return users_of(seeds, mesh), seeds


def saved_accounts(state: State) -> dict[str, str]:
    """Return the seeds that were drawn, by party; none on a broker of somebody else's."""
    return {party.value: state.load(_file(party)).decode() for party in Party if state.has(_file(party))}


def users_of(seeds: Mapping[str, str], mesh: Mesh) -> tuple[BrokerUser, ...]:
    """Return what a broker is told about the accounts of these seeds."""
    return tuple(
        BrokerUser(name=name, nkey_public=public_key(seed), access=access_for(Party(name), mesh.id))
        for name, seed in seeds.items()
    )


def _file(party: Party) -> str:
    return f"{ACCOUNTS}/{party.value}.seed"
