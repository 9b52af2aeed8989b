"""A change of the operators of a world: the last one goes, two others come."""

from schemas import codec
from schemas.documents import OperatorKey, Operators
from schemas.errors import PeerError
from schemas.messages import Event, Succession
from sealing.council import Council, add_signatures, would_be
from sealing.documents import sign_by_operators
from sealing.keys import SigningKey
from sealing.profile import profile_of
from tests.coordinator.world import World

DAN, EVE = SigningKey(b"\x04" * 32), SigningKey(b"\x05" * 32)


def change_of(world: World, **changes: object) -> Succession:
    """Return a change that nobody has signed: without op2, with dan and eve, three of four sign."""
    held = world.council
    fields = {
        "mesh": world.mesh.id,
        "version": held.version + 1,
        "previous": held.digest,
        "operators": (*held.operators[:2], OperatorKey("dan", DAN.public), OperatorKey("eve", EVE.public)),
        "threshold": 3,
        "reason": "op2 lost its key",
        "time": world.now,
    }
    return Succession(codec.encode(Operators(**{**fields, **changes})), ())  # type: ignore[arg-type]


def heirs_of(world: World) -> list[SigningKey]:
    """Return the keys of those who come after, as many as have to sign."""
    return [world.operators[0], DAN, EVE]


def signed_change(world: World, **changes: object) -> Succession:
    """Return a change that enough have signed."""
    keys = [*world.operators[:2], DAN, EVE]
    return add_signatures(world.council, change_of(world, **changes), keys)


def event_of(world: World, step: Succession | None = None, *, by: list[SigningKey] | None = None) -> Event:
    """Return the event of a change, with order and profile of the term as the new ones sign them."""
    standing = world.core.authority.standing
    chain = (*world.council.chain, step or signed_change(world))
    if standing.order is None:
        return Event("operators", (), None, chain)
    keys, heirs = by or heirs_of(world), would_follow(world, chain[-1])
    order = sign_by_operators(keys, heirs, "order", codec.encode(standing.order))
    profile = None
    if standing.policy is not None:
        text = codec.encode(profile_of(world.mesh, standing.policy))
        profile = sign_by_operators(keys, heirs, "profile", text)
    return Event("operators", order, profile, chain)


def would_follow(world: World, step: Succession) -> Council:
    """Return as whom those of after a change sign; those of now if it cannot follow."""
    try:
        return would_be(world.council, step)
    except PeerError:
        return world.council


def went_over(world: World, step: Succession) -> Council:
    """Have the world's operators be those of a change from here on; return those before them."""
    before, world.council = world.council, would_be(world.council, step)
    world.operators = heirs_of(world)
    return before
