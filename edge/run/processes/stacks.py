"""Dumps the stacks of all threads of a process of styx on a signal, even when it is stuck in a loop or a call.

Each process has a file in memory (memfd_create(2)), to which a signal handler writes them. Who may open it in
/proc, root or the user of the process, reads them there.

There are two signals. A process that runs Python handles the first one between two instructions, and is none the
worse for it. Only one that does not is sent the second one, on which faulthandler writes the stack of the main
thread from within the call that it is stuck in. In a thread that runs, faulthandler may come upon a frame that is
half made, and end the process: one signal in some hundred does.
"""

import faulthandler
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

SIGNAL: Final = signal.SIGRTMIN + 4
"Nobody sends a real-time signal by habit. It ends a process that does not handle it, and is not sent to one."
STUCK_SIGNAL: Final = signal.SIGRTMIN + 5
"For a process that does not run Python, such as one in an endless call."
NAME: Final = "styx-stacks"
MOST_BYTES: Final = 256 << 10
"Bytes of stacks that are written and read of one process."
MOST_FRAMES: Final = 100
"Frames of a thread that are written, the innermost ones; as many as faulthandler writes."
SETTLED: Final = 0.05
"Seconds without more bytes after which the stacks are complete."


class NoStacks(Exception):
    """The stacks of a process cannot be had; the text says why."""


def write_on_signal() -> None:
    """Have this process write its stacks on the signals. Called once in each process, after its fork."""
    with suppress(OSError):  # forbidden in this container: then there are no stacks, but an edge
        file = os.memfd_create(NAME)
        # Appending: who reads the stacks truncates the file first, and they begin at its start.
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
        signal.signal(SIGNAL, partial(_write, file))
        signal.siginterrupt(SIGNAL, False)
        faulthandler.register(STUCK_SIGNAL, file, all_threads=False)


def ignore_signals() -> None:
    """For a child that has just been forked and closes the file of its parent."""
    faulthandler.unregister(STUCK_SIGNAL)
    for number in (SIGNAL, STUCK_SIGNAL):
        signal.signal(number, signal.SIG_IGN)


def _write(file: int, _number: int, frame: FrameType | None) -> None:
    """Write the stacks of all threads; this one, the main thread, is at `frame`."""
    with suppress(OSError):
        os.write(file, "".join(_lines(frame)).encode(errors="replace")[:MOST_BYTES])


def _lines(interrupted: FrameType | None) -> Iterator[str]:
    """In the form of faulthandler, without the text of the lines, which would have to be read from files."""
    main = threading.get_ident()
    threads: dict[int, FrameType | None] = {main: interrupted}
    threads |= {ident: frame for ident, frame in sys._current_frames().items() if ident != main}
    for ident, frame in threads.items():
        yield f"{'Main thread' if ident == main else 'Thread'} 0x{ident:016x} (most recent call first):\n"
        left = MOST_FRAMES
        while frame and left:
            yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_qualname}\n'
            frame, left = frame.f_back, left - 1


def read_stacks(pid: int, timeout: float) -> str:
    """The stacks of this process now, within `timeout` seconds. Raises NoStacks."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        if not handles(status, SIGNAL):
            raise NoStacks("it does not write its stacks on a signal")
        if "\nState:\tT" in status:
            raise NoStacks("it was stopped by a signal (state T), and writes them when it goes on")
        with open(_file_of(pid), "r+b", buffering=0) as file:
            file.truncate(0)
            for number in (SIGNAL, STUCK_SIGNAL):
                if not handles(status, number):  # a process of another version
                    continue
                os.kill(pid, number)
                if found := _settled(file.fileno(), timeout / 2):
                    return found.decode(errors="replace")
        raise NoStacks(f"it wrote nothing within {timeout:g} s: it is stuck in the kernel")
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
    """Its content as soon as it is complete; nothing if nothing was written within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    size, since = 0, time.monotonic()
    while (now := time.monotonic()) < deadline:
        current = os.fstat(descriptor).st_size
        if current != size:
            size, since = current, now
        elif size and now - since >= SETTLED:
            break
        time.sleep(0.005)
    return os.pread(descriptor, MOST_BYTES, 0)
