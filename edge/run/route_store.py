"""The routes on disk: what an edge knew outlives its workers, and itself.

    DIRECTORY/routes       what was known at the last merge, written whole and renamed into place
    DIRECTORY/routes.new   what came since, appended

Workers read both before they accept. Only the admin process writes, in a thread; a lock keeps two of them apart
while one edge takes over from another. Nothing here is on the way of a request, and nothing here ends an edge: a
file that cannot be read or written is told in the log.
"""

import fcntl
import os
import pwd
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from edge.rules.route_records import HEADER, Damaged, Record, check, newest, records, still_useful
from edge.rules.settings import Settings

LEAST_MERGED: Final = 1 << 20
"Bytes of new records before they are merged; beyond that, as many as there are merged ones."
HANDED_OVER: Final = "STYX_ROUTES"
"Names a temporary directory to the edge that takes over."

log = structlog.get_logger("styx.routes")


def make_directory(settings: Settings, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """Where the routes are kept, and whether that is temporary. Raises OSError.

    `routes.directory`; else what systemd gives for state (`StateDirectory=`); else one that ends with the edge.
    """
    named = settings.routes.directory or state_directory(environ)
    temporary = not named
    directory = Path(named or environ.get(HANDED_OVER) or tempfile.mkdtemp(prefix="styx-routes-"))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.user and os.geteuid() == 0:
        entry = pwd.getpwnam(settings.user)
        for path in (directory, *directory.glob("routes*")):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    return directory, temporary


def state_directory(environ: Mapping[str, str]) -> str:
    """Where routes go in what systemd gives for state (`StateDirectory=`); "" = it gives nothing."""
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return f"{state}/routes" if state else ""


class RouteStore:
    """The files of one directory."""

    def __init__(self, directory: Path, capacity: int) -> None:
        self._merged = directory / "routes"
        self._new = directory / "routes.new"
        self._lock = directory / "routes.lock"
        self._capacity = capacity

    def read(self) -> dict[str, Record]:
        """The newest record of each hostname. What cannot be read is told in the log."""
        return self._read()

    def mend(self) -> None:
        """Put a damaged or foreign file aside, so that what is appended can be read. Raises OSError."""
        with self._alone():
            if not all(self._is_whole(path) for path in (self._merged, self._new)):
                self._merge(self._read())

    def append(self, new: Iterable[bytes]) -> None:
        """Write these records, and merge when there are many. Raises OSError."""
        with self._alone():
            with self._new.open("ab") as file:
                begin = b"" if file.tell() else HEADER
                file.write(begin + b"".join(new))
                size = file.tell()
            if size > max(LEAST_MERGED, _size(self._merged)):
                self._merge(self._read())

    def _read(self) -> dict[str, Record]:
        kept: dict[str, Record] = {}
        for path in (self._merged, self._new):
            data = self._content(path)
            try:
                if data:
                    newest(records(data, _after_header(data)), kept)
            except Damaged as error:
                log.error("routes that cannot be understood are not used", file=str(path), error=str(error))
        return kept

    def _is_whole(self, path: Path) -> bool:
        data = self._content(path)
        try:
            if data:
                check(data, _after_header(data))
        except Damaged:
            return False
        return True

    def _content(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            log.error("cannot read routes", file=str(path), error=error.strerror)
            return b""

    def _merge(self, kept: dict[str, Record]) -> None:
        coming = self._merged.with_suffix(".coming")
        with coming.open("wb") as file:
            file.write(HEADER)
            file.writelines(record.data for record in still_useful(kept, time.time(), self._capacity))
            file.flush()
            os.fsync(file.fileno())
        coming.replace(self._merged)
        self._new.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _after_header(data: bytes) -> int:
    if not data.startswith(HEADER):
        raise Damaged(0, "it is no file of routes of this version")
    return len(HEADER)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
