"""Checks what a configuration relies on outside itself, before styx serves with it.

`styx check`, a start and a reload run the same checks. They change nothing: no file is created, and no connection
is accepted. An address that is in use is no fault here: styx itself may be running. What styx serves without is a
warning of `styx check`; a start logs it (`tolerated`).
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge.net.accept.listener import PRIVILEGED, is_stale, open_listener
from edge.net.acme.authority import is_usable_hmac_key
from edge.net.acme.issuance_files import FOLDER
from edge.net.certificates.certificate_directory import CertificateDirectory
from edge.net.routing.core_api_session import checked_context
from edge.net.secret_files import SecretFileError, read_secret
from edge.net.tls.client_verification import read_authorities, read_revocations
from edge.net.tls.ticket_secret_file import read_ticket_secrets
from edge.rules.route_sets.route_set import first_with_tls
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import AccessLogSettings, Settings
from edge.rules.settings.file import Fault, places_in
from edge.rules.settings.values import Address
from edge.run.files.as_user import TIMEOUT, acts_for, is_roots_own, text_from, user_exists
from edge.run.files.careful_files import FILES
from edge.run.pages.page_directory import read_pages
from edge.run.routes.initial_routes import first_routes
from edge.run.routes.route_directory import state_directory
from edge.run.sockets.socket_holders import is_listened_on, programs_on

UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
FIRST_UNPRIVILEGED = 1024
"The default of Linux, if the file above cannot be read."
MOST_FINDINGS = 1000
"Further ones are not reported."
LENDERS = frozenset({"styx", "systemd"})
"""Programs that leave their sockets to a styx that starts: the one that it replaces, and who opens them for it. (Of
the processes of a styx, what they are is behind a colon.)"""
CERTIFICATES_TIMEOUT = 60.0
"Seconds to read a directory of certificates: 100,000 pairs take about fifteen."


class Finding(NamedTuple):
    """One thing that keeps styx from serving with these settings."""

    path: str
    "Path of the setting, such as `listeners.0.address`."
    words: str


def preflight(
    name: str, text: str, settings: Settings, held: Container[Address] = (), *, routes: bool = True
) -> list[str]:
    """All findings about these settings, in the order of the file, as `file:line:column: setting: words`.

    `name` and `text`: the file that they were read from. `held`: addresses that have a socket already.
    `routes`: whether a file of routes is checked, too, which takes five seconds for 100,000 hostnames.
    """
    return as_faults(name, text, list(findings_of(settings, held, os.environ, routes=routes)))


def as_faults(name: str, text: str, findings: list[Finding]) -> list[str]:
    """Format these findings, each with its line and column in the configuration file."""
    if not findings:
        return []
    place = places_in(text)
    faults = [Fault(name, place(path), path, words) for path, words in findings]
    return [str(fault) for fault in sorted(faults, key=lambda fault: fault.position)]


def findings_of(
    settings: Settings,
    held: Container[Address],
    environ: Mapping[str, str],
    *,
    routes: bool = True,
) -> Iterator[Finding]:
    """All findings about these settings, in the order of the checks. Parameters as in `preflight`."""
    if settings.user and not user_exists(settings.user):
        yield Finding("user", f"there is no user {settings.user!r} on this machine")
        yield from _of_files(settings)
    else:
        yield from _seen_by(settings.user, lambda: list(_of_files(settings)))
    if routes:
        yield from _of_routes(settings)
    if settings.redis.url is not None and find_spec("redis") is None:
        yield Finding("redis.url", "the redis package is not installed: pip install 'styx-edge[redis]'")
    if settings.traces.endpoint is not None and find_spec("opentelemetry") is None:
        yield Finding("traces.endpoint", "opentelemetry is not installed: pip install 'styx-edge[traces]'")
    if settings.tls.acme.is_on and (find_spec("acme") is None or find_spec("publicsuffixlist") is None):
        yield Finding("tls.acme.directory_url", "acme is not installed: pip install 'styx-edge[acme]'")
    directory = settings.routes.directory or state_directory(environ)
    if directory:
        yield from _of_directory(Path(directory).absolute(), settings.user)
    listeners = [(f"listeners.{n}.address", listener.address) for n, listener in enumerate(settings.listeners)]
    admin = ("admin.address", settings.admin.address), ("admin.socket", settings.admin.socket_address)
    for path, address in (*listeners, *admin):
        if address is not None and address not in held:
            yield from _of_address(path, address, settings.user)


def _of_files(settings: Settings) -> Iterator[Finding]:
    """Findings about the files that workers and the admin process open, with the rights of this process."""
    for path, file in (
        ("core_api.token_file", settings.core_api.token_file),
        ("admin.token_file", settings.admin.token_file),
        ("redis.password_file", settings.redis.password_file),
        ("traces.token_file", settings.traces.token_file),
    ):
        try:
            read_secret(file)
        except SecretFileError as error:
            yield Finding(path, str(error))
    for path, identity in (("core_api.tls", settings.core_api.tls), ("backends.tls", settings.backends.tls)):
        try:
            if identity.files:
                checked_context(path, identity)
        except SecretFileError as error:
            yield Finding(path, str(error).removeprefix(f"{path}: "))
    tickets = settings.tls.tickets.file
    try:
        if tickets is not None:
            read_ticket_secrets(tickets)
    except SecretFileError as error:
        yield Finding("tls.tickets.file", str(error))
    if settings.tls.acme.is_on:
        yield from _of_acme(settings)
    elif settings.tls.directory is not None and any(listener.tls for listener in settings.listeners):
        yield from _of_certificates(settings.tls.directory)
    for n, listener in enumerate(settings.listeners):
        try:
            authorities = listener.client_ca and read_authorities(listener.client_ca, is_required=True)
        except SecretFileError as error:
            yield Finding(f"listeners.{n}.client_ca", str(error))
            continue
        try:
            if authorities and listener.client_crl is not None:
                read_revocations(listener.client_crl, authorities)
        except SecretFileError as error:
            yield Finding(f"listeners.{n}.client_crl", str(error))
    yield from _findings("access_log.path", _log_fault(settings.access_log))


def _of_acme(settings: Settings) -> Iterator[Finding]:
    """Findings about the files of the issuer."""
    acme, directory = settings.tls.acme, Path(settings.tls.directory or "")
    try:
        _try_to_make_entries(directory / FOLDER if (directory / FOLDER).exists() else directory)
        _try_to_make_entries(directory)
    except OSError as error:
        yield Finding("tls.certificates", f"certificates cannot be written there: {error.strerror}: {directory}")
    else:
        yield from _of_certificates(str(directory))
    try:
        if acme.ca_file is not None:
            read_authorities(acme.ca_file, is_required=False)
    except SecretFileError as error:
        yield Finding("tls.acme.ca_file", str(error))
    try:
        if acme.eab_key_file is not None and not is_usable_hmac_key(read_secret(acme.eab_key_file)):
            yield Finding("tls.acme.eab_key_file", f"{acme.eab_key_file} is no key in base64url")
    except SecretFileError as error:
        yield Finding("tls.acme.eab_key_file", str(error))


def _of_routes(settings: Settings) -> Iterator[Finding]:
    """Findings about a file of routes."""
    _, faults = first_routes(settings)
    yield from (Finding("core_api.url", words) for words in faults)


def _of_route_set(settings: Settings, routes: RouteSet | None) -> Iterator[Finding]:
    """Findings about these settings with the routes of a pushed source; None = there is none."""
    if routes is not None and not settings.backends.tls.is_set and (backend := first_with_tls(routes)) is not None:
        words = f"neither ca nor certificate is set: {backend} gets no requests, as all with tls in {routes.source}"
        yield Finding("backends.tls", words)


def tolerated(settings: Settings, routes: RouteSet | None) -> Iterator[Finding]:
    """What is wrong, though styx serves all the same: backends, error pages and certificates that it does not use.
    `routes`: those of a pushed source; None = there is none."""
    yield from _of_route_set(settings, routes)
    yield from pages_not_used(settings)
    if any(listener.client_crl for listener in settings.listeners):
        yield from _seen_by(settings.user, lambda: list(_of_lists(settings)))
    if settings.tls.directory is not None and any(listener.tls for listener in settings.listeners):
        directory = settings.tls.directory
        yield from _seen_by(settings.user, lambda: list(_of_pairs(directory)), CERTIFICATES_TIMEOUT)


def _of_lists(settings: Settings) -> Iterator[Finding]:
    """Findings about revocation lists by which clients are not let in, with the rights of this process."""
    for n, listener in enumerate(settings.listeners):
        if listener.client_ca is None or listener.client_crl is None:
            continue
        with suppress(SecretFileError):  # which `_of_files` finds
            lists = read_revocations(listener.client_crl, read_authorities(listener.client_ca, is_required=True))
            words = [
                f"the list of {each.issuer} has ended, or has not begun: its clients are not let in"
                for each in lists.not_in_force(time.time())
            ]
            words += [f"there is no list of {name}: what it issues itself is not let in" for name in lists.without]
            yield from (Finding(f"listeners.{n}.client_crl", f"{each}: {listener.client_crl}") for each in words)


def pages_not_used(settings: Settings) -> list[Finding]:
    """Faults in the templates of error pages: the last good content is used, or the built-in page."""
    directory = settings.pages.directory
    return [] if directory is None else _seen_by(settings.user, lambda: list(_of_pages(directory)))


def _of_pages(directory: str) -> Iterator[Finding]:
    """Findings about the templates of error pages, with the rights of this process."""
    try:
        checked = read_pages(directory, {})
    except OSError as error:
        yield Finding("pages.directory", f"{error.strerror or error}: {directory}")
    else:
        yield from (Finding("pages.directory", fault.text(directory)) for fault in checked.faults)


def _of_certificates(directory: str) -> Iterator[Finding]:
    """Findings about the directory of certificates itself, with the rights of this process."""
    try:
        os.scandir(directory).close()
    except OSError as error:
        yield Finding("tls.certificates", f"{error.strerror or error}: {directory}")


def _of_pairs(directory: str) -> Iterator[Finding]:
    """Findings about the certificates in a directory, with the rights of this process."""
    with suppress(OSError):  # which `_of_certificates` finds
        for fault in CertificateDirectory(directory).read().faults:
            where = f"{directory}/{fault.file}: " if fault.file else ""
            yield Finding("tls.certificates", f"{where}{fault.words}")


def _seen_by(user: str, checks: Callable[[], list[Finding]], timeout: float = TIMEOUT) -> list[Finding]:
    """The findings of these checks, run with the rights of this user (`as_user.py`)."""
    try:
        text = text_from(user, lambda: msgspec.json.encode(checks()[:MOST_FINDINGS]).decode(), timeout)
    except OSError as error:
        return [Finding("user", f"cannot find out what {user} may read and write: {error.strerror or error}")]
    return msgspec.json.decode(text, type=list[Finding])


def _findings(path: str, words: str | None) -> Iterable[Finding]:
    return [Finding(path, words)] if words is not None else ()


def _log_fault(settings: AccessLogSettings) -> str | None:
    """Why the access log cannot be written; None = it can. A syslog need not be there yet: the log waits for it."""
    path = settings.path
    if path in ("", "-") or settings.syslog is not None:
        return None
    try:
        _try_to_append(path)
    except OSError as error:
        return f"{error.strerror}: {path}"
    return None


def _try_to_append(path: str) -> None:
    """Check that this file can be appended to. Raises OSError. A missing file is not created: another program may
    wait for it to appear."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        _try_to_make_entries(Path(os.path.realpath(path)).parent)
        return
    if stat.S_ISFIFO(mode):  # not opened: its reader would notice
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))


