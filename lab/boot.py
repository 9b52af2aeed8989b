"""The first code that runs in a simulated machine: narrows what can be imported, then runs the module.

Measured as a part of the interpreter's layer, and imports nothing but the standard library. It gives
the module this world: descriptor 3 is the machine (see `lab.descriptor`); the working directory is
the image's own, with `anchor.cbor` and, where there is one, `agent.py`; `sys.argv` and the
environment are the measured ones.
"""

import ctypes
import json
import os
import resource
import runpy
import select
import signal
import sys
from pathlib import Path

MACHINE = 3  # the descriptor's number in every child
PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Run the module that the image names."""
    number, site, application, configuration = sys.argv[1:]
    os.environ.pop("LD_PRELOAD", None)  # the machine's own means of loading the measured libpython
    _attach(int(number))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the enclave's keys
    os.chdir(configuration)
    launch = json.loads(Path("launch.json").read_bytes())
    standard = [path for path in sys.path if not path.endswith(".zip")]
    sys.path[:] = [*standard, site, application]
    sys.argv[:] = [launch["module"], *launch["arguments"]]
    runpy.run_module(launch["module"], run_name="__main__", alter_sys=True)


def _attach(number: int) -> None:
    if number == MACHINE:
        os.set_inheritable(MACHINE, False)
    else:
        os.dup2(number, MACHINE, inheritable=False)
        os.close(number)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("cannot tie this process to its machine")
    # The machine may have died before the call above, which then never fires; its end of the pair is closed.
    poll = select.poll()
    poll.register(MACHINE, 0)
    if poll.poll(0):
        sys.exit("the machine is gone")


if __name__ == "__main__":
    main()
