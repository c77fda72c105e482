"""The path of the admin socket when `admin.socket` does not set one.

Its file is named after the admin address, so that each of several edges on one machine has its own, and another
edge with the same address, which takes over from this one, has the same. The commands need not know the path: the
admin server names it when it denies a command over TCP.
"""

import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edge.rules.settings.values import Address


def file_name(bound: socket.socket) -> str:
    """The name of the admin socket beside this TCP socket on the admin address, with the port it is bound to."""
    host, port = bound.getsockname()[:2]
    return f"admin-{Address(str(host), int(port))}.sock"


def directories(environ: Mapping[str, str], user: int) -> list[Path]:
    """The directories that it may be in, the best one first.

    systemd's `RuntimeDirectory=`; /run/styx for root; the user's own XDG runtime directory; /tmp and /dev/shm,
    which are usually writable in a container with a read-only file system.
    """
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    own = environ.get("XDG_RUNTIME_DIR", "") if user else "/run"
    parents = [Path(own, "styx")] if own else []
    shared = [Path(directory, f"styx-{user}") for directory in ("/tmp", "/dev/shm")]
    return [*([Path(given)] if given else []), *parents, *shared]


def prepare(directory: Path) -> None:
    """Create this directory, for this user only, if it is missing. Raises OSError, also when other users may write
    in it."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) and not _is_link_of_root(directory, status):
        raise NotADirectoryError(0, "Not a directory", str(directory))
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, "Others may write there", str(directory))


def _is_link_of_root(path: Path, status: os.stat_result) -> bool:
    """Whether this is a link of root, such as systemd's from /run/styx to /run/private/styx for a dynamic user."""
    return stat.S_ISLNK(status.st_mode) and status.st_uid == 0
