"""Write `protocol.json`: what this implementation derives from fixed inputs.

Run it from the root of the repository: `python -m tests.vectors.generate`. The same inputs give the same
file, so a change of it is a change of the protocol. What is in it, `README.md` says.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.vectors import machines, primitives, signed
from tests.vectors.examples import Case
from tests.vectors.refused import refusals
from tests.vectors.world import KEMS

FILE = Path(__file__).with_name("protocol.json")

SECTIONS: dict[str, Callable[[], Iterator[Case]]] = {
    "contexts": primitives.contexts,
    "derivations": primitives.derivations,
    "padding": primitives.padding,
    "bodies": primitives.bodies,
    "peers": primitives.peers,
    "parties": primitives.parties,
    "roles": primitives.roles,
    "workloads": primitives.workloads,
    "key_bindings": primitives.key_bindings,
    "challenges": primitives.challenges,
    "anchors": primitives.anchors,
    "signatures": signed.signatures,
    "documents": signed.signed_documents,
    "operators": signed.changes_of_operators,
    "rolls": signed.rolls,
    "cwts": signed.cwts,
    "seals": primitives.seals,
    "frames": primitives.frames,
    "handshakes": machines.handshakes,
    "epochs": machines.epochs,
    "tasks": machines.tasks,
    "subjects": primitives.subjects,
    "streams": primitives.streams,
    "revoked": primitives.revoked,
    "logs": primitives.logs,
}


def shown(value: Any) -> Any:
    """Return a value as it stands in the file: byte strings as h'..', like in CBOR's diagnostic notation."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, dict):
        return {name: shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    assert value is None or isinstance(value, int) or not value.startswith("h'")
    return value


def generated() -> str:
    """Return the text of the file."""
    sections = {
        section: [{"name": name, "in": shown(given), "out": shown(out)} for name, given, out in cases()]
        for section, cases in SECTIONS.items()
    }
    encapsulations = [
        shown({"seed": kem.seed, "eseed": kem.eseed, "pk": kem.public, "ct": kem.enc})
        for kem in KEMS.values()
    ]
    whole = {
        "protocol": "sealbus/1",
        "encapsulations": encapsulations,
        "sections": sections,
        "refused": shown(refusals()),
    }
    return json.dumps(whole, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(generated(), "utf-8")
    print(f"{FILE}: {FILE.stat().st_size} bytes")
