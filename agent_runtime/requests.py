"""Requests of peers that were here: one that is repeated on any session is answered, not run again.

An id is kept until its call's deadline, after which the gate lets no repeat pass, and for as long as its
handler runs; whichever sessions and admissions of the peer come and go meanwhile. Never forgets an id for
want of room without refusing from then on what it could not tell from it.
"""

import heapq
from collections import OrderedDict
from collections.abc import Collection, Container

from agent_runtime.errors import RefusedError
from schemas.errors import Reason
from schemas.limits import (
    CALL_DEADLINE_MOST,
    MINUTE,
    PROCESSES_PER_PEER,
    REPLY_BYTES_KEPT,
    REQUESTS_PER_PEER,
)
from schemas.messages import Millis
from schemas.peer import Encoded
from sealing.errors import ReplayedError

_PROCESS = 8  # bytes of a request's id that name the process which asks; a number follows
# Ids looked at in one go. Of those in the way of what can be forgotten some are put behind it; the next
# look begins where this one ended.
_LOOKS = 256
_DROP_LEAST = 64
FORGET_LOOKS = 10_000  # ids and processes looked at by one `forget`: some 4 ms


class _Process:
    """What one process of a peer asked: ids with their deadlines, about in the order in which they came."""

    __slots__ = ("floor", "ids", "lasts")

    def __init__(self) -> None:
        self.ids: OrderedDict[bytes, Millis] = OrderedDict()
        # The highest number forgotten before its deadline, and the last of such deadlines, 0 if none was.
        self.floor, self.lasts = -1, 0


class _Peer:
    """What one peer asked: `count` ids, and kept replies of `size` bytes, the oldest first."""

    __slots__ = ("count", "processes", "replies", "size")

    def __init__(self) -> None:
        self.processes: OrderedDict[bytes, _Process] = OrderedDict()
        self.replies: OrderedDict[bytes, Encoded] = OrderedDict()
        self.count = self.size = 0


