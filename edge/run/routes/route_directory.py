"""Prepares the directory where routes are saved: finds or creates it, and gives it to the user who writes there.

It belongs to the user that workers become (`user:`), and is created and checked with that user's rights. Root acts
only where nobody but root can change anything: it creates what is missing in a directory of its own, and changes
the owner of what a start without `user:` has left there.
"""

import errno
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Mapping, MutableMapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from edge.rules.settings import Settings
from edge.run.files.as_user import acts_for, is_roots_own, text_from
from edge.run.files.careful_files import FILES

HANDED_OVER: Final = "STYX_ROUTES"
"Environment variable that passes a temporary directory to the edge that takes over."

log = structlog.get_logger("styx.master")


class RouteDirectory(NamedTuple):
    """A directory where routes are saved."""

    path: Path
    temporary: bool
    "Whether it is removed when the edge ends."
    user: str
    "The user with whose rights it is accessed; empty = ours."


class RouteDirectories:
    """The directories that one master has used. It removes temporary ones at its end, but not one that it has from
    the previous master while that is still running."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._lent = environ.get(HANDED_OVER, "")
        self._lender = os.getppid()
        self._temporary: list[RouteDirectory] = []

    def prepare(self, settings: Settings) -> Path:
        """Prepare the directory of these settings. Raises OSError, with the reason in its text."""
        try:
            directory = prepare_directory(settings, self._environ)
        except OSError as error:
            where = error.filename or settings.routes.directory or "a temporary directory"
            raise OSError(error.errno, f"routes.directory: {where}: {error.strerror or error}") from error
        if directory.temporary:
            self._environ[HANDED_OVER] = str(directory.path)  # for an edge that takes over
            if directory not in self._temporary:
                self._temporary.append(directory)
        return directory.path

    def remove_temporary(self) -> None:
        """Remove temporary directories, at the end of the edge."""
        for path, _, user in self._temporary:
            if str(path) == self._lent and os.getppid() == self._lender:
                continue
            try:
                text_from(user, partial(_removed, path))
            except OSError as error:
                log.warning("directory of routes not removed", code="routes_not_removed", error=str(error))


def prepare_directory(settings: Settings, environ: Mapping[str, str]) -> RouteDirectory:
    """Prepare `routes.directory`; else the state directory of systemd (`StateDirectory=`); else a temporary one.

    Raises OSError.
    """
    user, named = settings.user, settings.routes.directory or state_directory(environ)
    if not named:
        path = text_from(user, lambda: _temporary(environ.get(HANDED_OVER, "")))
        return RouteDirectory(Path(path), True, user)
    path = os.path.abspath(named)
    try:
        text_from(user, lambda: _made(path))
    except PermissionError:
        if not acts_for(user):
            raise
        _give(path, user)
        text_from(user, lambda: _made(path))
    return RouteDirectory(Path(path), False, user)


def state_directory(environ: Mapping[str, str]) -> str:
    """The directory of routes in the state directory of systemd (`StateDirectory=`); "" = there is none."""
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return f"{state}/routes" if state else ""


def _removed(path: Path) -> str:
    shutil.rmtree(path)
    return ""


def _temporary(handed_over: str) -> str:
    """The temporary directory that the previous edge passes on, if only our user may use it; else a new one."""
    try:
        found = os.lstat(handed_over)
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if private and found.st_uid == os.geteuid():
            return handed_over
    except OSError:
        pass
    return tempfile.mkdtemp(prefix="styx-routes-")


def _made(path: str) -> str:
    """Create this directory if it is missing. Raises OSError, also when it is not writable."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise _refused("Permission denied", path)
    return path


def _give(path: str, user: str) -> None:
    """As root, in a directory of root: create this one if it is missing, and make this user its owner.

    Raises OSError.
    """
    missing = [path]
    while not os.path.lexists(missing[-1]) and missing[-1] != "/":
        missing.append(os.path.dirname(missing[-1]))
    existing = missing.pop()
    if not is_roots_own(existing):
        raise _refused(f"{user} may not write there, and it is not root's own", path)
    for directory in reversed(missing):
        os.mkdir(directory, 0o700 if directory == path else 0o755)
    path = os.path.realpath(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_mode & stat.S_ISVTX or not set(os.listdir(descriptor)) <= set(FILES):
            raise _refused(f"others have files in it, so it is not given to {user}", path)
        entry = pwd.getpwnam(user)
        # While the directory belongs to root, nobody else can replace a file between the check and the chown.
        for name in FILES:
            if _is_plain_file_of_root(name, descriptor):
                os.chown(name, entry.pw_uid, entry.pw_gid, dir_fd=descriptor, follow_symlinks=False)
        os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
    finally:
        os.close(descriptor)


def _refused(why: str, path: str) -> PermissionError:
    return PermissionError(errno.EACCES, why, path)


def _is_plain_file_of_root(name: str, directory: int) -> bool:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == 0
