"""From the master's copy that a fork makes to a process of its own: what every child does first and last."""

import encodings.idna  # noqa: F401  getaddrinfo imports it, when another user may not read it any more
import faulthandler
import logging
import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterable

from setproctitle import setproctitle

from edge.run import event_log

HANDLED = (
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGCHLD,
)
"Signals that mean something to the master."

log = logging.getLogger("styx.child")


def fork(run: Callable[[], int], *, title: str, keep: Iterable[int], user: str) -> int:
    """A child that is called `title`, holds these descriptors, is this user, and ends with what `run` returns.

    Returns its process id. Raises OSError when there can be no more processes.
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
    except BaseException:  # nothing may go back into the master's frames
        log.exception("process failed", extra={"code": "process_failed", "title": title})
    finally:
        event_log.finish()
        os._exit(code)


def _settle(title: str, keep: Iterable[int]) -> None:
    """Undo what is the master's."""
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        # A terminal sends SIGINT to all of us: the master tells each child what to do about it.
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # By number, behind the back of the objects which hold them: they are never touched again in this process.
    # What stayed open would keep the lines of the others alive when the master is gone.
    last = -1
    kept = sorted({0, 1, 2, *keep})
    for descriptor in (*kept, os.sysconf("SC_OPEN_MAX")):
        if last + 1 < descriptor:  # closerange(0, 0) closes everything: -1 is the largest unsigned number
            os.closerange(last + 1, descriptor)
        last = descriptor
    setproctitle(title)
    faulthandler.enable()
    if logging.getLogger().handlers:
        event_log.this_is(title.removeprefix("styx: "))
        event_log.write_in_a_thread()


def become(user: str) -> None:
    """Drop the privileges of root for good. Raises KeyError when there is no such user, OSError otherwise."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
