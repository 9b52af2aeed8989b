"""What a machine measures: one change, exactly the measurements that it must change."""

import dataclasses
import importlib
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from lab.image import Builder, Spec
from lab.launch import REDACTION_DISTRIBUTIONS, agent_spec, coordinator_spec
from lab.layers import CACHE, Store, measure, read_layer
from schemas.errors import UsageError
from schemas.evidence import MEASURED, PLATFORMS


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package, a distribution and an agent that a test may change."""
    root = tmp_path / "sources"
    (root / "toypackage" / "inner").mkdir(parents=True)
    (root / "toypackage" / "__init__.py").write_text("")
    (root / "toypackage" / "table.bin").write_bytes(b"\x00")
    (root / "toypackage" / "inner" / "__init__.py").write_text("A = 1\n")
    (root / "toylibrary.py").write_text("A = 1\n")
    information = root / "toylibrary-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toylibrary\nVersion: 1.0\n")
    (information / "RECORD").write_text(
        "toylibrary.py,,\n__pycache__/toylibrary.cpython-311.pyc,,\n../../bin/toy,,\ntoylibrary-1.0.dist-info/RECORD,,\n"
    )
    (root / "agent.py").write_text("print('an agent')\n")
    monkeypatch.syspath_prepend(str(root))
    importlib.invalidate_caches()
    return root


@pytest.fixture
def spec(sources: Path) -> Spec:
    return Spec(
        module="toypackage",
        packages=("toypackage",),
        distributions=("toylibrary",),
        anchor=b"an anchor",
        agent=sources / "agent.py",
        arguments=("--fast",),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "layers")


def measured(spec: Spec) -> dict[str, dict[str, bytes]]:
    image = Builder(Store(Path("unused"))).build(spec)
    return {platform: image.measurements(platform) for platform in PLATFORMS}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def test_every_measured_register_has_a_value_of_its_size(spec: Spec) -> None:
    for platform, values in measured(spec).items():
        assert tuple(values) == MEASURED[platform]
        assert {len(value) for name, value in values.items() if name != "host_data"} == {48}


def test_measurements_are_the_same_each_time(spec: Spec) -> None:
    assert measured(spec) == measured(spec)


def test_a_machine_is_measured_with_its_mesh(spec: Spec) -> None:
    mesh = sha256(b"an anchor").digest()
    values = measured(spec)
    assert values["sev-snp"]["host_data"] == mesh
    assert values["tdx"]["mrconfigid"] == mesh + bytes(16)


Change = Callable[[Spec, Path], Spec]


def change_agent(spec: Spec, sources: Path) -> Spec:
    flip(sources / "agent.py")
    return spec


def change_dependency(spec: Spec, sources: Path) -> Spec:
    flip(sources / "toylibrary.py")
    return spec


def change_package(spec: Spec, sources: Path) -> Spec:
    flip(sources / "toypackage" / "inner" / "__init__.py")
    return spec


def add_package_data(spec: Spec, sources: Path) -> Spec:
    (sources / "toypackage" / "more.bin").write_bytes(b"")
    return spec


def change_argument(spec: Spec, sources: Path) -> Spec:
    return dataclasses.replace(spec, arguments=("--fest",))


def change_environment(spec: Spec, sources: Path) -> Spec:
    return dataclasses.replace(spec, environment={"LANG": "C"})


def change_module(spec: Spec, sources: Path) -> Spec:
    return dataclasses.replace(spec, module="toypackage.inner")


def change_anchor(spec: Spec, sources: Path) -> Spec:
    return dataclasses.replace(spec, anchor=b"an anchos")


@pytest.mark.parametrize(
    ("change", "tdx", "other"),
    [
        (change_agent, {"rtmr1"}, {"measurement", "pcr0", "pcr2"}),
        (change_argument, {"rtmr1"}, {"measurement", "pcr0", "pcr2"}),
        (change_environment, {"rtmr1"}, {"measurement", "pcr0", "pcr2"}),
        (change_module, {"rtmr1"}, {"measurement", "pcr0", "pcr2"}),
        (change_package, {"rtmr0"}, {"measurement", "pcr0", "pcr2"}),
        (add_package_data, {"rtmr0"}, {"measurement", "pcr0", "pcr2"}),
        (change_dependency, {"mrtd"}, {"measurement", "pcr0", "pcr1"}),
        (change_anchor, {"rtmr2", "mrconfigid"}, {"measurement", "host_data", "pcr0", "pcr2"}),
    ],
)
def test_one_change_shows_in_exactly_the_registers_that_cover_it(
    spec: Spec, sources: Path, change: Change, tdx: set[str], other: set[str]
) -> None:
    before = measured(spec)
    after = measured(change(spec, sources))
    changed = {
        name
        for platform in PLATFORMS
        for name in MEASURED[platform]
        if before[platform][name] != after[platform][name]
    }
    assert changed == tdx | other


def test_a_renamed_agent_file_is_the_same_agent(spec: Spec, sources: Path) -> None:
    renamed = shutil.copy(sources / "agent.py", sources / "renamed.py")
    assert measured(spec) == measured(dataclasses.replace(spec, agent=Path(renamed)))


def test_caches_and_leftovers_of_editors_are_no_part_of_an_image(spec: Spec, sources: Path) -> None:
    before = measured(spec)
    (sources / "toypackage" / CACHE).mkdir()
    (sources / "toypackage" / CACHE / "__init__.cpython-311.pyc").write_bytes(b"foreign")
    (sources / "toypackage" / "inner.pyc").write_bytes(b"foreign")
    (sources / "toypackage" / ".table.bin.swp").write_bytes(b"")
    (sources / "toypackage" / "table.bin~").write_bytes(b"")
    assert measured(spec) == before


def test_a_part_of_a_package_leaves_its_other_parts_out(spec: Spec) -> None:
    image = Builder(Store(Path("unused"))).build(dataclasses.replace(spec, packages=("toypackage.inner",)))
    assert set(image.application.digests) == {"toypackage/__init__.py", "toypackage/inner/__init__.py"}


def test_an_interpreter_is_measured_with_its_library_and_its_modules(spec: Spec) -> None:
    names = set(Builder(Store(Path("unused"))).build(spec).interpreter.digests)
    assert any(name.startswith("bin/python") for name in names)
    assert any(name.endswith("/asyncio/tasks.py") for name in names)
    assert any("/lib-dynload/" in name and name.endswith(".so") for name in names)
    assert not any("site-packages" in name or CACHE in name for name in names)
    maps = Path("/proc/self/maps").read_text()
    assert ("/libpython" in maps) == any(name.startswith("lib/libpython") for name in names)


def test_the_images_of_the_demo_can_be_built(sources: Path) -> None:
    builder = Builder(Store(Path("unused")))
    agent = builder.build(agent_spec(b"anchor", sources / "agent.py", distributions=REDACTION_DISTRIBUTIONS))
    assert any(name.startswith("_cffi_backend") for name in agent.site.digests)
    assert any(name.startswith("phonenumbers/data/") for name in agent.site.digests)
    coordinator = builder.build(coordinator_spec(b"anchor"))
    assert not any(name.startswith("phonenumbers") for name in coordinator.site.digests)
    assert not any(name.startswith("agent_runtime") for name in coordinator.application.digests)
    assert not any(name.startswith("lab") for name in agent.application.digests)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"agent": Path("/nowhere/agent.py")}, "cannot read /nowhere/agent.py"),
        ({"distributions": ("no-such-distribution",)}, "pip install"),
        ({"packages": ("no_such_package",)}, "no_such_package is not installed"),
    ],
)
def test_what_is_missing_is_named(spec: Spec, change: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        measured(dataclasses.replace(spec, **change))  # type: ignore[arg-type]


def test_an_unknown_platform_is_refused(spec: Spec) -> None:
    with pytest.raises(UsageError, match="not a platform"):
        Builder(Store(Path("unused"))).build(spec).measurements("sgx")


def test_a_staged_layer_is_what_was_read(store: Store, sources: Path) -> None:
    layer = read_layer({"a/b.py": sources / "agent.py", "c": b"bytes"})
    path = store.stage(layer)
    assert measure(path)[0] == layer.digest
    assert (path / "a/b.py").read_bytes() == (sources / "agent.py").read_bytes()
    assert (path / "c").read_bytes() == b"bytes"


def alter_a_byte(path: Path) -> None:
    (path / "a.py").chmod(0o600)
    flip(path / "a.py")


def add_a_file(path: Path) -> None:
    (path / "added.py").write_text("")


def remove_a_file(path: Path) -> None:
    (path / "a.py").unlink()


def plant_bytecode(path: Path) -> None:
    (path / CACHE).mkdir(exist_ok=True)
    (path / CACHE / "a.cpython-311.pyc").write_bytes(b"planted")


def replace_by_a_link(path: Path) -> None:
    elsewhere = path.parent / "elsewhere.py"
    shutil.move(path / "a.py", elsewhere)
    (path / "a.py").symlink_to(elsewhere)


@pytest.mark.parametrize(
    "tamper", [alter_a_byte, add_a_file, remove_a_file, plant_bytecode, replace_by_a_link]
)
def test_a_staged_layer_that_was_altered_is_staged_anew(store: Store, tamper: Callable[[Path], None]) -> None:
    layer = read_layer({"a.py": b"A = 1\n"})
    path = store.stage(layer)
    before = measure(path)
    tamper(path)
    assert measure(path) != before
    assert store.stage(layer) == path
    assert measure(path) == before


def test_a_half_staged_layer_is_never_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = read_layer({"a.py": b"A = 1\n", "b.py": b"B = 1\n"})

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(UsageError, match="No space left"):
            store.stage(layer)
    assert measure(store.stage(layer))[0] == layer.digest


def test_a_source_that_changes_while_it_is_staged_is_noticed(store: Store, sources: Path) -> None:
    layer = read_layer({"agent.py": sources / "agent.py"})
    flip(sources / "agent.py")
    with pytest.raises(UsageError, match="changed while it was measured"):
        store.stage(layer)


def test_pruning_keeps_what_is_in_use(store: Store, tmp_path: Path) -> None:
    kept, gone = read_layer({"a.py": b"A = 1\n"}), read_layer({"a.py": b"A = 2\n"})
    paths = [store.stage(kept), store.stage(gone)]
    store.prune({kept.digest})
    assert [path.exists() for path in paths] == [True, False]
    assert sorted(os.listdir(tmp_path / "layers")) == [paths[0].name, f"{paths[0].name}.bytecode"]
