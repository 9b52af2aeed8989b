"""Processes that do not outlive the one that started them, however that one ends.

A `preexec_fn` would be unsafe beside threads, so a child is started through a few lines of Python that
ask Linux for it (prctl(2), PR_SET_PDEATHSIG, which survives execve) and then become the command under the
same process id. Linux sends the signal when the *thread* that started the child ends, so start it from a
thread that lasts, as an event loop's does. Elsewhere than on Linux a killed parent leaves it behind.
"""

import os
import sys
from collections.abc import Sequence

# argv: our process id, then the command. The second check is for a parent that died before the prctl.
_BECOME = """
import os, sys
if sys.platform == "linux":
    import ctypes, signal
    if ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0) != 0:
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """Return the command line of `command`, whose first word is a path, as a child that ends with us."""
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *command]
