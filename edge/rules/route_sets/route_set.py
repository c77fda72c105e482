"""Sets of routes: all routes of a source that pushes them, as they are sent to the workers and saved in a file.

    RouteSet = version, source, and parts
    part     = a list of RouteEntry as MessagePack, small enough for one turn of a worker's loop
    file     = HEADER, then frames of length u32, CRC-32 u32, bytes: first the head, then the parts

The hostnames of one entry share its destination, on the wire and in memory. Some are patterns: `*.example.org`
stands for all hostnames below example.org, at any depth, and `*` for all. An exact hostname goes before the longest
pattern, and that before shorter ones (as server_name of nginx).
"""

import struct
import zlib
from collections.abc import Callable, Container, Iterable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple, TypeVar

import msgspec

from edge.rules.route_sets.route_set_records import Destination, RouteEntry, RouteSet, RouteSetHead
from edge.rules.routing.route_response import Backend, RouteResponse

HEADER: Final = b"styx route set 1\n"
"The beginning of a file. The number changes with the layout; files with another one are rejected."
PART_BYTES: Final = 128 << 10
"Bytes at which a part is closed; it may be longer by one entry."
HOSTNAMES_AT_ONCE: Final = 1000
"Hostnames at which a part is closed: a worker needs some microseconds for each. An entry with more is split."
ANY: Final = "*"
"The pattern for all hostnames."
T = TypeVar("T")
_FRAME = struct.Struct("!II")
_GENERATION = struct.Struct("!Q")


Destinations = list[tuple[tuple[str, ...], Destination]]
"Hostnames and their destination; no hostname occurs twice."


_encode = msgspec.msgpack.Encoder().encode
_entries_of = msgspec.msgpack.Decoder(list[RouteEntry]).decode
_head_of = msgspec.msgpack.Decoder(RouteSetHead).decode
_destination_of = msgspec.msgpack.Decoder(Destination).decode


def digest_of(text: bytes) -> bytes:
    """The digest by which a content of a file is recognized."""
    return blake2b(text, digest_size=16).digest()


def entries_in(part: bytes) -> list[RouteEntry]:
    """Decode a part. Raises ValueError."""
    return _decoded(_entries_of, part)


def _decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no set of routes: {error}") from error


def response_for(hostname: str, data: bytes) -> RouteResponse:
    """Return the response that a core API would give for this hostname of an entry. Three microseconds."""
    to = _destination_of(data[_GENERATION.size :])
    (generation,) = _GENERATION.unpack_from(data)
    backends = tuple(Backend(b.id, b.address, b.port, b.server, b.role, b.state, b.tls) for b in to.backends)
    return RouteResponse(hostname, to.site, to.environment, generation, backends, to.maintenance, to.redirect)


def first_with_tls(routes: RouteSet) -> str | None:
    """The first backend that is to be reached over TLS, in words; None = there is none. Takes microseconds for each
    hostname."""
    for part in routes.parts:
        for entry in entries_in(part):
            to = _destination_of(entry.data[_GENERATION.size :])
            for backend in to.backends:
                if backend.tls:
                    return f"backend {backend.id} of {entry.hostnames[0]}"
    return None


def patterns_for(hostname: str) -> Iterator[str]:
    """Patterns that match this hostname, the longest first."""
    _, _, above = hostname.partition(".")
    while above:
        yield f"*.{above}"
        _, _, above = above.partition(".")
    yield ANY


def key_for(hostname: str, keys: Container[str]) -> str | None:
    """Return the key among these that matches the hostname: itself or a pattern; None = none does."""
    if hostname in keys:
        return hostname
    return next((pattern for pattern in patterns_for(hostname) if pattern in keys), None)


# comparison of sets


