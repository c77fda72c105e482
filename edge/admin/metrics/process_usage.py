"""Resource usage of this process: CPU, memory, file descriptors. Each process writes it to its own row of the
scoreboard.

The admin process could not read it of a master that runs as root, and /proc may be hidden from it.
"""

import os
import resource
import time
from typing import Final, NamedTuple

PERIOD: Final = 2.0
"Seconds between two readings; one takes 15 microseconds."
_PAGE: Final = resource.getpagesize()
_RESIDENT: Final = 1
"Number of the field in statm (proc(5))."


class ProcessUsage(NamedTuple):
    """Resource usage of a process. The names are those of the cells in `metrics_table.py`."""

    cpu_seconds: float
    "User and system time since its start."
    resident_bytes: float
    open_fds: float
    max_fds: float
    "The soft limit; 0 = there is none."


def read_usage() -> ProcessUsage:
    """Read what this process uses now."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ProcessUsage(
        time.process_time(),
        _resident(),
        _descriptors(),
        0 if limit == resource.RLIM_INFINITY else limit,
    )


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[_RESIDENT]) * _PAGE


def _descriptors() -> int:
    # Since Linux 6.2 the size of the directory is the number of descriptors; counting 10,000 takes milliseconds.
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
