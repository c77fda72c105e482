"""The directory where routes are kept: found or made, and given to the user who writes there.

It belongs to the user that workers become (`user:`). With that user's rights it is made and looked at; root has a
hand in it only where nobody but root can change anything: it makes what is missing in a directory of its own, and
gives away what a start without `user:` has left there.
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
"Names a temporary directory to the edge that takes over."

log = structlog.get_logger("styx.master")


class RouteDirectory(NamedTuple):
    """Where routes are kept."""

    path: Path
    temporary: bool
    "It ends with the edge."
    user: str
    "With whose rights it is worked in; empty = ours."


class RouteDirectories:
    """Those that one master has used. Temporary ones end with it, but not one that another master has lent to it
    which is still there."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._lent = environ.get(HANDED_OVER, "")
        self._lender = os.getppid()
        self._temporary: list[RouteDirectory] = []

    def prepare(self, settings: Settings) -> Path:
        """For these settings. Raises OSError, with what is in the way in its text."""
        try:
            directory = prepare_directory(settings, self._environ)
        except OSError as error:
            where = error.filename or settings.routes.directory or "a temporary directory"
            raise OSError(error.errno, f"routes.directory: {where}: {error.strerror or error}") from error
        if directory.temporary:
            self._environ[HANDED_OVER] = str(directory.path)  # who takes over goes on with it
            if directory not in self._temporary:
                self._temporary.append(directory)
        return directory.path

    def remove_temporary(self) -> None:
        """At the end of the edge."""
        for path, _, user in self._temporary:
            if str(path) == self._lent and os.getppid() == self._lender:
                continue
            try:
                text_from(user, partial(_removed, path))
            except OSError as error:
                log.warning("directory of routes not removed", code="routes_not_removed", error=str(error))


def prepare_directory(settings: Settings, environ: Mapping[str, str]) -> RouteDirectory:
    """`routes.directory`; else what systemd gives for state (`StateDirectory=`); else one that ends with the edge.

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
    """Where routes go in what systemd gives for state (`StateDirectory=`); "" = it gives nothing."""
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return f"{state}/routes" if state else ""


def _removed(path: Path) -> str:
    shutil.rmtree(path)
    return ""


def _temporary(handed_over: str) -> str:
    """The one that an edge before us hands over, if it is ours alone; else a new one."""
    try:
        found = os.lstat(handed_over)
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if private and found.st_uid == os.geteuid():
            return handed_over
    except OSError:
        pass
    return tempfile.mkdtemp(prefix="styx-routes-")


def _made(path: str) -> str:
    """Make it if it is not there. Raises OSError, above all when one may not write there."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise _refused("Permission denied", path)
    return path


def _give(path: str, user: str) -> None:
    """By root, in its own directories: make this one, or take it as it is, and give it to this user.

    Raises OSError.
    """
    missing = [path]
    while not os.path.lexists(missing[-1]) and missing[-1] != "/":
        missing.append(os.path.dirname(missing[-1]))
    there = missing.pop()
    if not is_roots_own(there):
        raise _refused(f"{user} may not write there, and it is not root's own", path)
    for directory in reversed(missing):
        os.mkdir(directory, 0o700 if directory == path else 0o755)
    path = os.path.realpath(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_mode & stat.S_ISVTX or not set(os.listdir(descriptor)) <= set(FILES):
            raise _refused(f"others have files in it, so it is not given to {user}", path)
        entry = pwd.getpwnam(user)
        # As long as the directory is root's, nobody puts another file in the place of the one that was looked at.
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
