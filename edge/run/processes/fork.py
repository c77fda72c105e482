"""Forks a child of the master: drops what is the master's in it, runs it, and ends it."""

import encodings.idna  # noqa: F401  getaddrinfo imports it later, when the user may not read it any more
import faulthandler
import logging
import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterable

from setproctitle import setproctitle

from edge.run import event_log
from edge.run.processes import stacks

HANDLED = (
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGCHLD,
)
"Signals that the master handles."

log = logging.getLogger("styx.child")


def fork(run: Callable[[], int], *, title: str, keep: Iterable[int], user: str) -> int:
    """Start a child with this title, these descriptors and this user, which ends with the status that `run`
    returns.

    Returns its process id. Raises OSError when no process can be started.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _settle(title, keep)
        if user and os.geteuid() == 0:
            become(user)
        code = run()
    except BaseException:  # no exception may propagate into the master's code
        log.exception("process failed", extra={"code": "process_failed", "title": title})
    finally:
        event_log.finish()
        os._exit(code)


def _settle(title: str, keep: Iterable[int]) -> None:
    """Drop what is the master's: signal handlers, descriptors and the log without a thread."""
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        # A terminal sends SIGINT to all processes: only the master handles it, and drains the children.
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    stacks.ignore_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # By number, without the objects that hold them, which are never used again in this process. A descriptor that
    # stayed open would keep the channel of another child open when the master is gone.
    last = -1
    descriptors = sorted({0, 1, 2, *keep})
    for descriptor in (*descriptors, os.sysconf("SC_OPEN_MAX")):
        if last + 1 < descriptor:  # closerange(0, 0) closes everything: -1 is the largest unsigned number
            os.closerange(last + 1, descriptor)
        last = descriptor
    setproctitle(title)
    # Of this thread only: stacks of threads that run meanwhile cannot be read without risk (see stacks.py).
    faulthandler.enable(all_threads=False)
    stacks.write_on_signal()
    if logging.getLogger().handlers:
        event_log.name_process(title.removeprefix("styx: "))
        event_log.write_in_a_thread()


def become(user: str) -> None:
    """Drop the privileges of root for good. Raises KeyError when there is no such user, OSError otherwise."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
