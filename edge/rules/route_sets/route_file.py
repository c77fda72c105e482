"""Routes in a file instead of a core API: for sites whose containers an operator knows.

    routes:
      - hostnames: [shop.example.org, www.shop.example.org]
        backends: [{address: "10.4.7.12:26607"}, {address: "10.4.7.13:26607", role: standby}]
      - hostnames: [old.example.org]
        redirect: https://shop.example.org
      - hostnames: ["*.shops.example.org", "*"]
        backends: [{address: "unix:/run/others.sock"}]

Read as the configuration is: every fault at once, each with its place. Hostnames of one entry share what is learned
about its backends. Pure: the text is an argument.

A tree of YAML nodes takes 9 KiB for each entry, and the time of a garbage collector that looks at all of them again
and again. So what lists one entry below the other, as nearly every file does, is read some entries at a time.
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
from edge.rules.settings.yaml_text import Fault, FileLimits, Position, SettingsError, place_of, yaml_events

LIMITS: Final = FileLimits(bytes=64 << 20, values=2_000_000)
"A million hostnames, or 100,000 with six backends each."
READ_AT_ONCE: Final = 100
"Entries; the time for each is the same from 20 to 1000."
ANYWHERE: Final = BackendPolicy((ip_network("0.0.0.0/0"), ip_network("::/0")))
"Where backends may be: who writes the file may know better than `core_api.backend_networks`."


class FileBackend(Section):
    """One container."""

    address: SocketAddress
    "Its host:port, [IPv6 address]:port, or unix:/path."
    id: Text = Field(default="", max_length=LONGEST_NAME)
    'What it is called in logs and in X-Styx-Backend; "" = its address.'
    server: Text = Field(default="", max_length=LONGEST_NAME)
    "The machine that it shares with others."
    role: Literal["active", "standby"] = "active"
    state: Literal["running", "asleep", "draining"] = "running"

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.address.path:
            return
        if not self.address.host or not self.address.port:
            yield "address", "must name a host and a port, such as 10.4.7.12:8080, or a Unix socket: unix:/path"
        elif fault := ANYWHERE.fault_of(self.address.host, self.address.port):
            yield "address", fault


class FileRoute(Section):
    """Hostnames that have the same backends."""

    hostnames: tuple[Text, ...] = Field(min_length=1)
    backends: tuple[FileBackend, ...] = Field(default=(), max_length=MOST_BACKENDS)
    site: Text = Field(default="", max_length=LONGEST_NAME)
    'The name of the site; "" = its first hostname.'
    environment: Text = Field(default="live", min_length=1, max_length=LONGEST_NAME)
    maintenance: Flag = False
    "Requests are answered 503."
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
    """A file, or some entries of it, that are not compared with each other."""

    routes: tuple[FileRoute, ...] = ()


class RouteFile(SomeRoutes):
    """A whole file."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from _told(self, _duplicates([route.hostnames for route in self.routes]))


def destinations_in(text: str, *, name: str, may_be_empty: bool = True) -> Destinations:
    """What a file says of each hostname. `name` is the file's in messages. Raises SettingsError, also when it names
    no hostname unless that `may_be` so."""
    lines = _entry_lines(text, name)
    if lines is not None:
        return _read_in_pieces(text, name, lines)
    whole = parse_as(RouteFile, text, name=name, environ={}, limits=LIMITS)
    if not whole.routes and not may_be_empty:
        words = "no hostname: every request would be answered 404"
        raise SettingsError((Fault(name, _place_of_nothing(text, name), "routes", words),))
    return [_destination(route) for route in whole.routes]


def _destination(route: FileRoute) -> tuple[tuple[str, ...], Destination]:
    backends = tuple(
        Endpoint(b.id or str(b.address), _host_or_socket(b.address), b.address.port, b.server, b.role, b.state)
        for b in route.backends
    )
    hostnames = tuple(map(str.lower, route.hostnames))
    to = Destination(route.site or hostnames[0], route.environment, backends, route.maintenance, route.redirect)
    return hostnames, to


def _host_or_socket(address: Address) -> str:
    """The address of a backend, as the core API says it."""
    return str(address) if address.path else address.host


class _Duplicate(NamedTuple):
    """A hostname that an earlier entry, or the same one, has already."""

    entry: int
    place: int
    "In that entry."
    first: int
    "The entry that has it already."


def _duplicates(entries: Iterable[tuple[str, ...]]) -> Iterator[_Duplicate]:
    first: dict[str, int] = {}
    for n, hostnames in enumerate(entries):
        own: set[str] = set()
        for place, hostname in enumerate(map(str.lower, hostnames)):
            earlier = first.setdefault(hostname, n)
            if earlier != n or hostname in own:
                yield _Duplicate(n, place, earlier)
            own.add(hostname)


def _told(file: SomeRoutes, duplicates: Iterable[_Duplicate], begin: int = 0) -> Iterator[tuple[str, str]]:
    """As contradictions of a file whose first entry has this number in the whole one."""
    for entry, place, first in duplicates:
        hostname = file.routes[entry - begin].hostnames[place]
        yield f"routes.{entry - begin}.hostnames.{place}", f"{hostname} is already in routes.{first}"


# some entries at a time


def _entry_lines(text: str, name: str) -> list[int] | None:
    """The line in which each entry begins, counted from 0; None when the file must be read as a whole: it is not
    `routes:` and below it one entry after the other, or something in it stands for something elsewhere.

    Raises SettingsError when the text is no YAML."""
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
                begins.append(place_of(event))
        depth += isinstance(event, yaml.CollectionStartEvent)
    if not regular or not begins:
        return None
    lines = text.splitlines()
    # `- ` and nothing else before each, on the same line.
    if all(line <= len(lines) and lines[line - 1][: column - 1].strip(" ") == "-" for line, column in begins):
        return [line - 1 for line, _ in begins]
    return None


def _is_regular(event: yaml.NodeEvent, depth: int, nodes: int) -> bool:
    """Whether this is what stands at this depth of a regular file. `nodes`: at depth 1, with this one."""
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
    """The number of the first entry of each piece, and its text."""
    lines = text.splitlines(keepends=True)
    for first in range(0, len(starts), READ_AT_ONCE):
        after = first + READ_AT_ONCE
        yield first, "".join(lines[starts[first] : starts[after] if after < len(starts) else None])


def _with_duplicates(duplicates: list[_Duplicate], begin: int) -> type[SomeRoutes]:
    """A kind of file that has these for faults: who reads one finds their places."""

    class WithDuplicates(SomeRoutes):
        def contradictions(self) -> Iterator[tuple[str, str]]:
            yield from _told(self, duplicates, begin)

    return WithDuplicates


def _faults(kind: type[SomeRoutes], piece: str, name: str, first: int, line: int) -> list[Fault]:
    """What is wrong with a piece that begins with this entry in this line, as it is called in the whole file."""
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


def _place_of_nothing(text: str, name: str) -> Position:
    """Where a file without hostnames should have some: behind `routes:`, if that is there."""
    behind_name = False
    for event in yaml_events(text, name=name, limits=LIMITS):
        if behind_name:
            return place_of(event)
        behind_name = isinstance(event, yaml.ScalarEvent) and event.value == "routes"
    return Position(1, 1)
