"""A minimal service manager: starts a command and stays for as long as any of its processes does.

`python -m bench.lab.subreaper DIRECTORY DESCRIPTOR COMMAND...`: COMMAND runs in DIRECTORY. DESCRIPTOR is a
listening socket that is handed over as systemd does it (sd_listen_fds(3)), or - for none. After an upgrade the
process that was started is gone, and its successor is left: this one inherits it.
"""

import ctypes
import os
import signal
import sys
from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36
FIRST_DESCRIPTOR = 3


def main(directory: str, descriptor: str, command: list[str]) -> None:
    """Returns when nobody is left."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    # All of them are in our session. Its leader got SIGTERM: they end at once.
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    pid = os.fork()
    if not pid:
        _become(directory, descriptor, command)
    if descriptor.isdecimal():
        os.close(int(descriptor))  # the parent process holds it
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def _become(directory: str, descriptor: str, command: list[str]) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(directory)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if descriptor.isdecimal():
        os.dup2(int(descriptor), FIRST_DESCRIPTOR)
        environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        if int(descriptor) != FIRST_DESCRIPTOR:
            os.close(int(descriptor))
        else:
            os.set_inheritable(FIRST_DESCRIPTOR, True)
    os.execve(command[0], command, environ)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
