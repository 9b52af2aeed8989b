"""What a lab is made of: agents with their files and platforms, and what they may do to each other.

A TOML file beside the agents. Everything in it but the placement becomes the policy, to which
`sealbus lab init` adds what machines and keys turn out to be.
"""

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from msgspec import Meta, field

from schemas.codec import Document
from schemas.errors import UsageError
from schemas.evidence import PLATFORMS, SEV_SNP
from schemas.messages import Name
from schemas.policy import Limits, TaskClass
from schemas.rules import Rule
from schemas.toml_errors import read_toml

GROUP = "sealbus.blueprints"
DEFAULT = "redaction"
FILE = "blueprint.toml"

Platform = Annotated[str, Meta(pattern=f"^({'|'.join(PLATFORMS)})$")]


class AgentPlan(Document, frozen=True, kw_only=True):
    """One agent image: its file, the role it holds, and the platforms of its machines, one each."""

    file: str
    role: Name
    machines: Annotated[tuple[Platform, ...], Meta(min_length=1)]
    packages: tuple[str, ...] = ()  # Python packages of ours that it imports besides the SDK
    distributions: tuple[str, ...] = ()  # installed distributions that it imports


class Blueprint(Document, frozen=True, kw_only=True):
    """A whole lab."""

    coordinator: Platform = SEV_SNP
    agents: Annotated[dict[Name, AgentPlan], Meta(min_length=1)]
    clients: dict[Name, tuple[Name, ...]] = field(default_factory=dict)  # name: roles
    classes: dict[Name, TaskClass] = field(default_factory=dict)
    tools: dict[Name, Name] = field(default_factory=dict)
    messages: dict[Name, Name] = field(default_factory=dict)
    contexts: dict[Name, Name] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    limits: Limits = field(default_factory=Limits)


def read_blueprint(path: Path) -> Blueprint:
    """Read a blueprint, or raise `UsageError` that says what is wrong where."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the blueprint {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the blueprint {path} is not UTF-8 text") from error
    return read_toml(text, Blueprint, f"the blueprint {path}")


def installed_blueprint(name: str = DEFAULT) -> Path:
    """Return the blueprint file that an installed package offers under `name`."""
    found = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    spec = find_spec(found[name]) if name in found else None
    if spec is None or not spec.submodule_search_locations:
        known = ", ".join(sorted(found)) or "none"
        raise UsageError(f"no blueprint {name!r} is installed (there are: {known}); name a file instead")
    return Path(next(iter(spec.submodule_search_locations)), FILE)
