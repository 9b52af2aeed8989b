"""The console's own files about a mesh: what it has seen, receipts that it holds, the policy in force.

One folder for each mesh. Every file is replaced whole, under a lock, so that neither two consoles at once nor
one that is killed take the memory back.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from console.council_files import CHAIN, encode_chain, followed
from console.operating.acts import REVOCATION, ROLL, Act, decode_act
from console.operating.memory import NO_HASH, Memory, Sighting, advance, empty, learn
from console.policy import files
from schemas import codec
from schemas.codec import Message
from schemas.documents import LogReceipt, RevocationOrder
from schemas.errors import MalformedError, UsageError
from schemas.messages import LIFT, QUARANTINE, Bytes32, Event, Millis, Signed
from sealing.context import SUITES, Mesh, sha256
from sealing.cose import unverified_payload
from sealing.council import Council
from sealing.documents import open_message
from sealing.errors import SignatureError

STATE = "SEALBUS_STATE"
MAX_KEPT = 4 * 1024 * 1024  # an event of a MiB, its receipt, and room
MEMORY, LOCK, RECEIPTS, POLICY = "seen.cbor", "lock", "receipts", "policy.signed"
REVOCATIONS, ACT = "revocations", ".act"
PENDING = ".pending"  # in `receipts`, so that what could keep no receipt is not sent
NOTHING = Sighting(0, NO_HASH, 0, NO_HASH, 0, None)

T = TypeVar("T")


class KeptReceipt(Message, frozen=True):
    """An event with the coordinator's signed word that it is in force, and the key that signed."""

    event: Event
    receipt: Signed
    key: Bytes32


def default_state() -> Path:
    """Return where consoles keep what they have seen, unless they are told another place."""
    if named := os.environ.get(STATE):
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "sealbus"


def _is_there(path: Path) -> bool:
    """Tell whether a file was ever put here: a link that leads nowhere is damage, and not nothing."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    return True


def _read(path: Path, kind: type[T]) -> T:
    try:
        return codec.decode(files.read(path, MAX_KEPT), kind)
    except MalformedError as error:
        raise UsageError(f"{path} is damaged: take it from a backup, or remove it") from error


def _no_more_than_is_read(data: bytes, what: str) -> bytes:
    if len(data) > MAX_KEPT:
        raise UsageError(f"a {what} of {len(data)} bytes is too long to be kept: {MAX_KEPT} at most")
    return data


def text_of(event: Event) -> bytes:
    """Return what an event says, whoever signed it."""
    return unverified_payload(event.documents[0])


def _last_words(known: list[tuple[Event, int]]) -> list[tuple[Event, int]]:
    """Leave out what was said of an instance's quarantine before the last word about it."""
    try:
        orders = [codec.decode(text_of(event), RevocationOrder) for event, _ in known]
    except MalformedError as error:
        raise UsageError(
            "a revocation among the receipts is damaged: take it from a backup, or remove it"
        ) from error
    last: dict[str, tuple[Millis, bool]] = {}
    for each in orders:
        if each.kind in (QUARANTINE, LIFT):
            last[each.value] = max(last.get(each.value, (0, False)), (each.time, each.kind == QUARANTINE))
    return [
        pair
        for pair, each in zip(known, orders, strict=True)
        if each.kind not in (QUARANTINE, LIFT) or last[each.value] == (each.time, each.kind == QUARANTINE)
    ]


