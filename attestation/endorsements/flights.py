"""Single flight: whoever asks for what is being fetched waits for that, in place of asking once more."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from attestation.endorsements.errors import EndorsementError

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.outcome: tuple[T] | EndorsementError | None = None


class Flights(Generic[T]):
    """What is under way, by name, within one event loop."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    async def fly(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """Return what `make` gives, or what one that is already under way under this name gives.

        An `EndorsementError` is everybody's. If the one who fetches is cancelled, the next one fetches.
        """
        while (flight := self._flights.get(name)) is not None:
            await flight.landed.wait()
            if isinstance(flight.outcome, EndorsementError):
                raise flight.outcome
            if flight.outcome is not None:
                return flight.outcome[0]
        flight = self._flights[name] = _Flight()
        try:
            value = await make()
            flight.outcome = (value,)
        except EndorsementError as error:
            flight.outcome = error
            raise
        finally:
            del self._flights[name]
            flight.landed.set()
        return value
