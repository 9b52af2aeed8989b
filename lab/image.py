"""What a simulated machine measures and launches: interpreter, libraries, sealbus, agent, anchor.

An image is four layers (see `lab.layers`): the interpreter with the standard library, the
distributions on an explicit list, the sealbus packages on an explicit list, and the configuration
(agent file, module, arguments, environment, anchor). Nothing else can be imported in the child.

Not measured, as a guest's firmware would be: libc and the other shared libraries of the host's
system that the interpreter's extension modules link to.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lab.layers import CACHE, Interpreter, Layer, Store, read_layer
from schemas.codec import encode
from schemas.errors import UsageError
from schemas.evidence import NITRO, SEV_SNP, TDX

LABEL = "sealbus lab image 1"
ENVIRONMENT = {"LANG": "C.UTF-8", "TZ": "UTC"}

# Parts of the standard library that no enclave has a use for: what is not staged cannot be imported.
STANDARD_LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter"}
    | {"turtledemo", "turtle.py", "pydoc_data", "distutils", "venv"}
)
# Tables for naming places, carriers and zones, which nothing here asks for: 20 MB to hash and compile.
DISTRIBUTION_LEFT_OUT = ("phonenumbers/geodata/", "phonenumbers/carrierdata/", "phonenumbers/tzdata/")
# Needed by the listed ones on some versions of Python only.
OPTIONAL_DISTRIBUTIONS = frozenset({"exceptiongroup", "sniffio", "typing-extensions"})


@dataclass(frozen=True)
class Spec:
    """What to launch: the module that runs as `__main__`, and all that it can see."""

    module: str
    packages: tuple[str, ...]
    distributions: tuple[str, ...]
    anchor: bytes
    agent: Path | None = None  # seen by the module as `agent.py` in its working directory
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))


@dataclass(frozen=True)
class Image:
    """The digests of what was read, and the layers to launch."""

    spec: Spec
    interpreter: Layer
    site: Layer
    application: Layer
    configuration: Layer

    @property
    def digests(self) -> set[bytes]:
        """Name the layers, for `Store.prune`."""
        layers = (self.interpreter, self.site, self.application, self.configuration)
        return {layer.digest for layer in layers}

    def measurements(self, platform: str) -> dict[str, bytes]:
        """Say what the platform's Evidence shows of this image, by the names in `MEASURED`."""
        implementation = [sys.implementation.name, sys.implementation.cache_tag or "", sys.version]
        runtime = _digest("runtime", implementation, self.interpreter.digest, self.site.digest)
        packages = _digest("packages", self.application.digest)
        files = self.configuration.digests
        agent = _digest("agent", files.get("agent.py"), files["launch.json"])
        anchor = _digest("anchor", files["anchor.cbor"])
        mesh = hashlib.sha256(self.spec.anchor).digest()
        if platform == SEV_SNP:
            return {"measurement": _digest("all", runtime, packages, agent, anchor), "host_data": mesh}
        if platform == TDX:
            return {
                "mrtd": runtime,
                "rtmr0": packages,
                "rtmr1": agent,
                "rtmr2": anchor,
                "rtmr3": bytes(48),
                "mrconfigid": mesh.ljust(48, b"\0"),
            }
        if platform == NITRO:
            return {
                "pcr0": _digest("all", runtime, packages, agent, anchor),
                "pcr1": runtime,
                "pcr2": _digest("application", packages, agent, anchor),
            }
        raise UsageError(f"{platform!r} is not a platform that the lab simulates")


@dataclass(frozen=True)
class Staged:
    """An image on disk, every byte of it just hashed."""

    image: Image
    interpreter: Interpreter
    site: Path
    application: Path
    configuration: Path

    def command(self, descriptor: int) -> list[str]:
        """Build the command line of the child that inherits `descriptor`."""
        boot = str(self.interpreter.root / "bin/boot.py")
        paths = (str(self.site), str(self.application), str(self.configuration))
        return self.interpreter.command(boot, str(descriptor), *paths)

    @property
    def environment(self) -> dict[str, str]:
        """Build the environment to start with; `lab.boot` takes the loader's setting out again."""
        return {**self.image.spec.environment, **self.interpreter.preload}


