"""What nobody catches, in a real process: its type and line are said, and nothing of a payload."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SECRET = "patient-4711"
LIMIT = 120  # seconds

# All of a process of an agent's but the mesh: its handler is run in a task of the program's, with a payload.
PROCESS = """
import sys
from functools import partial
from typing import cast
import agent_runtime.__main__ as program
from agent_runtime.agent import Context, encode_value
from agent_runtime.handlers import run
from agent_runtime.refusals import Refusals
from agent_runtime.uncaught import Uncaught
from schemas.documents import Constraints
from schemas.granted import Granted

async def serve(uncaught, agent_file, *_):
    agent = program.load(agent_file)
    uncaught.know(agent)
    refusals = Refusals()
    granted = Granted("worker", Constraints())
    payload = encode_value(sys.argv[2])
    await run(agent.tools["slip"], granted, payload, cast(Context, None), refusals, now=0)
    refusals.tell()

program._serve = serve
program.run = partial(program.run, fast=sys.argv[3] == "fast")
uncaught = Uncaught()
uncaught.install()
code = program.main(sys.argv[1:2], uncaught)
program.log.info("returned %s", code)
sys.exit(code)
"""

HEAD = """
import asyncio, atexit, concurrent.futures, contextlib, gc, sys, threading, time, warnings
from agent_runtime import Agent, Context, RefusedError
from agent_runtime.errors import Reason
agent = Agent("worker")

async def bad(secret):
    int(secret)  # BAD

def bad_call(secret):
    int(secret)  # BAD

class Odd:
    def __init__(self, secret):
        self.secret = secret

    def __repr__(self):
        return self.secret

    def __del__(self):
        int(self.secret)  # BAD

async def leave(secret):
    raise SystemExit(f"cannot read {secret}")  # BAD

async def refuse(secret):
    raise RefusedError(Reason.UNAVAILABLE, secret)  # REFUSED

async def interrupt(secret):
    raise GeneratorExit(secret)  # BAD

@agent.tool("slip")
async def slip(secret: str, context: Context) -> None:
"""

TASK, END = "in a task or callback", "at the end"
# what a handler does; what is said, `BAD` for the line that is marked so, and the exit code
CASES: dict[str, tuple[str, list[str], int]] = {
    "task": (
        """
task = asyncio.create_task(bad(secret), name=secret)
await asyncio.wait([task])
del task
gc.collect()
""",
        [f"uncaught {TASK}, BAD: ValueError"],
        0,
    ),
    "callback": (
        """
asyncio.get_running_loop().call_soon(bad_call, secret)
await asyncio.sleep(0)
""",
        [f"uncaught {TASK}, BAD: ValueError"],
        0,
    ),
    "foreign-callback": (
        """
asyncio.get_running_loop().call_soon(int, secret)
await asyncio.sleep(0)
""",
        [f"uncaught {TASK}(, [a-z_]+[.]pyx?:[0-9]+)?: ValueError"],
        0,
    ),
    "lost-task": (
        """
async def wait(secret):  # BAD
    await asyncio.get_running_loop().create_future()
task = asyncio.create_task(wait(secret), name=secret)
await asyncio.sleep(0)
del task
gc.collect()
""",
        ["uncaught in a task, BAD: destroyed while it waited"],
        0,
    ),
    "complaint": (
        """
asyncio.get_running_loop().call_exception_handler({'message': secret, 'handle': Odd})
""",
        ["uncaught in the event loop"],
        0,
    ),
    "thread": (
        """
thread = threading.Thread(target=bad_call, args=(secret,), name=secret)
thread.start()
thread.join()
""",
        ["uncaught in a thread, BAD: ValueError"],
        0,
    ),
    "executor": (
        """
future = concurrent.futures.Future()
future.add_done_callback(lambda done: bad_call(secret))
future.set_result(secret)
""",
        ["uncaught in concurrent.futures, BAD: ValueError", "exception calling callback for '[.]{3}'"],
        0,
    ),
    "unraisable": (
        """
Odd(secret)
gc.collect()
""",
        ["uncaught where nothing can be raised, BAD: ValueError"],
        0,
    ),
    "unraisable-at-exit": (
        """
global kept
kept = Odd(secret)
atexit.register(bad_call, secret)
""",
        ["uncaught where nothing can be raised, BAD: ValueError"],
        0,
    ),
    "never-awaited": (
        """
bad(secret)  # BAD
gc.collect()
""",
        ["warned, BAD: RuntimeWarning"],
        0,
    ),
    "warning": (
        """
warnings.warn_explicit(secret, UserWarning, f'{secret}.py', 1)
""",
        ["warned: UserWarning"],
        0,
    ),
    "slow-in-debug": (
        """
