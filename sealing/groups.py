"""Role and group keys: epoch secrets, handles, and the frames under them (docs/protocol.md section 3).

Whoever holds an epoch's secret opens every handle of it and derives every sender's key. A handle is
made new for each process, so no key is ever used by two processes and no counter is ever stored.
"""

from collections import OrderedDict
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.limits import GROUP_SENDERS, SESSION_WINDOW
from schemas.messages import MemberPackage, Millis, SenderPackage
from sealing.context import Mesh
from sealing.erasure import erase_on_fork
from sealing.errors import NotAuthenticError
from sealing.frames import (
    GROUP_HEADER,
    KIND_GROUP,
    KIND_TASK,
    SENDER_HEADER,
    TASK_HEADER,
    Aead,
    aead,
    check_shape,
    open_frame,
    seal,
)
from sealing.kdf import derive, token
from sealing.window import ReplayWindow

_NONCE = 12


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sealed a frame, as its handle says. Worth what the group's members are."""

    instance: bytes
    role_id: bytes


def make_handle(mesh: Mesh, package: MemberPackage, sender: Sender, nonce: bytes) -> bytes:
    """Return a new handle: the sender's instance and role under the epoch's secret, 76 bytes."""
    key = derive(package.secret, mesh, "handle", package.group, package.epoch)
    return nonce + AESGCM(key).encrypt(nonce, sender.instance + sender.role_id, None)


def sender_key(mesh: Mesh, package: MemberPackage, handle: bytes) -> bytes:
    """Return the key that belongs to a handle."""
    return derive(package.secret, mesh, "sender", package.group, package.epoch, handle)


def epoch_token(mesh: Mesh, package: MemberPackage) -> bytes:
    """Return the token by which frames name their epoch."""
    return token(package.secret, mesh, "token", package.group, package.epoch)


def sender_package(mesh: Mesh, package: MemberPackage, sender: Sender, nonce: bytes) -> SenderPackage:
    """Return what a permitted non-member gets for one process: a handle and its key, never the secret."""
    handle = make_handle(mesh, package, sender, nonce)
    return SenderPackage(
        package.group,
        package.epoch,
        handle,
        sender_key(mesh, package, handle),
        epoch_token(mesh, package),
        package.opens,
        package.last_seal,
        package.closes,
    )


class Sealer:
    """One process's right to seal under one epoch: a handle, its key and a counter."""

    def __init__(self, mesh: Mesh, package: SenderPackage) -> None:
        self.group, self.epoch, self.token = package.group, package.epoch, package.token
        self.opens, self.last_seal, self.closes = package.opens, package.last_seal, package.closes
        named = self.token, self.epoch, package.handle
        self._group = SENDER_HEADER.pack(mesh.suite, KIND_GROUP, *named)
        self._task = SENDER_HEADER.pack(mesh.suite, KIND_TASK, *named)
        self._cipher: Aead | None = aead(mesh, package.key)
        self._counter = 0
        erase_on_fork(self)

    def seal_group(self, body: bytes, subject: str) -> bytes:
        """Return a group frame for `subject`."""
        cipher, counter = self._next()
        header = self._group + counter.to_bytes(8, "big")
        return seal(cipher, header, counter, body, subject.encode())

    def seal_task(self, body: bytes, task_id: bytes) -> bytes:
        """Return a role frame; others move it, so no subject is bound."""
        cipher, counter = self._next()
        header = self._task + counter.to_bytes(8, "big") + task_id
        return seal(cipher, header, counter, body)

    def erase(self) -> None:
        """Drop the key."""
        self._cipher = None

    def secrets(self) -> tuple[bytes, ...]:
        """Return nothing: the key is inside the cipher alone."""
        return ()

    def _next(self) -> tuple[Aead, int]:
        if self._cipher is None:
            raise NotAuthenticError("the epoch's keys are erased")
        counter, self._counter = self._counter, self._counter + 1
        return self._cipher, counter


@dataclass(slots=True)
class _Known:
    sender: Sender
    cipher: Aead
    window: ReplayWindow


