"""Runs file operations of root in a child with the rights of the configured user (`user:`).

A master that was started as root with `user:` set would follow whatever that user has put into their directories: a
symbolic link, a hard link, another directory in place of the one that was checked a moment before. So it does
nothing there itself: a child that has become the user does it, with the user's rights only, and returns a text,
bytes or an open socket.

Only where nobody but root can change what a path leads to (`is_roots_own`), root acts itself.
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

TIMEOUT = 10.0
"Seconds for the child: a file may be a FIFO, or on a disk that hangs."
MOST_LINKS = 40
"Maximum of symbolic links in one path, as in the kernel (path_resolution(7))."
MOST_RESULT = 1 << 20
"Maximum bytes of a child's result, unless the caller expects more."
CHUNK = 65536


class _ChildResult(msgspec.Struct):
    """What the child sends: a result or an error."""

    text: str = ""
    data: bytes = b""
    error: str = ""
    number: int = 0
    file: str = ""


def bytes_from(user: str, work: Callable[[], bytes], timeout: float, most: int) -> bytes:
    """Like `text_from`, for bytes, of which there are at most `most`."""
    if not acts_for(user):
        return work()
    return _in_a_child(user, lambda: (_ChildResult(data=work()), None), timeout, most)[0].data


def user_exists(user: str) -> bool:
    """Whether this user exists on this machine."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def acts_for(user: str) -> bool:
    """Whether this process is root and must act with the rights of this user."""
    return bool(user) and os.geteuid() == 0


def text_from(user: str, work: Callable[[], str], timeout: float = TIMEOUT) -> str:
    """What `work` returns, run in a child that has become this user; or run here when we are not root or no user is
    set. Raises OSError, also for any other exception in the child, and after `timeout` seconds."""
    if not acts_for(user):
        return work()
    return _in_a_child(user, lambda: (_ChildResult(text=work()), None), timeout)[0].text


def socket_from(user: str, work: Callable[[], socket.socket], timeout: float = TIMEOUT) -> socket.socket:
    """Like `text_from`, for a socket that `work` opens and returns."""
    if not acts_for(user):
        return work()
    _, sock = _in_a_child(user, lambda: (_ChildResult(), work()), timeout)
    if sock is None:
        raise OSError("the child sent no socket")
    return sock


def is_roots_own(directory: str | os.PathLike[str]) -> bool:
    """Whether only root can change what this path leads to and replace what root puts there. Symbolic links of root
    are followed. False when it is missing or no directory."""
    # Not normalized: what `..` leads to depends on the parts before it.
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
    """Whether only root can remove or replace what root has put into this open directory."""
    is_ = os.fstat(directory)
    others_write = is_.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_.st_mode & stat.S_ISVTX
    return stat.S_ISDIR(is_.st_mode) and is_.st_uid == 0 and not others_write


def _target_of_roots_link(link: int) -> str | None:
    """The target of this open symbolic link, if it belongs to root; else None. Closes it."""
    try:
        return os.readlink("", dir_fd=link) if os.fstat(link).st_uid == 0 else None
    finally:
        os.close(link)


def _in_a_child(
    user: str,
    work: Callable[[], tuple[_ChildResult, socket.socket | None]],
    timeout: float,
    most: int = MOST_RESULT,
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
            result, sock = _received(ours, timeout, most)
        finally:
            _reap(pid)
    if result.error:
        raise OSError(result.number or None, result.error, result.file or None)
    return result, sock


def _work_and_end(
    user: str, channel: socket.socket, work: Callable[[], tuple[_ChildResult, socket.socket | None]]
) -> None:
    """Run `work` in the child, send its result, and end the child."""
    try:
        sock = None
        try:
            signal.set_wakeup_fd(-1)
            become(user)
            result, sock = work()
        except OSError as error:
            result = _ChildResult(
                "", b"", error.strerror or str(error), error.errno or 0, str(error.filename or "")
            )
        except Exception as error:
            result = _ChildResult(error=f"{type(error).__name__}: {error}")
        data = msgspec.msgpack.encode(result)
        if sock is not None:
            data = data[socket.send_fds(channel, [data], [sock.fileno()]) :]
        channel.sendall(data)
    finally:
        os._exit(0)  # the child must not return into the master's code


def _received(channel: socket.socket, timeout: float, most: int) -> tuple[_ChildResult, socket.socket | None]:
    """Read the result until the child closes the channel. Raises OSError after `timeout` seconds, or when there is
    no valid result."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    deadline = time.monotonic() + timeout
    received, sock = bytearray(), None
    try:
        while len(received) <= most:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError(errno.ETIMEDOUT, f"not done within {timeout:g} s")
            data, descriptors, _, _ = socket.recv_fds(channel, CHUNK, 1)
            for number in descriptors:
                sock = socket.socket(fileno=number)
            if not data:
                break
            received += data
        return msgspec.msgpack.decode(received, type=_ChildResult), sock
    except (OSError, msgspec.MsgspecError) as error:
        if sock is not None:
            sock.close()
        if isinstance(error, OSError):
            raise
        raise OSError(f"the child ended without a result: {error}") from error


def _reap(pid: int) -> None:
    """Kill and reap this child. One that hangs in the kernel for more than a second is left to the supervisor."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 1.0
    while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.001)
