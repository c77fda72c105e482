"""A route as the core API describes it: the records that its responses are decoded into.

Fields and defaults are the contract with the core API (`GET /v1/routes/{hostname}`); unknown members are ignored.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from edge.rules.routing.change_records import Change

UNIX: Final = "unix:"
"Prefix of the address of a backend on a Unix socket."


class Backend(msgspec.Struct, frozen=True):
    """One container, as the core API describes it."""

    id: str
    address: str
    "An IP address, a host name, or unix:/path."
    port: int = 0
    "0 for a Unix socket, which has none."
    server: str = ""
    role: str = "active"
    state: str = "running"
    tls: bool = False
    "Whether it is reached over TLS, and both sides identify themselves (`backends.tls`)."

    @property
    def path(self) -> str:
        """Path of the Unix socket on which it listens; "" = it is reached over TCP."""
        return self.address.removeprefix(UNIX) if self.address.startswith(UNIX) else ""

    @property
    def endpoint(self) -> str:
        """Its address:port, or unix:/path."""
        return self.address if self.path else f"{self.address}:{self.port}"


class RouteResponse(msgspec.Struct, frozen=True):
    """The body of `GET /v1/routes/{hostname}`. Unknown members are ignored."""

    hostname: str
    site: str
    environment: str
    generation: int
    backends: tuple[Backend, ...]
    maintenance: bool = False
    redirect: str | None = None

    @property
    def serves(self) -> bool:
        """Whether any backend may get new requests, according to the core API."""
        return any(backend.state != "draining" for backend in self.backends)

    @property
    def use(self) -> int:
        """What requests get from it: 2 = the site, 1 = a maintenance page or a redirect of its owner, 0 = an
        error, for there is no backend."""
        if self.maintenance or self.redirect is not None:
            return 1
        return 2 if self.serves else 0

    @property
    def environment_key(self) -> str:
        """`site/environment`: the name of the environment in changes, drains and logs."""
        return f"{self.site}/{self.environment}"

    def concerned_by(self) -> Iterator[Change]:
        """The changes that concern this route, besides those of its hostname and of everything."""
        yield Change("site", self.site)
        yield Change("environment", self.environment_key)
        for backend in self.backends:
            if backend.server:
                yield Change("server", backend.server)
