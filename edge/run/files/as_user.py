"""What root does in directories that belong to somebody else, it does not do as root.

A master that was started as root with `user:` set would follow whatever that user has put into their directories: a
symbolic link, a hard link, another directory in place of the one that was looked at a moment before. So it touches
nothing there. A child that has become the user does it, with the user's rights and no others, and hands back a text
or an open socket.

Only where nobody but root could change what a path leads to (`is_roots_own`), root acts by itself.
"""

import errno
import os
import pwd
import select
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge.run.processes.fork import become

PATIENCE = 10.0
"Seconds that the child has: what it looks at may be a FIFO, or on a disk that hangs."
MOST_LINKS = 40
"Symbolic links in one path, as in the kernel (path_resolution(7))."
MOST_SAID = 1 << 20
"Bytes that the child may say, unless more is expected."
CHUNK = 65536


class _ChildResult(msgspec.Struct):
    """What the child has to say: a result, or an error."""

    text: str = ""
    data: bytes = b""
    error: str = ""
    number: int = 0
    file: str = ""


def bytes_from(user: str, work: Callable[[], bytes], timeout: float, most: int) -> bytes:
    """The same for bytes, at most so many."""
    if not acts_for(user):
        return work()
    return _in_a_child(user, lambda: (_ChildResult(data=work()), None), timeout, most)[0].data


def user_exists(user: str) -> bool:
    """On this machine."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def acts_for(user: str) -> bool:
    """Whether this process is root, and works for this user."""
    return bool(user) and os.geteuid() == 0


def text_from(user: str, work: Callable[[], str], timeout: float = PATIENCE) -> str:
    """What `work` returns, done by a child that has become this user; here, when we are not root or no user is set.
    Raises OSError, also for whatever else the child raised."""
    if not acts_for(user):
        return work()
    return _in_a_child(user, lambda: (_ChildResult(text=work()), None), timeout)[0].text


def socket_from(user: str, work: Callable[[], socket.socket], timeout: float = PATIENCE) -> socket.socket:
    """The socket that `work` returns, opened by a child that has become this user; else as `text_from`."""
    if not acts_for(user):
        return work()
    _, sock = _in_a_child(user, lambda: (_ChildResult(), work()), timeout)
    if sock is None:
        raise OSError("the child sent no socket")
    return sock


def is_roots_own(directory: str | os.PathLike[str]) -> bool:
    """Whether nobody but root can change what this path leads to, nor replace what root puts there. Links are
    followed where root has made them. False when it is no directory, or not there."""
    # Not normalized: what `..` leads to depends on what is before it.
    left = [part for part in reversed((Path.cwd() / directory).parts) if part != "/"]
    links = 0
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while _belongs_to_root(here):
            if not left:
                return True
            below = os.open(left.pop(), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            if stat.S_ISLNK(os.fstat(below).st_mode):
                target = _target_of_roots_link(below)
                links += 1
                if target is None or links > MOST_LINKS:
                    return False
                left += [part for part in reversed(Path(target).parts) if part != "/"]
                if target.startswith("/"):
                    os.close(here)
                    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                here, before = below, here
                os.close(before)
    except OSError:
        return False
    finally:
        os.close(here)
    return False


def _belongs_to_root(directory: int) -> bool:
    """Of this open directory: only root can remove or replace what root has put there."""
    is_ = os.fstat(directory)
    others_write = is_.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_.st_mode & stat.S_ISVTX
    return stat.S_ISDIR(is_.st_mode) and is_.st_uid == 0 and not others_write


def _target_of_roots_link(link: int) -> str | None:
    """Where this open link leads, if root has made it. Closes it."""
    try:
        return os.readlink("", dir_fd=link) if os.fstat(link).st_uid == 0 else None
    finally:
        os.close(link)


def _in_a_child(
    user: str, work: Callable[[], tuple[_ChildResult, socket.socket | None]], timeout: float, most: int = MOST_SAID
) -> tuple[_ChildResult, socket.socket | None]:
    if not user_exists(user):
        raise OSError(f"there is no user {user!r} on this machine")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.fork()
        if not pid:
            _work_and_end(user, theirs, work)
        theirs.close()
        try:
            said, sock = _heard(ours, timeout, most)
        finally:
            _bury(pid)
    if said.error:
        raise OSError(said.number or None, said.error, said.file or None)
    return said, sock


def _work_and_end(
    user: str, line: socket.socket, work: Callable[[], tuple[_ChildResult, socket.socket | None]]
) -> None:
    """In the child."""
    try:
        sock = None
        try:
            signal.set_wakeup_fd(-1)
            become(user)
            said, sock = work()
        except OSError as error:
            said = _ChildResult("", b"", error.strerror or str(error), error.errno or 0, str(error.filename or ""))
        except Exception as error:
            said = _ChildResult(error=f"{type(error).__name__}: {error}")
        data = msgspec.msgpack.encode(said)
        if sock is not None:
            data = data[socket.send_fds(line, [data], [sock.fileno()]) :]
        line.sendall(data)
    finally:
        os._exit(0)  # nothing may go back into the master's frames


def _heard(line: socket.socket, timeout: float, most: int) -> tuple[_ChildResult, socket.socket | None]:
    """Until the child has ended. Raises OSError when that is not in time, or when it said nothing of use."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    deadline = time.monotonic() + timeout
    said, sock = bytearray(), None
    try:
        while len(said) <= most:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError(errno.ETIMEDOUT, f"not done within {timeout:g} s")
            data, descriptors, _, _ = socket.recv_fds(line, CHUNK, 1)
            for number in descriptors:
                sock = socket.socket(fileno=number)
            if not data:
                break
            said += data
        return msgspec.msgpack.decode(said, type=_ChildResult), sock
    except (OSError, msgspec.MsgspecError) as error:
        if sock is not None:
            sock.close()
        if isinstance(error, OSError):
            raise
        raise OSError(f"the child ended without a word: {error}") from error


def _bury(pid: int) -> None:
    """End it if it has not ended. One that hangs in the kernel is buried later, by whoever waits for children."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 1.0
    while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.001)