def _try_to_make_entries(directory: Path) -> None:
    """Check that files can be created in this directory. Raises OSError."""
    if not stat.S_ISDIR(os.stat(directory).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _of_directory(directory: Path, user: str) -> list[Finding]:
    """Findings about the directory of routes, with the rights of this user. A start creates what is missing of the
    path, and gives a directory of root to the user (`route_directory.py`)."""
    findings = _seen_by(user, lambda: list(_findings("routes.directory", _directory_fault(directory))))
    existing = _nearest(directory)
    if findings and acts_for(user) and is_roots_own(existing):
        return [] if existing != directory or set(os.listdir(existing)) <= set(FILES) else findings
    return findings


def _directory_fault(directory: Path) -> str | None:
    existing = _nearest(directory)
    try:
        _try_to_make_entries(existing)
    except OSError as error:
        return f"{existing}: {error.strerror}"
    if existing == directory and not os.access(directory, os.R_OK, effective_ids=True):
        return f"{existing}: {os.strerror(errno.EACCES)}"
    return None


def _nearest(directory: Path) -> Path:
    """The longest part of this path that exists."""
    return next(path for path in (directory, *directory.parents) if os.path.lexists(path) or path == path.parent)


def _of_address(path: str, address: Address, user: str) -> Iterable[Finding]:
    """Findings about an address to listen on. A Unix socket in a directory that not only root can change is checked
    with the rights of this user."""
    if not address.path:
        return _findings(path, _address_fault(address))
    whose = "" if is_roots_own(os.path.dirname(address.path)) else user
    return _seen_by(whose, lambda: list(_findings(path, _unix_fault(Path(address.path)))))


def _address_fault(address: Address) -> str | None:
    """Why styx cannot listen on this address; None = it can, or a process listens there already."""
    # Port 0, any free one, so that a process that starts at this moment can bind its own port; a privileged port is
    # bound as well, because it needs rights.
    ports = [0, *([address.port] if 0 < address.port < _first_unprivileged() else [])]
    for port in ports:
        try:
            open_listener(Address(address.host, port)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE and not (
                error.errno == errno.EACCES and is_listened_on(Address(address.host, port))
            ):
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


def _first_unprivileged() -> int:
    try:
        return int(UNPRIVILEGED.read_text())
    except (OSError, ValueError):
        return FIRST_UNPRIVILEGED


class AddressInUse(NamedTuple):
    """An address on which a start could not listen now."""

    words: str
    "As a start says it."
    may_be_ours: bool
    "Whether a program listens there that this process may not look at: it may be a styx, or systemd."


def addresses_in_use(settings: Settings) -> Iterator[AddressInUse]:
    """The addresses that are in use, in the order in which they are opened: but not those of a styx, which a reload
    keeps, nor those that systemd opens for one."""
    listeners = (listener.address for listener in settings.listeners)
    for address in (*listeners, settings.admin.address, settings.admin.socket_address):
        if address is not None and _is_in_use(address, settings.user):
            programs = programs_on(address)
            if not any(program.partition(":")[0] in LENDERS for program in programs):
                words = f"cannot listen on {address}: {os.strerror(errno.EADDRINUSE)}"
                yield AddressInUse(words, not programs and is_listened_on(address))


def _is_in_use(address: Address, user: str) -> bool:
    if address.path:
        return _is_other_socket(user, address.path)
    if not address.port or not is_listened_on(address):
        return False
    try:  # since somebody listens there, no process that starts at this moment is kept from it
        open_listener(address).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def _is_other_socket(user: str, path: str) -> bool:
    """Whether this path is a socket that styx would not replace, with the rights that `_open_unix` has."""
    whose = "" if is_roots_own(os.path.dirname(path)) else user
    found = [Finding("", path)]
    return _seen_by(whose, lambda: found if Path(path).is_socket() and not is_stale(path) else []) == found
