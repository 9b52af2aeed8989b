"""The house rules that a machine can check: who imports whom, and whose names these are."""

import ast
import importlib.util
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
SERVICES = {"coordinator", "scheduler", "agent_runtime"}
UNTRUSTED_READERS = {"load", "loads", "CBORDecoder"}


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    """Every module as it is written, by the path of its file."""
    # Not at import: every worker imports this file, and one runs it.
    paths = [path for package in PACKAGES for path in sorted((HOME / package).rglob("*.py"))]
    return {str(path.relative_to(HOME)): ast.parse(path.read_bytes()) for path in paths}


def imported(tree: ast.Module) -> set[str]:
    """Return the full names that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([linter, "--no-cache"], cwd=HOME, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    contracts = len(PROJECT["tool"]["importlinter"]["contracts"])
    assert f"Contracts: {contracts} kept, 0 broken." in run.stdout


def test_the_contracts_look_at_every_package() -> None:
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == set(PACKAGES)
    assert {path.parent.name for path in HOME.glob("*/__init__.py")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_top_level_name_is_ours_alone(package: str) -> None:
    assert distribution("sealbus").metadata["Name"] == "sealbus"
    # An editable install lists no packages; whatever else does would shadow ours or be shadowed.
    assert set(packages_distributions().get(package, ["sealbus"])) == {"sealbus"}
    assert package not in sys.stdlib_module_names
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    homes = {HOME, Path(str(distribution("sealbus").locate_file("")))}
    assert Path(spec.origin).parents[1] in homes


def test_only_transport_imports_nats(modules: dict[str, ast.Module]) -> None:
    speakers = {name.partition("/")[0] for name, tree in modules.items() if "nats" in top(imported(tree))}
    # A benchmark measures against it.
    assert speakers == {"transport", "benchmarks"}


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_the_services_meet_on_the_wire_alone(service: str, modules: dict[str, ast.Module]) -> None:
    for name, tree in modules.items():
        if name.startswith(service + "/"):
            assert not top(imported(tree)) & (SERVICES - {service}), name


def test_strangers_bytes_meet_no_general_reader(modules: dict[str, ast.Module]) -> None:
    # `cbor2` runs tags, and takes exponential time over maps that are keys of maps: it only writes here.
    for name, tree in modules.items():
        names = imported(tree)
        assert not names & {f"cbor2.{reader}" for reader in UNTRUSTED_READERS}, name
        assert not top(names) & {"pickle", "marshal", "shelve", "yaml"}, name
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "cbor2"
            ):
                assert node.attr not in UNTRUSTED_READERS, name
