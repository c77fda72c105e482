"""What a configuration relies on outside itself: looked at before anything is served by it.

`styx check`, a start and a reload ask here, so all of them find the same. Nothing is changed by it: no file is
made, and no connection is accepted. An address that is in use is no fault: styx itself may be running.
"""

import errno
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge.net.accept.listener import PRIVILEGED, open_listener
from edge.net.secret_files import SecretFileError, read_secret
from edge.rules.settings import AccessLogSettings, Settings
from edge.rules.settings.file import Fault, places_in
from edge.rules.settings.values import Address
from edge.run.files.as_user import acts_for, is_roots_own, text_from, user_exists
from edge.run.files.careful_files import FILES
from edge.run.routes.initial_routes import first_routes
from edge.run.routes.route_directory import state_directory

UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
FIRST_UNPRIVILEGED = 1024
"Unless the kernel says otherwise."
MOST_FINDINGS = 1000
"More are not told."
LISTENS = "0A"
"The state of a socket that listens, in /proc/net/tcp (proc_pid_net(5))."


class Finding(NamedTuple):
    """One thing that is not as the settings need it."""

    path: str
    "Of the setting, such as `listeners.0.address`."
    words: str


def preflight(
    name: str, text: str, settings: Settings, held: Container[Address] = (), *, routes: bool = True
) -> list[str]:
    """What stands in the way of these settings, in the order of the file, as `file:line:column: setting: words`.

    `name` and `text`: the file that they were read from. `held`: addresses for which there is a socket already.
    `routes`: whether a file of routes is looked at, too, which takes five seconds for 100,000 hostnames.
    """
    return as_faults(name, text, list(findings_of(settings, held, os.environ, routes=routes)))


def as_faults(name: str, text: str, findings: list[Finding]) -> list[str]:
    """Each with its place in the file of the settings."""
    if not findings:
        return []
    place = places_in(text)
    faults = [Fault(name, place(path), path, words) for path, words in findings]
    return [str(fault) for fault in sorted(faults, key=lambda fault: fault.place)]


def findings_of(
    settings: Settings, held: Container[Address], environ: Mapping[str, str], *, routes: bool = True
) -> Iterator[Finding]:
    """The same, without places."""
    if settings.user and not user_exists(settings.user):
        yield Finding("user", f"there is no user {settings.user!r} on this machine")
        yield from _of_files(settings)
    else:
        yield from _seen_by(settings.user, lambda: list(_of_files(settings)))
    if routes:
        yield from (Finding("core_api.url", words) for words in first_routes(settings)[1])
    if settings.redis.url is not None and find_spec("redis") is None:
        yield Finding("redis.url", "the redis package is not installed: pip install 'styx-edge[redis]'")
    directory = settings.routes.directory or state_directory(environ)
    if directory:
        yield from _of_directory(Path(directory).absolute(), settings.user)
    listeners = [(f"listeners.{n}.address", listener.address) for n, listener in enumerate(settings.listeners)]
    admin = ("admin.address", settings.admin.address), ("admin.socket", settings.admin.socket_address)
    for path, address in (*listeners, *admin):
        if address is not None and address not in held:
            yield from _of_address(path, address, settings.user)


def _of_files(settings: Settings) -> Iterator[Finding]:
    """Of what workers and the admin process open, with the rights that they have."""
    for path, file in (
        ("core_api.token_file", settings.core_api.token_file),
        ("admin.token_file", settings.admin.token_file),
        ("redis.password_file", settings.redis.password_file),
    ):
        try:
            read_secret(file)
        except SecretFileError as error:
            yield Finding(path, str(error))
    yield from _told("access_log.path", _log_fault(settings.access_log))


def _seen_by(user: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What `look` finds with the rights of this user (`as_user.py`)."""
    try:
        said = text_from(user, lambda: msgspec.json.encode(look()[:MOST_FINDINGS]).decode())
    except OSError as error:
        return [Finding("user", f"cannot find out what {user} may read and write: {error.strerror or error}")]
    return msgspec.json.decode(said, type=list[Finding])


def _told(path: str, words: str | None) -> Iterable[Finding]:
    return [Finding(path, words)] if words is not None else ()


def _log_fault(settings: AccessLogSettings) -> str | None:
    """Why the access log could not be written. A syslog that is not there yet is waited for."""
    path = settings.path
    if path in ("", "-") or settings.syslog is not None:
        return None
    try:
        _try_to_append(path)
    except OSError as error:
        return f"{error.strerror}: {path}"
    return None


def _try_to_append(path: str) -> None:
    """Raises OSError. A file that is not there is not made: somebody may wait for it."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        _try_to_make_entries(Path(os.path.realpath(path)).parent)
        return
    if stat.S_ISFIFO(mode):  # who opens it is noticed by its reader
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))


def _try_to_make_entries(directory: Path) -> None:
    """Raises OSError when no file could be made here."""
    if not stat.S_ISDIR(os.stat(directory).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _of_directory(directory: Path, user: str) -> list[Finding]:
    """Whether routes can be kept here, with the rights of this user. What is missing of the path will be made, and
    what is root's own given to the user (`route_directory.py`)."""
    findings = _seen_by(user, lambda: list(_told("routes.directory", _directory_fault(directory))))
    there = _nearest(directory)
    if findings and acts_for(user) and is_roots_own(there):
        return [] if there != directory or set(os.listdir(there)) <= set(FILES) else findings
    return findings


def _directory_fault(directory: Path) -> str | None:
    there = _nearest(directory)
    try:
        _try_to_make_entries(there)
    except OSError as error:
        return f"{there}: {error.strerror}"
    return None


def _nearest(directory: Path) -> Path:
    """What is there of this path."""
    return next(path for path in (directory, *directory.parents) if os.path.lexists(path) or path == path.parent)


def _of_address(path: str, address: Address, user: str) -> Iterable[Finding]:
    """Whether we could listen here: in a directory that is not root's alone, with the rights of this user."""
    if not address.path:
        return _told(path, _address_fault(address))
    whose = "" if is_roots_own(os.path.dirname(address.path)) else user
    return _seen_by(whose, lambda: list(_told(path, _unix_fault(Path(address.path)))))


def _address_fault(address: Address) -> str | None:
    """Why nobody could listen here; None = somebody could, or does."""
    # Any free port, so that nobody who starts at this moment is kept from his own; but a low one asks for rights.
    ports = [0, *([address.port] if 0 < address.port < _first_unprivileged() else [])]
    for port in ports:
        try:
            open_listener(Address(address.host, port)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE and not (error.errno == errno.EACCES and _somebody_listens(port)):
                why = error.__cause__ if isinstance(error.__cause__, OSError) else error
                hint = PRIVILEGED if error.errno == errno.EACCES else ""
                return f"cannot listen on {address}: {why.strerror}{hint}"
    return None


def _unix_fault(path: Path) -> str | None:
    try:
        if os.path.lexists(path) and not path.is_socket():
            return f"cannot listen on unix:{path}: something else is there"
        _try_to_make_entries(path.parent)
    except OSError as error:
        return f"cannot listen on unix:{path}: {error.strerror}"
    return None


def _somebody_listens(port: int) -> bool:
    """Whether there is a TCP socket that listens on this port of any address."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


def _first_unprivileged() -> int:
    try:
        return int(UNPRIVILEGED.read_text())
    except (OSError, ValueError):
        return FIRST_UNPRIVILEGED