loop = asyncio.get_running_loop()
loop.set_debug(True)
loop.slow_callback_duration = 0
loop.call_soon(Odd.__init__, Odd('1'), secret)
await asyncio.sleep(0)
loop.set_debug(False)
""",
        ["Executing '?[.]{3}'? took [0-9.]+ seconds"],
        0,
    ),
    "default-handler": (
        """
loop = asyncio.get_running_loop()
loop.set_exception_handler(lambda loop, context: loop.default_exception_handler(context))
loop.call_soon(bad_call, secret)
await asyncio.sleep(0)
""",
        ["uncaught in asyncio, BAD: ValueError"],
        0,
    ),
    "interrupt": (
        """
raise KeyboardInterrupt(secret)  # BAD
""",
        [f"uncaught {END}, BAD: KeyboardInterrupt"],
        -signal.SIGINT,
    ),
    "generator-exit": (
        """
raise GeneratorExit(secret)  # BAD
""",
        [f"uncaught {END}, BAD: GeneratorExit"],
        1,
    ),
    "interrupt-beside-a-refusal": (
        """
async with asyncio.TaskGroup() as tasks:
    tasks.create_task(refuse(secret))
    tasks.create_task(interrupt(secret))
""",
        [f"uncaught {END}, REFUSED: RefusedError", f"uncaught {END}, BAD: GeneratorExit"],
        1,
    ),
    "exit-in-a-group": (
        """
async with asyncio.TaskGroup() as tasks:
    tasks.create_task(leave(secret))
""",
        [f"uncaught {END}, BAD: SystemExit", "returned 1"],
        1,
    ),
    "exit-with-a-code": (
        """
async with asyncio.TaskGroup() as tasks:
    async def end(secret):
        sys.exit(7)  # BAD
    tasks.create_task(end(secret))
""",
        [f"uncaught {END}, BAD: SystemExit", "returned 7"],
        7,
    ),
    "exit-without-one": (
        """
async with asyncio.TaskGroup() as tasks:
    async def end(secret):
        sys.exit()  # BAD
    tasks.create_task(end(secret))
""",
        [f"uncaught {END}, BAD: SystemExit", "returned 0"],
        0,
    ),
    "exit-of-a-thread": (
        """
def end():
    sys.exit(secret)
thread = threading.Thread(target=end)
thread.start()
thread.join()
""",
        ["returned 0"],
        0,
    ),
    "made-at-run-time": (
        """
exec(compile('def made(secret):\\n    int(secret)', f'{secret}.py', 'exec'), globals())
def calls():
    made(secret)  # BAD
asyncio.get_running_loop().call_soon(calls)
await asyncio.sleep(0)
""",
        [f"uncaught {TASK}, BAD: ValueError"],
        0,
    ),
}


def run_agent(folder: Path, body: str, loop: str = "fast") -> tuple[int, str, dict[str, str]]:
    """Run a handler in a process; return how it ended, all that it said, and where the marks are."""
    source = HEAD + "".join(f"    {line}\n" for line in body.strip().splitlines())
    file = folder / "scribe.py"
    file.write_text(source)
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, str(file), SECRET, loop],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    places: dict[str, str] = {}
    for mark in ("BAD", "REFUSED"):
        lines = [number for number, line in enumerate(source.splitlines(), 1) if line.endswith(f"# {mark}")]
        places[mark] = rf"scribe[.]py:({'|'.join(map(str, lines))})"
    return done.returncode, done.stdout + done.stderr, places


@pytest.mark.parametrize("loop", ["fast", "asyncio"])
@pytest.mark.parametrize("case", CASES)
def test_nothing_of_a_payload_is_said(case: str, loop: str, tmp_path: Path) -> None:
    body, expected, code = CASES[case]
    ended, said, places = run_agent(tmp_path, body, loop)
    assert SECRET not in said
    assert "Traceback" not in said
    for pattern in expected:
        for mark, place in places.items():
            pattern = pattern.replace(mark, place)
        assert re.search(f" {pattern}$", said, re.MULTILINE), said
    assert ended == code, said


def test_the_control_a_print_of_its_own_is_its_own(tmp_path: Path) -> None:
    assert SECRET in run_agent(tmp_path, "print(secret)")[1]


def test_what_a_file_says_while_it_is_loaded_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "scribe.py"
    file.write_text(f"import json\njson.loads('{SECRET}')\n")
    done = subprocess.run(
        [sys.executable, "-m", "agent_runtime", str(file), "--own-tee"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"uncaught at the end, scribe\.py:2: JSONDecodeError$", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr
