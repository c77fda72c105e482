"""The stacks of all threads of a process of styx, written on a signal, also when it is stuck in a loop or a call.

Each process has a file in memory (memfd_create(2)), to which faulthandler writes them in the signal handler itself.
Who may open it in /proc, root or the user of the process, reads them there: the process need not do anything else.
"""

import faulthandler
import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

SIGNAL: Final = signal.SIGRTMIN + 4
"Nobody sends a real-time signal by habit. It ends a process that does not handle it, and is not sent to one."
NAME: Final = "styx-stacks"
MOST_BYTES: Final = 256 << 10
"Bytes of stacks that are read of one process; faulthandler writes 100 frames of 100 threads at most."
SETTLED: Final = 0.05
"Seconds without more bytes after which the stacks are complete."


class NoStacks(Exception):
    """The stacks of a process cannot be had; the text says why."""


def write_on_signal() -> None:
    """Have this process write its stacks on SIGNAL. Called once in each process, after its fork."""
    with suppress(OSError):  # forbidden in this container: then there are no stacks, but an edge
        file = os.memfd_create(NAME)
        # Appending: who reads the stacks truncates the file first, and they begin at its start.
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
        faulthandler.register(SIGNAL, file)


def read_stacks(pid: int, timeout: float) -> str:
    """The stacks of this process now. Raises NoStacks."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        if not handles(status, SIGNAL):
            raise NoStacks("it does not write its stacks on a signal")
        if "\nState:\tT" in status:
            raise NoStacks("it was stopped by a signal (state T), and writes them when it goes on")
        with open(_file_of(pid), "r+b", buffering=0) as file:
            file.truncate(0)
            os.kill(pid, SIGNAL)
            return _settled(file.fileno(), timeout).decode(errors="replace")
    except PermissionError as error:
        raise NoStacks("not permitted: this needs root or the user of the process") from error
    except OSError as error:
        raise NoStacks(error.strerror or str(error)) from error


def handles(status: str, number: int) -> bool:
    """Whether a process with this /proc/PID/status has a handler for a signal (proc(5), SigCgt)."""
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def _file_of(pid: int) -> str:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(descriptor).startswith(f"/memfd:{NAME}"):
            return str(descriptor)
    raise NoStacks("it has no file for them")


def _settled(descriptor: int, timeout: float) -> bytes:
    """Its content as soon as it is complete. Raises NoStacks."""
    deadline = time.monotonic() + timeout
    size, since = 0, time.monotonic()
    while (now := time.monotonic()) < deadline:
        current = os.fstat(descriptor).st_size
        if current != size:
            size, since = current, now
        elif size and now - since >= SETTLED:
            return os.pread(descriptor, MOST_BYTES, 0)
        time.sleep(0.005)
    if size:
        return os.pread(descriptor, MOST_BYTES, 0)
    raise NoStacks(f"it wrote nothing within {timeout:g} s: it is stuck in the kernel")
