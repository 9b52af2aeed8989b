"""One slice of a benchmark that is measured in CPU time, which neighbours on the machine disturb least."""

import gc
import time
from collections.abc import Callable


def microseconds(work: Callable[[], object], seconds: float) -> float:
    """Return the CPU time of one run of `work`, on average over a slice of so many seconds."""
    gc.collect()
    gc.disable()
    try:
        runs, start = 0, time.process_time()
        end = start + seconds
        while time.process_time() < end:
            work()
            runs += 1
        return (time.process_time() - start) / runs * 1e6
    finally:
        gc.enable()
