"""A forked child holds no keys (invariant 8). In a process of its own, because it really forks."""

import gc
import subprocess
import sys

from sealing import erasure
from sealing.keys import SigningKey

SCRIPT = """
import os, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from schemas.errors import PeerError
from sealing.groups import Opener, Sealer, Sender, sender_package
from sealing.keys import KemKey, PartyKeys, SigningKey, seal_to
from tests.sealing.world import ALICE, BOB, MESH, Pair, answer, anyone, opened, package, pair, pending

TASK_ID, SUBJECT = bytes(16), "sb.x"
made = pair().confirm()
frame = made.initiator.seal(b"body")
held, sender = package(), Sender(ALICE.instance, bytes(16))
opener = Opener(MESH, held)
member = opener.sealer(sender, os.urandom(12))
outsider = Sealer(MESH, sender_package(MESH, held, sender, os.urandom(12)))
task = outsider.seal_task(b"task", TASK_ID)
opener.open_task(task)
asked = pending()
accept, _ = answer(opened(asked.wire))
sealed = seal_to(ALICE.kem.public, b"m", b"i")

def pending_secret():
    if not asked._secret:
        raise RuntimeError("erased")

uses = {
    "sign": lambda: ALICE.signing.sign(b"m"),
    "decapsulate": lambda: ALICE.kem.open(sealed, b"i"),
    "open in a session": lambda: made.responder.open(frame),
    "seal in a session": lambda: made.initiator.seal(b""),
    "open a task of a known sender": lambda: opener.open_task(task),
    "seal as a member": lambda: member.seal_group(b"", SUBJECT),
    "seal as an outsider": lambda: outsider.seal_task(b"", TASK_ID),
    "make a sealer": lambda: opener.sealer(sender, os.urandom(12)),
    "read the epoch's secret": opener.reply_secret,
    "read a pending session's secret": pending_secret,
    "accept": lambda: asked.accept(accept, anyone),
}

def outcomes():
    for name, use in uses.items():
        try:
            use()
        except (PeerError, RuntimeError):
            yield f"{name}: refused"
        else:
            yield f"{name}: done"

def report(who):
    os.write(1, "".join(f"{who} {line}\\n" for line in outcomes()).encode())

child = os.fork()
if child == 0:
    report("child")
    # A second child of the child has none either.
    if os.fork() == 0:
        report("grandchild")
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
report("parent")
"""


def test_invariant_08_a_forked_child_holds_no_keys_and_its_parent_all() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    said = [line.split(" ", 1) for line in run.stdout.splitlines()]
    for who, ending in (("child", "refused"), ("grandchild", "refused"), ("parent", "done")):
        lines = [line for speaker, line in said if speaker == who]
        assert len(lines) == 11
        assert all(line.endswith(ending) for line in lines), lines


def test_the_registry_keeps_nobody_alive() -> None:
    key = SigningKey()
    assert key in erasure._holders
    before = len(erasure._holders)
    del key
    gc.collect()
    assert len(erasure._holders) < before