class Opener:
    """A member's side of one epoch: opens handles and what is sealed under them."""

    def __init__(self, mesh: Mesh, package: MemberPackage) -> None:
        self.group, self.epoch = package.group, package.epoch
        self.opens, self.last_seal, self.closes = package.opens, package.last_seal, package.closes
        self.token = epoch_token(mesh, package)
        self._mesh = mesh
        self._package: MemberPackage | None = package
        self._handle_cipher: AESGCM | None = AESGCM(
            derive(package.secret, mesh, "handle", package.group, package.epoch)
        )
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        erase_on_fork(self)

    def open_group(self, frame: bytes, subject: str) -> tuple[Sender, bytes]:
        """Return sender and body of a group frame that came on `subject`."""
        check_shape(self._mesh, frame, KIND_GROUP)
        _, _, named, epoch, handle, counter = GROUP_HEADER.unpack_from(frame)
        known = self._sender(named, epoch, handle)
        known.window.check(counter)
        body = bytes(open_frame(known.cipher, frame, GROUP_HEADER.size, counter, subject.encode()))
        known.window.mark(counter)
        self._keep(handle, known)
        return known.sender, body

    def open_task(self, frame: bytes) -> tuple[Sender, bytes, bytes]:
        """Return sender, task id and body of a role frame. Repeats are the seen-set's business."""
        check_shape(self._mesh, frame, KIND_TASK)
        _, _, named, epoch, handle, counter, task_id = TASK_HEADER.unpack_from(frame)
        known = self._sender(named, epoch, handle)
        body = bytes(open_frame(known.cipher, frame, TASK_HEADER.size, counter))
        self._keep(handle, known)
        return known.sender, task_id, body

    def reply_secret(self) -> bytes:
        """Return the epoch's secret, for `sealing.results.role_reply_key` alone."""
        return self._live().secret

    def name_token(self, kind: str, name: bytes) -> bytes:
        """Return the pseudonym of `name` in subjects of `kind` (mesh group only)."""
        return token(self._live().secret, self._mesh, "name", kind, name)

    def sealer(self, sender: Sender, nonce: bytes) -> Sealer:
        """Return a sealer of this process's own, as a member."""
        return Sealer(self._mesh, sender_package(self._mesh, self._live(), sender, nonce))

    def erase(self) -> None:
        """Drop the secret and everything derived from it."""
        self._package = None
        self._handle_cipher = None
        self._known.clear()

    def secrets(self) -> tuple[bytes, ...]:
        """Return the epoch's secret, for `sealing.erasure.held_secrets`."""
        return (self._package.secret,) if self._package is not None else ()

    def _live(self) -> MemberPackage:
        if self._package is None:
            raise NotAuthenticError("the epoch's keys are erased")
        return self._package

    def _sender(self, named: bytes, epoch: int, handle: bytes) -> _Known:
        # A known sender's word on the epoch is as little believed as a new one's: results repeat it.
        if named != self.token or epoch != self.epoch:
            raise NotAuthenticError("epoch")
        known = self._known.get(handle)
        if known is not None:
            return known
        package = self._live()
        if self._handle_cipher is None:
            raise NotAuthenticError("the epoch's keys are erased")
        try:
            opened = self._handle_cipher.decrypt(handle[:_NONCE], handle[_NONCE:], None)
        except (InvalidTag, ValueError) as error:
            raise NotAuthenticError("handle") from error
        return _Known(
            Sender(opened[:32], opened[32:]),
            aead(self._mesh, sender_key(self._mesh, package, handle)),
            ReplayWindow(SESSION_WINDOW),
        )

    def _keep(self, handle: bytes, known: _Known) -> None:
        # Only after a frame under it has opened, so junk cannot push honest senders out.
        if handle in self._known:
            self._known.move_to_end(handle)
            return
        self._known[handle] = known
        if len(self._known) > GROUP_SENDERS:
            self._known.popitem(last=False)


def frame_token(frame: bytes | memoryview) -> bytes:
    """Return the epoch token that stands in the clear in a role or group frame's header."""
    return bytes(frame[2:18])


def seals_at(package: Sealer | Opener, now: Millis) -> bool:
    """Tell whether an epoch may be sealed under at `now`."""
    return package.opens <= now <= package.last_seal
