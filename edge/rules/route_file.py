"""Routes in a file instead of a core API: for a few sites whose containers an operator knows.

    routes:
      - hostnames: [shop.example.org, www.shop.example.org]
        backends: [{address: "10.4.7.12:26607"}, {address: "10.4.7.13:26607", role: standby}]
      - hostnames: [old.example.org]
        redirect: https://shop.example.org

Read as the configuration is: every fault at once, each with its place. Hostnames of one entry share what is learned
about its backends. Pure: the text is an argument.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from edge.rules.routes import Backend, RouteAnswer, may_exist
from edge.rules.settings import Section
from edge.rules.settings_file import parse_as
from edge.rules.settings_values import Flag, SocketAddress, Text


class FileBackend(Section):
    """One container."""

    address: SocketAddress
    "Its host:port, or [IPv6 address]:port."
    id: Text = ""
    'What it is called in logs and in X-Styx-Backend; "" = its address.'
    server: Text = ""
    "The machine that it shares with others."
    role: Literal["active", "standby"] = "active"
    state: Literal["running", "asleep", "draining"] = "running"

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.address.path or not self.address.host or not self.address.port:
            yield "address", "must name a host and a port, such as 10.4.7.12:8080"


class FileRoute(Section):
    """Hostnames that have the same backends."""

    hostnames: tuple[Text, ...] = Field(min_length=1)
    backends: tuple[FileBackend, ...] = ()
    site: Text = ""
    'The name of the site; "" = its first hostname.'
    environment: Text = "live"
    maintenance: Flag = False
    "Requests are answered 503."
    redirect: Text | None = None
    "A URL or a hostname to which requests are sent, with their path."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        for n, hostname in enumerate(self.hostnames):
            if not may_exist(hostname.lower()):
                yield (
                    f"hostnames.{n}",
                    f"cannot be a hostname: labels of a-z 0-9 - joined by dots, not {hostname!r}",
                )
        names = [backend.id or str(backend.address) for backend in self.backends]
        for n, name in enumerate(names):
            if name in names[:n]:
                yield f"backends.{n}", f"is already there: {name}"


class RouteFile(Section):
    """A whole file."""

    routes: tuple[FileRoute, ...] = ()

    def contradictions(self) -> Iterator[tuple[str, str]]:
        first: dict[str, int] = {}
        for n, route in enumerate(self.routes):
            for place, hostname in enumerate(route.hostnames):
                earlier = first.setdefault(hostname.lower(), n)
                if earlier != n or hostname.lower() in map(str.lower, route.hostnames[:place]):
                    yield f"routes.{n}.hostnames.{place}", f"{hostname} is already in routes.{earlier}"


def routes_in(text: str, *, name: str, generation: int) -> Mapping[str, RouteAnswer]:
    """What a core API would answer for each hostname. `name` is the file's in messages; `generation`: higher than
    those of what the file said before. Raises SettingsError."""
    file = parse_as(RouteFile, text, name=name, environ={})
    return dict(_answers(file, generation))


def _answers(file: RouteFile, generation: int) -> Iterator[tuple[str, RouteAnswer]]:
    for route in file.routes:
        backends = tuple(
            Backend(b.id or str(b.address), b.address.host, b.address.port, b.server, b.role, b.state)
            for b in route.backends
        )
        site = route.site or route.hostnames[0].lower()
        for hostname in map(str.lower, route.hostnames):
            yield (
                hostname,
                RouteAnswer(
                    hostname, site, route.environment, generation, backends, route.maintenance, route.redirect
                ),
            )
