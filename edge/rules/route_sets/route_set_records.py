"""A set of routes as it is written to a file and sent to the workers: records without logic."""

import msgspec


class Endpoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One container; the same members as `route_response.Backend`."""

    id: str
    address: str
    port: int
    server: str
    role: str
    state: str
    tls: bool = False
    "Missing in sets that an earlier version has written."


class Destination(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where requests for some hostnames go: a `RouteResponse` without hostname and generation."""

    site: str
    environment: str
    backends: tuple[Endpoint, ...]
    maintenance: bool
    redirect: str | None

    @property
    def serves(self) -> bool:
        """Whether requests get more than a 503, or the operator wants a 503 (maintenance)."""
        return bool(self.backends) or self.maintenance or self.redirect is not None


class RouteEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Some hostnames with the same destination."""

    hostnames: tuple[str, ...]
    data: bytes
    "The generation and an encoded `Destination`, which is decoded at the first request."


class RouteSet(msgspec.Struct, frozen=True):
    """All routes of a source, in encoded parts."""

    version: int
    "Increases with each content."
    source: str
    "The name of the source, such as the path of the file."
    digest: bytes
    "Digest of the text that this was read from."
    parts: tuple[bytes, ...]


class RouteSetHead(msgspec.Struct, frozen=True, array_like=True):
    """The first frame of a file: the members of a RouteSet, and the number of its parts."""

    version: int
    source: str
    digest: bytes
    parts: int