class RequestMemory:
    """Ids by peer instance and process, and replies within a limit, which costs the peer that holds the most.

    A repeat whose reply is gone is refused, never run. Of a peer that asks for more than can be kept, the
    process that asks pays: its oldest id is forgotten, and none of its up to that number is taken any more.
    What is `running`, by peer and request, is not forgotten.
    """

    def __init__(
        self,
        reply_bytes: int = REPLY_BYTES_KEPT,
        requests: int = REQUESTS_PER_PEER,
        processes: int = PROCESSES_PER_PEER,
    ) -> None:
        self.running: Container[tuple[bytes, bytes]] = ()
        self._reply_bytes = reply_bytes
        self._requests = requests
        self._processes = processes
        self._peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self._size = 0

    def begin(self, peer: bytes, request: bytes, *, until: Millis, now: Millis) -> Encoded | None:
        """Return the kept reply of a repeat, None for a new request; raise for what must not run."""
        if until - now > CALL_DEADLINE_MOST:
            raise RefusedError(Reason.CONSTRAINT_VIOLATED, "the deadline is too far ahead")
        asked = self._peers.get(peer)
        if asked is None:
            asked = self._peers[peer] = _Peer()
        process = asked.processes.get(request[:_PROCESS])
        if process is None:
            if len(asked.processes) >= self._processes:
                raise RefusedError(Reason.UNAVAILABLE, "too many processes of one peer have asked")
            process = asked.processes[request[:_PROCESS]] = _Process()
        elif request in process.ids:
            reply = asked.replies.get(request)
            if reply is None:
                raise ReplayedError("the request was here before")
            return reply
        elif process.lasts and int.from_bytes(request[_PROCESS:], "big") <= process.floor:
            raise ReplayedError("the request was here before, or is too late to tell")
        if asked.count >= self._requests:
            self._make_room(peer, asked, process)
        asked.count += 1
        process.ids[request] = until
        return None

    def finish(self, peer: bytes, request: bytes, reply: Encoded) -> None:
        """Keep the reply of a request: the first one, if it is kept still."""
        asked = self._peers.get(peer)
        if asked is None or request in asked.replies:
            return
        process = asked.processes.get(request[:_PROCESS])
        if process is None or request not in process.ids:
            return
        size = len(reply)
        asked.replies[request] = reply
        asked.size += size
        self._size += size
        while self._size > self._reply_bytes:
            self._drop_some()

    def forget(self, highest: Millis, revoked: Collection[bytes] = ()) -> None:
        """Forget what had passed before the highest time ever held, some of it each time.

        Of the `revoked` no reply is kept; their ids are, for a later policy may name them again.
        """
        for peer in self._peers.keys() & revoked:
            self._drop_replies(self._peers[peer])
        looks = FORGET_LOOKS
        for _ in range(len(self._peers)):
            if looks <= 0:
                return
            peer, asked = next(iter(self._peers.items()))
            # Whoever has much to forget keeps no other peer from its turn.
            self._peers.move_to_end(peer)
            looks = self._forget_of(peer, asked, highest, looks)
            if not asked.processes:
                del self._peers[peer]

    def _forget_of(self, peer: bytes, asked: _Peer, highest: Millis, looks: int) -> int:
        for _ in range(len(asked.processes)):
            name, process = next(iter(asked.processes.items()))
            # As among peers: one with much under way keeps no other process from its turn.
            asked.processes.move_to_end(name)
            looks -= 1
            passed_by = 0
            while process.ids and looks > 0 and passed_by < _LOOKS:
                request, until = next(iter(process.ids.items()))
                looks -= 1
                runs = until < highest and (peer, request) in self.running
                if until < highest and not runs:
                    self._drop(asked, process, request)
                elif runs or until - highest > MINUTE:
                    # Others behind it may have passed: most calls have less time than this one.
                    process.ids.move_to_end(request)
                    passed_by += 1
                else:
                    break
            if process.lasts < highest:
                process.floor, process.lasts = -1, 0
            if not (process.ids or process.lasts):
                del asked.processes[name]
            if looks <= 0:
                break
        return looks

    def _make_room(self, peer: bytes, asked: _Peer, process: _Process) -> None:
        if self._drop_oldest(peer, asked, process):
            return
        most = max(asked.processes.values(), key=lambda each: len(each.ids))
        if not self._drop_oldest(peer, asked, most):
            raise RefusedError(Reason.UNAVAILABLE, "too many requests of one peer are under way")

    def _drop_oldest(self, peer: bytes, asked: _Peer, process: _Process) -> bool:
        for _ in range(min(len(process.ids), _LOOKS)):
            request, until = next(iter(process.ids.items()))
            if (peer, request) in self.running:
                process.ids.move_to_end(request)
                continue
            process.floor = max(process.floor, int.from_bytes(request[_PROCESS:], "big"))
            process.lasts = max(process.lasts, until)
            self._drop(asked, process, request)
            return True
        return False

    def _drop(self, asked: _Peer, process: _Process, request: bytes) -> None:
        del process.ids[request]
        asked.count -= 1
        if request in asked.replies:
            self._drop_reply(asked, request)

    def _drop_reply(self, asked: _Peer, request: bytes) -> None:
        size = len(asked.replies.pop(request))
        asked.size -= size
        self._size -= size

    def _drop_some(self) -> None:
        """Let go of the oldest replies of whoever holds most, until another does, or enough are gone."""
        most, *others = heapq.nlargest(
            2, (each for each in self._peers.values() if each.replies), key=lambda each: each.size
        )
        next_size = others[0].size if others else 0
        # To find who holds most is a look at all: of peers that hold the same each one loses some at a time.
        floor, least = next_size // 2, _DROP_LEAST
        while most.replies and self._size > self._reply_bytes:
            if most.size <= (floor if least > 0 else next_size):
                break
            self._drop_reply(most, next(iter(most.replies)))
            least -= 1

    def _drop_replies(self, asked: _Peer) -> None:
        self._size -= asked.size
        asked.size = 0
        asked.replies.clear()
