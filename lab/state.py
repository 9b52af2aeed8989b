"""The lab's state directory: what `sealbus lab init` makes once and every later start reads.

It holds the operators' keys, the simulated chips' roots and the signed documents, and never anything
that an enclave made. A new one is built beside its place and moved there whole, so that one killed
in the middle is never taken for one that is finished; each file is replaced whole as well. One lab at a
time: an exclusive lock on the directory ends with the process that holds it, however that ends.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import UsageError

VERSION = "sealbus lab 2"
DEFAULT = Path(".sealbus/lab")
KEY_SIZE = 32
ROOM = 32 * 1024 * 1024  # what a small job records and stores, with a margin

ANCHOR = "anchor.cbor"
POLICY_TEXT = "policy.toml"
POLICY = "policy.signed"
PROFILE = "profile.signed"
ACCOUNTS = "accounts"  # at the broker, one for each kind of party
LOCK = "lock"
RUN = "run"  # what runs now: a lock for each part, which ends with the process that holds it

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class State:
    """Named bytes in a state directory. Made by `make_state` and `open_state`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def layers(self) -> Path:
        """Name the directory for `lab.layers.Store`."""
        return self.root / "layers"

    @property
    def logs(self) -> Path:
        """Name the directory for what the machines' children print."""
        return self.root / "logs"

    @property
    def broker(self) -> Path:
        """Name the directory for the embedded broker's streams."""
        return self.root / "broker"

    def command(self, name: str) -> str:
        """Write a command on this lab as a person pastes it into a shell."""
        return f"sealbus lab {name} --dir {shlex.quote(str(self.root))}"

    def load(self, name: str) -> bytes:
        """Read what was saved under `name`."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError as error:
            raise UsageError(
                f"{self.root} lacks {name}: remove the directory and run: sealbus lab init"
            ) from error
        except OSError as error:
            raise UsageError(f"cannot read {self._path(name)}: {error.strerror}") from error

    def save(self, name: str, data: bytes) -> None:
        """Replace what is saved under `name`, whole or not at all."""
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            for folder in reversed(path.relative_to(self.root).parents[:-1]):
                (self.root / folder).mkdir(exist_ok=True, mode=0o700)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UsageError(f"cannot write {path}: {error.strerror}; make room and try again") from error

    def require_room(self) -> None:
        """Raise `UsageError` if the disk is as good as full: what runs would fail in ways that say less."""
        free = shutil.disk_usage(self.root).free
        if free < ROOM:
            raise UsageError(
                f"only {free // 1_000_000} MB are free where {self.root} lies, for what a job stores and "
                "records: make room or name another place with --dir"
            )

    def has(self, name: str) -> bool:
        """Tell whether something is saved under `name`."""
        return self._path(name).is_file()

    def load_all(self, folder: str) -> dict[str, bytes]:
        """Read all that is saved directly under `folder`, by the rest of its name."""
        path = self._path(folder)
        names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
        return {name: self.load(f"{folder}/{name}") for name in names if not name.startswith(".")}

    def save_all(self, folder: str, files: dict[str, bytes]) -> None:
        """Save each of `files` under `folder`."""
        for name, data in files.items():
            self.save(f"{folder}/{name}", data)

    def load_root(self, platform: str) -> dict[str, bytes]:
        """Read the files of a platform's simulated root."""
        files = self.load_all(f"roots/{platform}")
        if not files:
            raise UsageError(f"{self.root} has no root for {platform}: remove it and run: sealbus lab init")
        return files

    def save_root(self, platform: str, files: dict[str, bytes]) -> None:
        """Save the files of a platform's simulated root."""
        self.save_all(f"roots/{platform}", files)

    def load_keys(self, kind: str) -> dict[str, bytes]:
        """Read the Ed25519 seeds of a kind of party ("operators", "clients", ...) by the holder's name."""
        seeds = {
            name.removesuffix(".key"): seed
            for name, seed in self.load_all(kind).items()
            if name.endswith(".key")
        }
        for name, seed in seeds.items():
            if len(seed) != KEY_SIZE:
                raise UsageError(f"{self.root}/{kind}/{name}.key is damaged: run sealbus lab init elsewhere")
        return seeds

    def save_key(self, kind: str, name: str, seed: bytes) -> None:
        """Save the Ed25519 seed of a party."""
        if len(seed) != KEY_SIZE:
            raise UsageError("an Ed25519 seed has 32 bytes")
        self.save(f"{kind}/{name}.key", seed)

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if not all(_PART.fullmatch(part) for part in parts):
            raise UsageError(f"{name!r} cannot name a file of the lab")
        return self.root.joinpath(*parts)


