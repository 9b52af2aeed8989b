"""The lab's store of images: content-addressed directories of files, measured before every use.

A layer is a set of files by their path in the image. Its digest is SHA-384 over the deterministic
CBOR of [label, [[path, SHA-384 of the bytes], ...]] in path order. What lies in the store under a
digest is read and hashed again each time it is asked for; what differs, by a byte or by a file too
many, is thrown away and staged anew from the sources.

Bytecode is the machine's own: compiled from the measured sources by the measured interpreter, and
used only while it hashes to what was written down when it was made. The state directory, which also
holds the simulated chips' keys, is trusted as hardware is; nothing outside it is.
"""

import hashlib
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.codec import encode
from schemas.errors import UsageError

LABEL = "sealbus lab layer 1"
CACHE = "__pycache__"
NAME_LENGTH = 40  # 160 bits of the digest name a directory; the whole digest is compared


@dataclass(frozen=True)
class Layer:
    """Files as they were when they were read: path in the image, digest and source."""

    digest: bytes
    digests: Mapping[str, bytes]
    sources: Mapping[str, Path | bytes]


@dataclass(frozen=True)
class Interpreter:
    """A staged interpreter: what to run, and how to make it load its own libpython."""

    root: Path
    executable: str  # relative to `root`
    libpython: str | None

    def command(self, *arguments: str) -> list[str]:
        """Build the command line: isolated, without site, without writing or trusting foreign bytecode."""
        return [str(self.root / self.executable), "-I", "-S", "-B", "-X", "utf8", *arguments]

    @property
    def directory(self) -> Path:
        """Name the working directory to start in, where `preload` finds the library."""
        return self.root / "lib"

    @property
    def preload(self) -> dict[str, str]:
        """Name the loader's settings that make the measured libpython win over any RPATH or RUNPATH.

        The path is relative because the loader splits LD_PRELOAD at blanks, which a path may contain.
        """
        return {"LD_PRELOAD": f"./{self.libpython}"} if self.libpython else {}


def read_layer(sources: Mapping[str, Path | bytes]) -> Layer:
    """Read and hash every file of a layer."""
    digests = {}
    for path in sorted(sources):
        source = sources[path]
        try:
            data = source if isinstance(source, bytes) else source.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {source!s}, which the image needs: {error.strerror}") from error
        digests[path] = hashlib.sha384(data).digest()
    return Layer(manifest_digest(digests), digests, dict(sources))


def manifest_digest(digests: Mapping[str, bytes]) -> bytes:
    """Hash a list of files."""
    return hashlib.sha384(encode([LABEL, [[path, digests[path]] for path in sorted(digests)]])).digest()


class Store:
    """Layers on disk. Not for use by two processes at once: the state directory's lock sees to it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._making = threading.Lock()  # machines stage in threads

    def stage(self, layer: Layer, interpreter: Interpreter | None = None) -> Path:
        """Return the directory that holds exactly `layer`, having just hashed every byte of it.

        With an interpreter the layer's modules are compiled by it, once.
        """
        path = self._path(layer)
        if not self._holds(path, layer):
            with self._making:
                # Another machine may have staged it meanwhile.
                if not self._holds(path, layer):
                    shutil.rmtree(path, ignore_errors=True)
                    self._make(layer, path, interpreter)
        return path

    def stage_interpreter(self, layer: Layer) -> Interpreter:
        """Stage the layer that holds `bin/python*` and, where it is shared, `lib/libpython*`."""
        executable = next(name for name in layer.digests if name.startswith("bin/python"))
        library = next((name for name in layer.digests if name.startswith("lib/libpython")), None)
        staged = Interpreter(self._path(layer), executable, library and library.removeprefix("lib/"))
        self.stage(layer, staged)
        return staged

    def prune(self, keep: set[bytes]) -> None:
        """Remove every layer whose digest is not among `keep`."""
        names = {digest.hex()[:NAME_LENGTH] for digest in keep}
        for entry in self._root.iterdir() if self._root.is_dir() else ():
            if entry.name.split(".")[0] in names:
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _path(self, layer: Layer) -> Path:
        return self._root / layer.digest.hex()[:NAME_LENGTH]

    def _make(self, layer: Layer, path: Path, interpreter: Interpreter | None) -> None:
        making = path.with_name(f"{path.name}.making-{secrets.token_hex(4)}")
        try:
            for name, source in layer.sources.items():
                target = making / name
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                data = source if isinstance(source, bytes) else source.read_bytes()
                target.write_bytes(data)
                target.chmod(0o500 if name.startswith("bin/python") else 0o400)
            making.mkdir(parents=True, exist_ok=True, mode=0o700)
            if measure(making)[0] != layer.digest:
                raise UsageError("a file of the image changed while it was measured; start again")
            if interpreter is not None:
                compile_layer(making, making if interpreter.root == path else interpreter.root, interpreter)
            # The record first: a directory in its place always has one.
            _bytecode_record(path).write_bytes(measure(making)[1])
            making.rename(path)
        except OSError as error:
            raise UsageError(
                f"cannot stage an image in {self._root}: {error.strerror}; make room or choose another --dir"
            ) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _holds(self, path: Path, layer: Layer) -> bool:
        try:
            known = _bytecode_record(path).read_bytes()
            return measure(path) == (layer.digest, known)
        except FileNotFoundError:
            return False


def compile_layer(root: Path, home: Path, interpreter: Interpreter) -> None:
    """Compile the layer at `root` with the interpreter staged at `home`.

    Unchecked: the store compares both sides by hash, so the import system need not look at times.
    """
    compiler = Interpreter(home, interpreter.executable, interpreter.libpython)
    options = ["-W", "ignore", "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash"]
    # Modules that do not compile cannot be imported either: its exit status says nothing more.
    subprocess.run(
        compiler.command(*options, str(root)),
        cwd=compiler.directory,
        env=compiler.preload,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
    )


def measure(root: Path) -> tuple[bytes, bytes]:
    """Hash every file below `root`: the digest of the layer that lies there, and of its bytecode."""
    sources: dict[str, bytes] = {}
    bytecode: dict[str, bytes] = {}
    pending = [("", sources)]
    while pending:
        prefix, digests = pending.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    inside = bytecode if entry.name == CACHE else digests
                    pending.append((name + "/", inside))
                elif entry.is_file(follow_symlinks=False):
                    with open(entry.path, "rb", buffering=0) as file:
                        digests[name] = hashlib.sha384(file.readall()).digest()
                else:
                    digests[name] = b""  # a link or device is never staged: no digest is its digest
    return manifest_digest(sources), manifest_digest(bytecode)


def _bytecode_record(path: Path) -> Path:
    return path.with_name(f"{path.name}.bytecode")
