"""A whole set of routes as it is written to a file and sent to the workers: records without logic."""

import msgspec


class Endpoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One container, as in `Backend`."""

    id: str
    address: str
    port: int
    server: str
    role: str
    state: str


class Destination(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where requests for some hostnames go: a `RouteAnswer` without its hostname and generation."""

    site: str
    environment: str
    backends: tuple[Endpoint, ...]
    maintenance: bool
    redirect: str | None

    @property
    def serves(self) -> bool:
        """Whether anything but 503 comes of it, or 503 is what the operator wants."""
        return bool(self.backends) or self.maintenance or self.redirect is not None


class RouteEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Some hostnames, and what is said of each."""

    hostnames: tuple[str, ...]
    data: bytes
    "Its generation, and a `Destination`. Not decoded before somebody asks."


class RouteSet(msgspec.Struct, frozen=True):
    """All of them."""

    version: int
    "Grows with each content."
    source: str
    "The file, or whatever else says so."
    digest: bytes
    "Of the text that this was read from."
    parts: tuple[bytes, ...]


class RouteSetHead(msgspec.Struct, frozen=True, array_like=True):
    """The first frame of a file."""

    version: int
    source: str
    digest: bytes
    parts: int
