"""What the theatre and the search show means something: without the check, each of them says so.

A copy of the source tree is changed by hand in one place, the operators of a lab sign what it measures then,
and the same command is run from there.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.theatre import ACTS

HOME = Path(__file__).parents[2]
PACKAGES = (
    *("schemas", "sealing", "attestation", "transport", "coordinator", "scheduler"),
    *("agent_runtime", "console", "lab", "examples"),
)
LIMIT = 240  # seconds

# act: file, check, what stands in its place
MUTANTS = {
    "tampered-image": (
        "attestation/acceptable.py",
        "measured = [each for each in named if _mismatch(each, genuine) is None]",
        # Whoever measures as one of the others is still that one: what matches comes first.
        (
            "measured = sorted((x for x in named if not _mismatch(x, genuine) or 'red' in x.workload), "
            "key=lambda x: _mismatch(x, genuine) is not None)"
        ),
    ),
    "debug-enclave": ("attestation/acceptable.py", "genuine.debug and not admissible", "False"),
    "foreign-root": ("attestation/acceptable.py", "genuine.root not in values.anchors", "False"),
    "replayed-evidence": (
        "attestation/acceptable.py",
        'genuine.platform == NITRO and not hmac.compare_digest(genuine.nonce or b"", challenge)',
        "False",
    ),
    "relayed-evidence": (
        "attestation/acceptable.py",
        "not hmac.compare_digest(genuine.report_data, key_binding)",
        "False",
    ),
    "forged-grant": (
        "sealing/documents.py",
        'raise SignatureError("not an operator of this mesh")',
        "return document[-64:].hex()",
    ),
    "too-few-signatures": ("sealing/documents.py", "len(made) < council.threshold", "not made"),
    "old-policy": ("coordinator/terms.py", "policy.version <= standing.policy_version", "False"),
    "revoked-agent": ("coordinator/ledger.py", "named & self._banned", "False"),
    "replayed-task": ("agent_runtime/gate.py", "if known is not None:", "if False:"),
    "lying-scheduler": ("agent_runtime/gate.py", "if known is not None:", "if False:"),
    "withheld-beacons": (
        "agent_runtime/membership.py",
        "or now - counted > self.grace",
        "",
    ),
}
# Where a second check says no as well, for a reason of its own: a debuggable Nitro enclave has no
# measurements, Evidence of an earlier challenge binds an earlier enclave's keys, and documents are checked
# by all who get them.
REFUSED_OTHERWISE = frozenset({"debug-enclave", "replayed-evidence", "forged-grant", "old-policy"})
SEALING_OFF = (
    (
        "sealing/frames.py",
        "cipher.decrypt(nonce, memoryview(frame)[header_size:], header + subject)",
        "bytes(frame[header_size:-_TAG])",
    ),
    (
        "sealing/frames.py",
        'return cipher.encrypt(counter.to_bytes(12, "big"), pad_sized(size, parts), header + subject)',
        "return pad_sized(size, parts) + bytes(_TAG)",
    ),
)
# A task is of its role by the key of the handle in it, and by the tag over its header.
ONE_HANDLE_KEY = (
    (
        "sealing/groups.py",
        'key = derive(package.secret, mesh, "handle", package.group, package.epoch)',
        "key = bytes(32)",
    ),
    (
        "sealing/groups.py",
        '(\n            derive(package.secret, mesh, "handle", package.group, package.epoch)\n        )',
        "(bytes(32))",
    ),
)
UNSEALED = {"flipped-bit": SEALING_OFF, "redirected-task": (*SEALING_OFF, *ONE_HANDLE_KEY)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree with a lab beside it."""
    root = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(HOME / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert sealbus(root, "lab", "init", "--dir", str(root / "state")).returncode == 0
    return root


def sealbus(tree: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line from a copy of the tree."""
    return subprocess.run(
        [sys.executable, "-c", "from console.cli import main; main()", *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@contextmanager
def changed(tree: Path, *changes: tuple[str, str, str]) -> Iterator[None]:
    """Change places of the copy, and have the lab's operators sign what it measures then."""
    sources = {tree / file: (tree / file).read_text("utf-8") for file, _, _ in changes}
    try:
        for file, old, new in changes:
            (tree / file).write_text((tree / file).read_text("utf-8").replace(old, new), "utf-8")
        assert sealbus(tree, "lab", "resign", "--dir", str(tree / "state")).returncode == 0
        yield
    finally:
        for path, source in sources.items():
            path.write_text(source, "utf-8")


def played(tree: Path, *acts: str) -> tuple[int, list[dict[str, Any]]]:
    """Play acts; return the exit code and what is said of each."""
    named = [word for act in acts for word in ("--act", act)]
    done = sealbus(tree, "demo", "--attack", *named, "--json", "--dir", str(tree / "state"))
    assert done.stdout, done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout)["attacks"]


@pytest.mark.parametrize(
    ("file", "old"), [(file, old) for file, old, _ in (*MUTANTS.values(), *SEALING_OFF, *ONE_HANDLE_KEY)]
)
def test_every_check_that_can_be_taken_away_stands_in_one_place(file: str, old: str) -> None:
    assert (HOME / file).read_text("utf-8").count(old) == 1


def test_every_act_rests_on_a_check_that_is_taken_away() -> None:
    assert {*MUTANTS, *UNSEALED} == {act.name for act in ACTS}


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
def test_every_guarantee_holds(tree: Path) -> None:
    code, attacks = played(tree)
    assert [attack["act"] for attack in attacks if not attack["as_expected"]] == []
    assert {attack["outcome"] for attack in attacks} == {"refused", "recovered"}
    assert code == 0


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
@pytest.mark.parametrize("act", MUTANTS)
def test_without_its_check_an_act_fails(tree: Path, act: str) -> None:
    with changed(tree, MUTANTS[act]):
        code, (attack,) = played(tree, act)
    outcome = "refused" if act in REFUSED_OTHERWISE else "SUCCEEDED"
    assert (attack["outcome"], attack["as_expected"]) == (outcome, False)
    assert code == 1


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
@pytest.mark.parametrize("act", UNSEALED)
def test_with_sealing_switched_off_nobody_minds_what_the_broker_does_to_frames(tree: Path, act: str) -> None:
    with changed(tree, *UNSEALED[act]):
        code, (attack,) = played(tree, act)
    assert not attack["as_expected"]
    assert code == 1


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
def test_with_sealing_switched_off_the_search_finds_the_input(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "letter.txt").write_text("Dear Ms Keller,\nthe canary of this test sings at dawn.\n")
    with changed(tree, *SEALING_OFF):
        out, state = str(tmp_path / "out"), str(tree / "state")
        done = sealbus(tree, "demo", str(tmp_path / "in"), "--out", out, "--json", "--dir", state)
    assert done.stdout, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert said["documents"]["redacted"] == 1
    assert said["wire"]["hits"] > 0
    assert said["wire"]["unclassified"] > 0
    assert said["wire"]["control_found"]
    assert done.returncode == 1
