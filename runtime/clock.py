"""The clock that ages are measured by."""

import time
from typing import Final

_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", None)


def steady_s() -> float:
    """Return seconds that pass evenly, from anywhere: no setting of the wall clock moves them.

    Unlike `time.monotonic` they also pass while a Linux system is suspended. They mean nothing to another process.
    """
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)