class RouteSetSummary(NamedTuple):
    """A summary of a set, for the comparison with others. Its hashes are valid in this process only."""

    destinations: dict[str, int]
    "A hash of the destination of each hostname."
    idle: set[str]
    "Hostnames with neither backends nor a redirect, which are not served."
    environments: dict[tuple[str, str], tuple[int, int]]
    "A hash of all routes of each environment, and its generation."

    def note(self, hostnames: tuple[str, ...], to: Destination, content: bytes, generation: int) -> None:
        """Add the next entry of the set. `content`: the encoded `to`."""
        destination = hash(content)
        self.destinations.update(dict.fromkeys(hostnames, destination))
        if not to.serves:
            self.idle.update(hostnames)
        key = (to.site, to.environment)
        whole = self.environments.get(key, (0, 0))[0]
        for hostname in hostnames:  # one by one: a large entry is split when it is read from disk
            whole = hash((whole, hostname, destination))
        self.environments[key] = (whole, generation)

    def lost_in(self, other: "RouteSetSummary") -> set[str]:
        """Hostnames that the other set lacks, or no longer serves."""
        lost = self.destinations.keys() - other.destinations.keys()
        return lost | {
            hostname for hostname in other.idle if hostname in self.destinations and hostname not in self.idle
        }

    def added_in(self, other: "RouteSetSummary") -> int:
        """Number of hostnames that only the other set has."""
        return sum(hostname not in self.destinations for hostname in other.destinations)

    def changed_in(self, other: "RouteSetSummary") -> int:
        """Number of hostnames in both sets whose destination differs."""
        known = self.destinations
        return sum(known.get(hostname, new) != new for hostname, new in other.destinations.items())


NO_ROUTES: Final = RouteSetSummary({}, set(), {})


def route_set(
    destinations: Destinations, before: RouteSetSummary, *, version: int, source: str, digest: bytes
) -> tuple[RouteSet, RouteSetSummary]:
    """Return the set of these destinations, and its summary. An environment whose routes are the same keeps its
    generation of `before`; the others get `version` as their generation."""
    summary, encoded = RouteSetSummary({}, set(), {}), []
    for hostnames, to in destinations:
        content = _encode(to)
        encoded.append((hostnames, to, content))
        summary.note(hostnames, to, content, version)
    for key, (routes, _) in summary.environments.items():
        known = before.environments.get(key)
        if known is not None and known[0] == routes:
            summary.environments[key] = known
    entries = (
        RouteEntry(hostnames, _GENERATION.pack(summary.environments[to.site, to.environment][1]) + content)
        for hostnames, to, content in encoded
    )
    return RouteSet(version, source, digest, tuple(_parts(entries))), summary


def summary_of(routes: RouteSet) -> RouteSetSummary:
    """Return the summary of a set that another process made. Raises ValueError."""
    summary = RouteSetSummary({}, set(), {})
    for part in routes.parts:
        for entry in entries_in(part):
            content = entry.data[_GENERATION.size :]
            (generation,) = _GENERATION.unpack_from(entry.data)
            summary.note(entry.hostnames, _decoded(_destination_of, content), content, generation)
    return summary


def _parts(entries: Iterable[RouteEntry]) -> Iterator[bytes]:
    some: list[RouteEntry] = []
    size = count = 0
    for entry in entries:
        for at in range(0, len(entry.hostnames), HOSTNAMES_AT_ONCE):
            hostnames = entry.hostnames[at : at + HOSTNAMES_AT_ONCE]
            some.append(RouteEntry(hostnames, entry.data))
            size += sum(map(len, hostnames)) + len(entry.data)
            count += len(hostnames)
            if size >= PART_BYTES or count >= HOSTNAMES_AT_ONCE:
                yield _encode(some)
                some, size, count = [], 0, 0
    if some:
        yield _encode(some)


# on disk


def file_of(routes: RouteSet) -> Iterator[bytes]:
    """The content of a file, in pieces."""
    yield HEADER
    head = RouteSetHead(routes.version, routes.source, routes.digest, len(routes.parts))
    for data in (_encode(head), *routes.parts):
        yield _FRAME.pack(len(data), zlib.crc32(data))
        yield data


def set_in(data: bytes) -> RouteSet:
    """Decode a file. Raises ValueError when it is cut off, damaged, or of another version."""
    if not data.startswith(HEADER):
        raise ValueError("it is no set of routes of this version")
    frames = list(_frames(data))
    if not frames:
        raise ValueError("it is cut off")
    head = _decoded(_head_of, frames[0])
    if head.parts != len(frames) - 1:
        raise ValueError(f"it has {len(frames) - 1} parts of {head.parts}")
    return RouteSet(head.version, head.source, head.digest, tuple(frames[1:]))


def _frames(data: bytes) -> Iterator[bytes]:
    at = len(HEADER)
    while at < len(data):
        if len(data) - at < _FRAME.size:
            raise ValueError(f"it is cut off at byte {at}")
        length, checksum = _FRAME.unpack_from(data, at)
        begin, at = at + _FRAME.size, at + _FRAME.size + length
        frame = data[begin:at]
        if len(frame) != length or zlib.crc32(frame) != checksum:
            raise ValueError(f"it is cut off or damaged at byte {begin}")
        yield frame
