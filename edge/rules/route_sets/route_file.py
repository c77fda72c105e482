"""Parsing of a file of routes, which replaces a core API when an operator knows the containers.

    routes:
      - hostnames: [shop.example.org, www.shop.example.org]
        backends: [{address: "10.4.7.12:26607"}, {address: "10.4.7.13:26607", role: standby}]
      - hostnames: [old.example.org]
        redirect: https://shop.example.org
      - hostnames: ["*.shops.example.org", "*"]
        backends: [{address: "unix:/run/others.sock"}]

It is parsed as the configuration is: all faults are reported at once, each with its position. The hostnames of one
entry share an environment. Pure: the text is an argument.

A tree of YAML nodes takes 9 KiB for each entry, and time of the garbage collector, which traverses all of them
again and again. So a file with one entry below the other, as nearly every file has, is parsed some entries at a
time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Final, Literal, NamedTuple

import yaml
from pydantic import Field

from edge.rules.route_sets.route_set import ANY, Destinations
from edge.rules.route_sets.route_set_records import Destination, Endpoint
from edge.rules.routing.route_validation import LONGEST_NAME, MOST_BACKENDS, BackendPolicy, redirect_fault
from edge.rules.routing.routes import may_exist
from edge.rules.settings import Section
from edge.rules.settings.file import parse_as
from edge.rules.settings.values import Address, Flag, SocketAddress, Text
from edge.rules.settings.yaml_text import Fault, FileLimits, Position, SettingsError, position_of, yaml_events

LIMITS: Final = FileLimits(bytes=64 << 20, values=2_000_000)
"Enough for a million hostnames, or 100,000 with six backends each."
READ_AT_ONCE: Final = 100
"Entries parsed at once; the time for each is the same from 20 to 1000."
ANYWHERE: Final = BackendPolicy((ip_network("0.0.0.0/0"), ip_network("::/0")))
"All addresses are allowed: the author of the file may know better than `core_api.backend_networks`."


class FileBackend(Section):
    """A backend: one container."""

    address: SocketAddress
    "Its host:port, [IPv6 address]:port, or unix:/path."
    id: Text = Field(default="", max_length=LONGEST_NAME)
    'Its name in logs and in X-Styx-Backend; "" = its address.'
    server: Text = Field(default="", max_length=LONGEST_NAME)
    "The machine that it shares with other containers."
    role: Literal["active", "standby"] = "active"
    state: Literal["running", "asleep", "draining"] = "running"
    tls: Flag = False
    "It is reached over TLS, and its certificate must name its id (backends.tls)."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.address.path:
            return
        if not self.address.host or not self.address.port:
            yield "address", "must name a host and a port, such as 10.4.7.12:8080, or a Unix socket: unix:/path"
        elif fault := ANYWHERE.fault_of(self.address.host, self.address.port):
            yield "address", fault


class FileRoute(Section):
    """An entry: hostnames with the same backends."""

    hostnames: tuple[Text, ...] = Field(min_length=1)
    backends: tuple[FileBackend, ...] = Field(default=(), max_length=MOST_BACKENDS)
    site: Text = Field(default="", max_length=LONGEST_NAME)
    'The name of the site; "" = its first hostname.'
    environment: Text = Field(default="live", min_length=1, max_length=LONGEST_NAME)
    maintenance: Flag = False
    "Requests get a 503."
    redirect: Text | None = None
    "A URL or a hostname to which requests are sent, with their path."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        for n, hostname in enumerate(self.hostnames):
            if hostname != ANY and not may_exist(hostname.lower().removeprefix("*.")):
                yield (
                    f"hostnames.{n}",
                    f"cannot be a hostname: labels of a-z 0-9 - joined by dots, not {hostname!r}",
                )
            elif fault := redirect_fault(self.redirect, hostname.lower()):
                yield "redirect", fault
                break
        known: set[str] = set()
        for n, backend in enumerate(self.backends):
            name = backend.id or str(backend.address)
            if name in known:
                yield f"backends.{n}", f"is already there: {name}"
            known.add(name)


class SomeRoutes(Section):
    """Some entries of a file. Hostnames that occur in several entries are not detected."""

    routes: tuple[FileRoute, ...] = ()


class RouteFile(SomeRoutes):
    """A whole file. Hostnames that occur twice are a fault."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from _as_faults(self, _duplicates([route.hostnames for route in self.routes]))


def destinations_in(text: str, *, name: str, may_be_empty: bool = True) -> Destinations:
    """Parse a file into hostnames and their destinations. `name` is that of the file in messages. Raises
    SettingsError, also for a file without hostnames unless `may_be_empty`."""
    lines = _entry_lines(text, name)
    if lines is not None:
        return _read_in_pieces(text, name, lines)
    whole = parse_as(RouteFile, text, name=name, environ={}, limits=LIMITS)
    if not whole.routes and not may_be_empty:
        words = "no hostname: every request would be answered 404"
        raise SettingsError((Fault(name, _empty_position(text, name), "routes", words),))
    return [_destination(route) for route in whole.routes]


def _destination(route: FileRoute) -> tuple[tuple[str, ...], Destination]:
    backends = tuple(
        Endpoint(
            b.id or str(b.address), _host_or_socket(b.address), b.address.port, b.server, b.role, b.state, b.tls
        )
        for b in route.backends
    )
    hostnames = tuple(map(str.lower, route.hostnames))
    to = Destination(route.site or hostnames[0], route.environment, backends, route.maintenance, route.redirect)
    return hostnames, to


def _host_or_socket(address: Address) -> str:
    """The address of a backend, in the form of the core API."""
    return str(address) if address.path else address.host