@contextlib.contextmanager
def make_state(root: Path = DEFAULT) -> Iterator[State]:
    """Make a state directory, locked: it is in its place only if the block ends without an error."""
    root = Path(os.path.abspath(root))
    if root.exists():
        raise UsageError(f"{root} exists already: use it, or remove it to start afresh")
    making = _making(root)
    try:
        making.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"cannot make {root}: {error.strerror}; name another place with --dir") from error
    with _lock(making):
        # Another lab may have been finished between the first look and the lock.
        if root.exists():
            raise UsageError(f"{root} was made by another lab at this moment: use it")
        _clear(making)
        state = State(making)
        try:
            state.save("version", VERSION.encode())
            yield state
            making.rename(root)
        except BaseException:
            _clear(making)  # keys of a lab that will never be
            raise
        state.root = root


@contextlib.contextmanager
def open_state(root: Path = DEFAULT, *, exclusive: bool = True) -> Iterator[State]:
    """Open a finished state directory; `exclusive` keeps other labs out, and is refused while one runs."""
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        making = _making(root)
        if (maker := holder(making / LOCK)) is not None:
            raise UsageError(f"the lab in {root} is being made, by process {maker}: ask again in a moment")
        unfinished = " (one was begun and not finished)" if making.is_dir() else ""
        raise UsageError(f"there is no lab in {root}{unfinished}: run: sealbus lab init --dir {root}")
    _check_private(root)
    try:
        version = (root / "version").read_text("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"{root} is not a lab's directory: name another with --dir") from error
    if version != VERSION:
        raise UsageError(
            f"{root} was made by another version of sealbus: remove it and run: sealbus lab init --dir {root}"
        )
    if not exclusive:
        yield State(root)
        return
    with _lock(root):
        yield State(root)


@contextlib.contextmanager
def hold_part(state: State, name: str) -> Iterator[None]:
    """Hold the lock of one part of a lab for as long as the block lasts; refused while another has it."""
    run = state.root / RUN
    try:
        run.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"cannot make {run}: {error.strerror}; make it writable") from error
    with _lock(state.root, f"{RUN}/{name}.lock", f"{name} of the lab in {state.root} runs already"):
        yield


def held_parts(root: Path) -> dict[str, int]:
    """Return the parts of a lab that run on this computer, with their processes."""
    found = {path.stem: holder(path) for path in sorted((root / RUN).glob("*.lock"))}
    return {name: pid for name, pid in found.items() if pid is not None}


def holder(lock: Path) -> int | None:
    """Return the process that holds a lock; None if nobody does, whatever is written in it."""
    try:
        with lock.open("rb") as file:
            try:
                # Shared, so that two who ask do not take each other for a holder.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                text = file.read(20).decode("ascii", "replace").strip()
                return int(text) if text.isdecimal() else None
    except OSError:
        return None
    return None


def _making(root: Path) -> Path:
    return root.with_name(f".{root.name}.making")


def _check_private(root: Path) -> None:
    mode = root.stat().st_mode
    if mode & 0o077:
        # As ssh does: keys that others could have read are not used in silence.
        raise UsageError(f"{root} holds keys and is open to other users: run: chmod 700 {root}")


def _clear(making: Path) -> None:
    for entry in making.iterdir():
        if entry.name == LOCK:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@contextlib.contextmanager
def _lock(root: Path, name: str = LOCK, taken: str = "") -> Iterator[None]:
    try:
        descriptor = os.open(root / name, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"cannot lock {root}: {error.strerror}") from error
    with open(descriptor, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = file.read(20).decode("ascii", "replace").strip() or "unknown"
            raise UsageError(
                f"{taken or f'another lab uses {root}'} (process {pid}): stop it (sealbus lab down "
                f"--dir {root}), or name another place with --dir"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        yield
