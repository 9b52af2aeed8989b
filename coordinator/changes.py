"""What changed lately, as beacons tell it: views by role, and instances that were revoked.

Pure. A beacon's size grows neither with the roles of a mesh nor with who was ever revoked: it lists so many
changes of so many minutes, and from which version of all views on the list is complete. Whoever is behind
that asks for its holdings. The recently revoked are a hint, and the hash of the whole set is the rule.
"""

from collections import OrderedDict
from collections.abc import Iterable

from schemas.limits import CHANGES_MOST, MINUTE, RECENTLY_REVOKED_MOST
from schemas.messages import Millis

TOLD_FOR = 5 * MINUTE

Versions = tuple[tuple[bytes, int], ...]


class Changes:
    """The changes of one coordinator, the latest last."""

    def __init__(self) -> None:
        self.version = 0  # of all views: one more whenever any of them changes
        self.since = 0
        self._current: dict[bytes, int] = {}
        self._changed: OrderedDict[bytes, tuple[int, Millis]] = OrderedDict()
        self._revoked: OrderedDict[bytes, Millis] = OrderedDict()

    def views(self, versions: Versions, now: Millis) -> None:
        """Note the current version of every role's view. A role that is gone is told as version 0."""
        current = dict(versions)
        changed = {role for role, version in versions if self._current.get(role) != version}
        changed |= self._current.keys() - current.keys()
        self._current = current
        if not changed:
            return
        self.version += 1
        for role in sorted(changed):
            self._changed.pop(role, None)
            self._changed[role] = self.version, now
        self._bound(now)

    def revoked(self, instances: Iterable[bytes], now: Millis) -> None:
        """Note who was put out."""
        for instance in instances:
            self._revoked[instance] = now
            self._revoked.move_to_end(instance)
        while len(self._revoked) > RECENTLY_REVOKED_MOST:
            self._revoked.popitem(last=False)

    def changed(self, now: Millis) -> Versions:
        """Return role id and version of every view that changed after version `since` of all views."""
        self._bound(now)
        return tuple(sorted((role, self._current.get(role, 0)) for role in self._changed))

    def recently_revoked(self, now: Millis, still: frozenset[bytes]) -> tuple[bytes, ...]:
        """Return who was put out lately and is `still` out."""
        while self._revoked and next(iter(self._revoked.values())) + TOLD_FOR <= now:
            self._revoked.popitem(last=False)
        return tuple(sorted(still.intersection(self._revoked)))

    def _bound(self, now: Millis) -> None:
        while self._changed:
            version, at = next(iter(self._changed.values()))
            if len(self._changed) <= CHANGES_MOST and now < at + TOLD_FOR:
                return
            self._changed.popitem(last=False)
            # Complete only from there on: whoever was brought up to date before it may miss this one.
            self.since = version
