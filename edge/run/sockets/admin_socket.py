"""Where the admin socket lies when `admin.socket` does not say.

Its file is named after the admin address, so that several edges of one machine have one each, and a further edge
with the same address, which takes the place of this one, has the same. The commands need not know where it is: the
admin server names it when it is asked over TCP to act.
"""

import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edge.rules.settings.values import Address


def file_name(bound: socket.socket) -> str:
    """Of the admin socket beside a TCP socket on the admin address, with the port that it really has."""
    host, port = bound.getsockname()[:2]
    return f"admin-{Address(str(host), int(port))}.sock"


def directories(environ: Mapping[str, str], user: int) -> list[Path]:
    """Where it may lie, the best place first.

    systemd's `RuntimeDirectory=`; /run/styx for root; the user's own XDG runtime directory; in containers with a
    file system that is read-only, /tmp or /dev/shm are usually still writable.
    """
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    own = environ.get("XDG_RUNTIME_DIR", "") if user else "/run"
    parents = [Path(own, "styx")] if own else []
    shared = [Path(directory, f"styx-{user}") for directory in ("/tmp", "/dev/shm")]
    return [*([Path(given)] if given else []), *parents, *shared]


def prepare(directory: Path) -> None:
    """Make it, for us alone, if it is not there. Raises OSError, also when others may put files into it."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) and not _is_link_of_root(directory, status):
        raise NotADirectoryError(0, "Not a directory", str(directory))
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, "Others may write there", str(directory))


def _is_link_of_root(path: Path, status: os.stat_result) -> bool:
    """As systemd makes one from /run/styx to /run/private/styx for a dynamic user."""
    return stat.S_ISLNK(status.st_mode) and status.st_uid == 0