class _Duplicate(NamedTuple):
    """A hostname that occurs in an earlier entry, or twice in one."""

    entry: int
    position: int
    "Its position in the hostnames of that entry."
    first: int
    "The entry in which it occurs first."


def _duplicates(entries: Iterable[tuple[str, ...]]) -> Iterator[_Duplicate]:
    first: dict[str, int] = {}
    for n, hostnames in enumerate(entries):
        own: set[str] = set()
        for position, hostname in enumerate(map(str.lower, hostnames)):
            earlier = first.setdefault(hostname, n)
            if earlier != n or hostname in own:
                yield _Duplicate(n, position, earlier)
            own.add(hostname)


def _as_faults(file: SomeRoutes, duplicates: Iterable[_Duplicate], begin: int = 0) -> Iterator[tuple[str, str]]:
    """Return duplicates as faults of `file`, whose first entry has the number `begin` in the whole file."""
    for entry, position, first in duplicates:
        hostname = file.routes[entry - begin].hostnames[position]
        yield f"routes.{entry - begin}.hostnames.{position}", f"{hostname} is already in routes.{first}"


# parsing some entries at a time


def _entry_lines(text: str, name: str) -> list[int] | None:
    """Return the line in which each entry begins, counted from 0; None when the file must be parsed as a whole: it
    is not `routes:` with one entry below the other, or it has anchors or aliases, which refer to other parts.

    Raises SettingsError when the text is no YAML.
    """
    begins: list[Position] = []
    depth = nodes = 0
    regular = True
    for event in yaml_events(text, name=name, limits=LIMITS):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if not regular or not isinstance(event, yaml.NodeEvent):
            continue
        regular = event.anchor is None
        if depth < 3:
            nodes += depth == 1
            regular = regular and _is_regular(event, depth, nodes)
            if depth == 2:
                begins.append(position_of(event))
        depth += isinstance(event, yaml.CollectionStartEvent)
    if not regular or not begins:
        return None
    lines = text.splitlines()
    # Each entry must follow a `-` with nothing else before it on its line.
    if all(line <= len(lines) and lines[line - 1][: column - 1].strip(" ") == "-" for line, column in begins):
        return [line - 1 for line, _ in begins]
    return None


def _is_regular(event: yaml.NodeEvent, depth: int, nodes: int) -> bool:
    """Whether a regular file has this node at this depth. `nodes`: number of nodes at depth 1, with this one."""
    if getattr(event, "tag", None) is not None and not isinstance(event, yaml.ScalarEvent):
        return False
    match depth:
        case 0:
            return isinstance(event, yaml.MappingStartEvent) and not event.flow_style
        case 1 if nodes == 1:
            return isinstance(event, yaml.ScalarEvent) and event.value == "routes" and event.tag is None
        case 1:
            return nodes == 2 and isinstance(event, yaml.SequenceStartEvent) and not event.flow_style
        case _:
            return isinstance(event, yaml.MappingStartEvent)


def _read_in_pieces(text: str, name: str, starts: list[int]) -> Destinations:
    found: Destinations = []
    faults: list[Fault] = []
    for first, piece in _pieces(text, starts):
        try:
            whole = f"routes:\n{piece}"
            some = parse_as(SomeRoutes, whole, name=name, environ={}, limits=LIMITS, checked=True)
            found += map(_destination, some.routes)
        except SettingsError:
            faults += _faults(SomeRoutes, piece, name, first, starts[first])
    if not faults:
        wrong: dict[int, list[_Duplicate]] = {}
        for duplicate in _duplicates(hostnames for hostnames, _ in found):
            wrong.setdefault(duplicate.entry // READ_AT_ONCE, []).append(duplicate)
        for first, piece in _pieces(text, starts) if wrong else ():
            if some_wrong := wrong.get(first // READ_AT_ONCE):
                faults += _faults(_with_duplicates(some_wrong, first), piece, name, first, starts[first])
    if faults:
        raise SettingsError(tuple(faults))
    return found


def _pieces(text: str, starts: list[int]) -> Iterator[tuple[int, str]]:
    """Split the text into pieces: the number of the first entry of each, and its text."""
    lines = text.splitlines(keepends=True)
    for first in range(0, len(starts), READ_AT_ONCE):
        after = first + READ_AT_ONCE
        yield first, "".join(lines[starts[first] : starts[after] if after < len(starts) else None])


def _with_duplicates(duplicates: list[_Duplicate], begin: int) -> type[SomeRoutes]:
    """Return a section type that reports these duplicates as faults; parsing with it finds their positions."""

    class WithDuplicates(SomeRoutes):
        def contradictions(self) -> Iterator[tuple[str, str]]:
            yield from _as_faults(self, duplicates, begin)

    return WithDuplicates


def _faults(kind: type[SomeRoutes], piece: str, name: str, first: int, line: int) -> list[Fault]:
    """Return the faults of a piece that begins with entry `first` in line `line`, with the paths of the whole
    file."""
    padded = "routes:" + "\n" * line + piece
    try:
        parse_as(kind, padded, name=name, environ={}, limits=LIMITS)
    except SettingsError as error:
        return [replace(fault, path=_in_whole(fault.path, first)) for fault in error.faults]
    return []


def _in_whole(path: str, first: int) -> str:
    routes, _, rest = path.partition(".")
    entry, _, inner = rest.partition(".")
    return f"{routes}.{int(entry) + first}{'.' * bool(inner)}{inner}" if entry.isdecimal() else path


def _empty_position(text: str, name: str) -> Position:
    """The position for "no hostname" in a file without any: after `routes:`, if it has that."""
    after_name = False
    for event in yaml_events(text, name=name, limits=LIMITS):
        if after_name:
            return position_of(event)
        after_name = isinstance(event, yaml.ScalarEvent) and event.value == "routes"
    return Position(1, 1)
