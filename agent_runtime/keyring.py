"""The epoch keys of one process: openers for the groups it is of, sealers for those it may seal to.

The first package of an epoch is kept for the life of the process and later ones of the same token are
ignored: a handle restarted at counter 0 would repeat a nonce.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from agent_runtime.errors import RefusedError
from agent_runtime.trust import MESH_GROUP
from schemas.documents import OpenEpoch
from schemas.errors import Reason
from schemas.messages import Holdings, Millis
from sealing.context import Mesh
from sealing.errors import NotAuthenticError
from sealing.groups import Opener, Sealer, Sender, epoch_token, seals_at

EpochKey = tuple[str, int]
CLOSED_KEPT = 256  # epochs turn hourly and on evictions: this spans days


class Keyring:
    """Openers and sealers by group and epoch."""

    def __init__(self, mesh: Mesh, own: Sender, random: Callable[[int], bytes]) -> None:
        self._mesh = mesh
        self._own = own
        self._random = random
        self._openers: dict[EpochKey, Opener] = {}
        self._by_token: dict[bytes, Opener] = {}
        self._sealers: dict[EpochKey, Sealer] = {}
        self._used: set[bytes] = set()
        self._closed: OrderedDict[bytes, None] = OrderedDict()

    def check(self, holdings: Holdings, groups: Iterable[str]) -> None:
        """Refuse member packages of groups that the own roles are not of."""
        allowed = {MESH_GROUP, *groups}
        if any(package.group not in allowed for package in holdings.members):
            raise NotAuthenticError("a package of another group")

    def add(self, holdings: Holdings) -> None:
        """Take the packages that are new."""
        for package in holdings.members:
            key = (package.group, package.epoch)
            held = self._openers.get(key)
            if held is None or held.token != epoch_token(self._mesh, package):
                self._drop(key)
                opener = Opener(self._mesh, package)
                self._openers[key] = self._by_token[opener.token] = opener
        for sender in holdings.senders:
            key = (sender.group, sender.epoch)
            known = self._sealers.get(key)
            if key in self._openers or (known is not None and known.token == sender.token):
                continue
            # Whatever becomes of an epoch, a handle that once sealed here never begins again at 0.
            if sender.handle not in self._used:
                self._drop(key)
                self._used.add(sender.handle)
                self._sealers[key] = Sealer(self._mesh, sender)

    def keep_only(self, open_epochs: Iterable[EpochKey]) -> None:
        """Erase every epoch that is not open any more."""
        kept = set(open_epochs)
        for key in [key for key in (*self._openers, *self._sealers) if key not in kept]:
            self._drop(key)

    def holds(self, epochs: Iterable[OpenEpoch]) -> bool:
        """Tell whether the keys of all these epochs are here."""
        return all(
            held is not None and held.token == epoch.token
            for epoch in epochs
            for key in [(epoch.group, epoch.epoch)]
            for held in [self._openers.get(key) or self._sealers.get(key)]
        )

    def opener(self, token: bytes) -> Opener | None:
        """Return the opener that a frame's token names."""
        return self._by_token.get(token)

    def was_closed(self, token: bytes) -> bool:
        """Tell whether a token is of an own epoch that closed: nobody will open it any more."""
        return token in self._closed

    def openers(self, group: str) -> list[Opener]:
        """Return the openers of a group, newest epoch first."""
        return [self._openers[key] for key in sorted(self._openers, reverse=True) if key[0] == group]

    def current(self, group: str, now: Millis) -> Opener:
        """Return the opener of the newest epoch of an own group that is open for sealing."""
        for opener in self.openers(group):
            if seals_at(opener, now):
                return opener
        raise RefusedError(Reason.EPOCH_UNKNOWN, f"no open epoch of {group}")

    def sealer(self, group: str, now: Millis) -> Sealer:
        """Return the sealer of the newest epoch of `group` that may be sealed under at `now`."""
        for opener in self.openers(group):
            key = (group, opener.epoch)
            if key not in self._sealers:
                self._sealers[key] = opener.sealer(self._own, self._random(12))
        for key in sorted(self._sealers, reverse=True):
            if key[0] == group and seals_at(self._sealers[key], now):
                return self._sealers[key]
        raise RefusedError(Reason.EPOCH_UNKNOWN, f"no open epoch of {group}")

    def _drop(self, key: EpochKey) -> None:
        opener = self._openers.pop(key, None)
        if opener is not None:
            del self._by_token[opener.token]
            opener.erase()
            self._closed[opener.token] = None
            if len(self._closed) > CLOSED_KEPT:
                self._closed.popitem(last=False)
        sealer = self._sealers.pop(key, None)
        if sealer is not None:
            sealer.erase()