class Builder:
    """Reads images from their sources and stages them.

    Interpreter and distributions are read from where they are installed once in a builder's life;
    sealbus packages, agent file and anchor at each `build`. `stage` hashes all that is launched, each time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._interpreter: Layer | None = None
        self._sites: dict[tuple[str, ...], Layer] = {}

    def build(self, spec: Spec) -> Image:
        """Read and hash all that `spec` names."""
        if self._interpreter is None:
            self._interpreter = read_layer(_interpreter_files())
        site = self._sites.get(spec.distributions)
        if site is None:
            site = self._sites[spec.distributions] = read_layer(_distribution_files(spec.distributions))
        application = read_layer(_package_files(spec.packages))
        return Image(spec, self._interpreter, site, application, read_layer(_configuration_files(spec)))

    def stage(self, image: Image) -> Staged:
        """Put the image into the store, or find it there, and hash every byte."""
        interpreter = self._store.stage_interpreter(image.interpreter)
        site = self._store.stage(image.site, interpreter)
        application = self._store.stage(image.application, interpreter)
        return Staged(image, interpreter, site, application, self._store.stage(image.configuration))


def _digest(label: str, *parts: object) -> bytes:
    return hashlib.sha384(encode([LABEL, label, *parts])).digest()


def _configuration_files(spec: Spec) -> dict[str, Path | bytes]:
    launch = {
        "module": spec.module,
        "arguments": list(spec.arguments),
        "environment": dict(sorted(spec.environment.items())),
    }
    files: dict[str, Path | bytes] = {
        "anchor.cbor": spec.anchor,
        "launch.json": json.dumps(launch, sort_keys=True).encode(),
    }
    if spec.agent is not None:
        files["agent.py"] = _read(spec.agent)
    return files


def _interpreter_files() -> dict[str, Path | bytes]:
    standard = Path(sysconfig.get_path("stdlib"))
    library = f"{sys.platlibdir}/{standard.name}"
    executable = Path(sys.executable).resolve()
    files: dict[str, Path | bytes] = {
        f"bin/{executable.name}" if executable.name.startswith("python") else "bin/python": executable,
        "bin/boot.py": Path(__file__).with_name("boot.py"),
    }
    for path in _walk(standard, STANDARD_LEFT_OUT):
        if path.suffix in {".py", ".so"}:
            files[f"{library}/{path.relative_to(standard).as_posix()}"] = path
    # Debian and others keep the extension modules elsewhere; the child looks for them here.
    dynamic = Path(sysconfig.get_config_var("DESTSHARED") or standard / "lib-dynload")
    if not dynamic.is_relative_to(standard):
        files |= {f"{library}/lib-dynload/{path.name}": path for path in sorted(dynamic.glob("*.so"))}
    shared = _libpython()
    if shared is not None:
        files[f"lib/{shared.name}"] = shared
    return files


def _libpython() -> Path | None:
    """Find the libpython that this very process runs on; None where it is linked into the executable."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[5] if line.count("/") else ""
        if Path(path).name.startswith("libpython"):
            return Path(path)
    return None


def _distribution_files(names: tuple[str, ...]) -> dict[str, Path | bytes]:
    files: dict[str, Path | bytes] = {}
    for name in names:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            if name in OPTIONAL_DISTRIBUTIONS:
                continue
            raise UsageError(f"{name} is not installed; run: pip install 'sealbus[lab]'") from error
        if distribution.files is None:
            raise UsageError(f"{name} was installed without a list of its files; install it with pip")
        for path in distribution.files:
            text = path.as_posix()
            if _is_part(path) and not text.startswith(DISTRIBUTION_LEFT_OUT):
                files[text] = Path(str(distribution.locate_file(path)))
    return files


def _is_part(path: PurePosixPath) -> bool:
    """Leave out scripts, bytecode and what the installer wrote about itself."""
    outside = ".." in path.parts or path.is_absolute()
    return not (outside or CACHE in path.parts or path.suffix in {".pyc", ".pth"}) and not path.parts[
        0
    ].endswith(".dist-info")


def _package_files(names: tuple[str, ...]) -> dict[str, Path | bytes]:
    files: dict[str, Path] = {}
    for name in names:
        top, *inner = name.split(".")
        found = importlib.util.find_spec(top)
        if found is None or not found.submodule_search_locations:
            raise UsageError(f"the package {top} is not installed; install sealbus")
        root = Path(next(iter(found.submodule_search_locations)))
        for depth in range(len(inner)):
            above = root.joinpath(*inner[:depth], "__init__.py")
            files[f"{top}/{above.relative_to(root).as_posix()}"] = above
        for path in _walk(root.joinpath(*inner), frozenset()):
            files[f"{top}/{path.relative_to(root).as_posix()}"] = path
    # Read once: what a developer edits between measuring and staging waits for the next launch.
    return {name: _read(path) for name, path in files.items()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}, which the image needs: {error.strerror}") from error


def _walk(root: Path, left_out: frozenset[str]) -> Iterator[Path]:
    """List the files below `root`, without caches, hidden files and what editors leave behind."""
    for directory, below, names in os.walk(root):
        below[:] = sorted(
            name
            for name in below
            if name not in left_out and name != CACHE and not name.startswith((".", "config-"))
        )
        for name in sorted(names):
            if name not in left_out and not name.startswith(".") and not name.endswith((".pyc", "~")):
                yield Path(directory, name)