class Kept:
    """One mesh's folder, made when something is first kept in it."""

    def __init__(self, base: Path, mesh: bytes) -> None:
        self._mesh = mesh
        self.root = base / mesh.hex()

    def memory(self) -> Memory:
        """Return what was seen so far, or raise `UsageError` if the file is no memory of this mesh."""
        path = self.root / MEMORY
        if not _is_there(path):
            if beside := self._beside():
                raise UsageError(
                    f"{path} is gone, and {beside} beside it: take it from a backup; without it this "
                    "console believes whatever coordinator the operators ever ordered"
                )
            return empty(self._mesh)
        try:
            memory = codec.decode(files.read(path, MAX_KEPT), Memory)
        except (MalformedError, UsageError) as error:
            raise UsageError(
                f"{path} is damaged: take it from a backup; without it this console believes whatever "
                "coordinator the operators ever ordered"
            ) from error
        if memory.mesh != self._mesh:
            raise UsageError(f"{path} is about another mesh: put it where it came from")
        return memory

    def _beside(self) -> str:
        """Say what tells that there was a memory: it is written before anything else is."""
        if self._receipts(".cbor") or self._receipts(PENDING):
            return "receipts lie"
        if self._names(REVOCATIONS, ACT):
            return "revocations lie"
        return next((f"{name} lies" for name in (POLICY, CHAIN) if _is_there(self.root / name)), "")

    def note(self, seen: Sighting) -> None:
        """Remember what a coordinator showed, or raise `RememberedError` and remember nothing."""
        self._remember(seen, advance)

    def learn(self, seen: Sighting) -> None:
        """Remember what a receipt told."""
        self._remember(seen, learn)

    def _remember(self, seen: Sighting, step: Callable[[Memory, Sighting], Memory]) -> None:
        with self._locked():
            before = self.memory()
            after = step(before, seen)
            # Written before the first receipt is: from then on that it is gone is damage.
            if after != before or not _is_there(self.root / MEMORY):
                self._replace(self.root / MEMORY, codec.encode(after))

    def pend(self, event: Event) -> None:
        """Keep what is about to be sent, or raise `UsageError`: what is in force later is known here then."""
        path = self._pending(event)
        data = _no_more_than_is_read(codec.encode(event), event.kind)
        with self._locked():
            self._folder(path.parent)
            self._replace(path, data)

    def unpend(self, event: Event) -> None:
        """Forget what was to be sent: it was refused, or its receipt is kept."""
        self._pending(event).unlink(missing_ok=True)

    def keep(self, kept: KeptReceipt, *, term: int, index: int) -> Path:
        """Keep a receipt that was verified, in place of what was pending; return its file."""
        path = self.receipt(kept.event.kind, term=term, index=index)
        with self._locked():
            self._folder(path.parent)
            self._replace(path, codec.encode(kept))
            self.unpend(kept.event)
        return path

    def receipt(self, kind: str, *, term: int, index: int) -> Path:
        """Name the file of a receipt."""
        return self.root / RECEIPTS / f"{term:012}-{index:012}-{kind}.cbor"

    def revocations(self) -> list[Event]:
        """Return every revocation that this console sent and no coordinator refused, in their order."""
        return [event for event, _ in self._revocations()]

    def keep_known(self, act: Act) -> Path:
        """Keep a revocation that was signed here or is in force, with those who signed it.

        Raise `UsageError` for more than can be read again.
        """
        path = self.root / REVOCATIONS / f"{sha256(act.text).hex()}{ACT}"
        data = _no_more_than_is_read(codec.encode(act), act.kind)
        self.learn(NOTHING)  # the memory is written before anything else
        with self._locked():
            self._folder(path.parent)
            self._replace(path, data)
        return path

    def known(self) -> list[Act]:
        """Return every revocation that was signed here, whatever became of it, or seen in force."""
        found = [decode_act(files.read(path, MAX_KEPT), str(path)) for path in self._names(REVOCATIONS, ACT)]
        if any(act.kind != REVOCATION for act in found):
            raise UsageError(f"{self.root / REVOCATIONS} holds more than that: take it from a backup")
        return found

    def roll(self, named: bytes) -> Event | None:
        """Return the roll that an order names, if it was sent from here."""
        events = [_read(path, KeptReceipt).event for path in self._receipts(f"-{ROLL}.cbor")]
        for event in events + self._sent(ROLL):
            if sha256(event.documents[0]) == named:
                return event
        return None

    def unheard(self, term: int) -> list[Event]:
        """Return the revocations that no coordinator of this term or a later one has acknowledged here."""
        found = self._revocations()
        # What others signed again, after a change of operators, is the same revocation.
        heard = {text_of(event) for event, last in found if last >= term}
        return [event for event, last in found if last < term and text_of(event) not in heard]

    def _revocations(self) -> list[tuple[Event, int]]:
        """Return each revocation with the last term that acknowledged it, 0 for one without a receipt."""
        keys = {each.term: each.key for each in self.memory().keys}
        found: dict[tuple[bytes, ...], tuple[Event, int]] = {}
        for path in self._receipts(f"-{REVOCATION}.cbor"):
            kept = _read(path, KeptReceipt)
            first, last = found.get(kept.event.documents, (kept.event, 0))
            found[kept.event.documents] = (first, max(last, self._term(kept, path, keys)))
        for event in self._sent(REVOCATION):
            found.setdefault(event.documents, (event, 0))
        return _last_words(list(found.values()))

    def _term(self, kept: KeptReceipt, path: Path, keys: Mapping[int, bytes]) -> int:
        """Return the term of a receipt as the coordinator signed it: a file's name is anybody's word.

        So is the key in it. It has to be the one that was seen of that term; of a term that was not, or was
        forgotten, a receipt tells nothing, and what it is for is told again.
        """
        for suite in SUITES:
            try:
                receipt = open_message(kept.receipt, kept.key, Mesh(self._mesh, suite), "receipt", LogReceipt)
            except (MalformedError, SignatureError):
                continue
            if receipt.event == sha256(codec.encode(kept.event)):
                if keys.get(receipt.term, kept.key) != kept.key:
                    break
                return receipt.term if receipt.term in keys else 0
        raise UsageError(f"{path} is no receipt of what is in it: take it from a backup, or remove it")

    def orders(self) -> list[Event]:
        """Return every order that this console sent and no coordinator refused."""
        return [_read(path, KeptReceipt).event for path in self._receipts("-order.cbor")] + self._sent(
            "order"
        )

    def _sent(self, kind: str) -> list[Event]:
        waiting = [_read(path, Event) for path in self._receipts(PENDING)]
        return [event for event in waiting if event.kind == kind]

    def _receipts(self, ending: str) -> list[Path]:
        return self._names(RECEIPTS, ending)

    def _names(self, folder_name: str, ending: str) -> list[Path]:
        folder = self.root / folder_name
        if not _is_there(folder):
            return []
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            raise UsageError(f"cannot read {folder}: {error.strerror}") from error
        return [folder / name for name in names if name.endswith(ending) and not name.startswith(".")]

    def _pending(self, event: Event) -> Path:
        return self.root / RECEIPTS / f"{sha256(codec.encode(event)).hex()[:32]}{PENDING}"

    def keep_policy(self, signed: bytes) -> None:
        """Keep the signed policy that is in force: it says which coordinator to believe."""
        with self._locked():
            self._replace(self.root / POLICY, signed)

    def policy(self) -> bytes | None:
        """Return the signed policy that was last seen in force."""
        path = self.root / POLICY
        return files.read(path, files.MAX_SIGNED) if _is_there(path) else None

    def council(self, known: Council) -> Council:
        """Return the operators after every change that is known or was seen here, or raise `UsageError`."""
        path = self.root / CHAIN
        return followed(known, path) if _is_there(path) else known

    def keep_council(self, council: Council) -> None:
        """Keep how the operators became who they are, unless more is kept here."""
        if not council.version:
            return
        with self._locked():
            if self.council(council) is council:
                self._replace(self.root / CHAIN, encode_chain(council))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._folder(self.root) / LOCK
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, files.PRIVATE)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _folder(self, path: Path) -> Path:
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(f"cannot make {path}: {error.strerror}") from error
        return path

    def _replace(self, path: Path, data: bytes) -> None:
        files.replace(path, data)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a crash may bring the older file back
        finally:
            os.close(folder)
