"""The cases of the report that are measured as CPU per request under closed-loop load."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.lab import peers
from bench.lab.wrk import Heads

UPLOAD_PATH = "/upload"
UPLOAD_SIZE = 10 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One kind of load, and what the proxies are configured for."""

    key: str
    title: str
    what: str
    path: str = peers.TINY_PATH
    heads: Heads = Heads.REPEATING
    connections: int = 64
    keep_alive: bool = True
    upload: int = 0
    "Bytes of the body of each request."
    backends: int = 3
    hosts: int = 1
    access_log: bool = True
    workers: int = 1
    must: float | None = None
    "Most CPU per request of compiled styx, as a multiple of HAProxy's; None = no goal."

    @property
    def configuration(self) -> tuple[int, int, bool, int, bool]:
        """Cases with the same one are measured with the same running proxies."""
        return self.backends, self.hosts, self.access_log, self.workers, bool(self.upload)


CASES: Mapping[str, Case] = {
    case.key: case
    for case in (
        Case(
            key="tiny",
            title="Tiny response",
            what="64 connections, all heads equal",
            must=1.0,
        ),
        Case(
            key="sessions",
            title="Browser sessions",
            what="each client repeats eight requests",
            heads=Heads.SESSIONS,
            must=1.1,
        ),
        Case(
            key="unique",
            title="Heads that never repeat",
            what="another cookie in every request",
            heads=Heads.UNIQUE,
            must=1.3,
        ),
        Case(
            key="new-connection",
            title="New connection",
            what="one request per connection",
            keep_alive=False,
            must=1.5,
        ),
        Case(key="64-kib", title="64 KiB response", what="64 connections", path=peers.LARGE_PATH, must=0.95),
        Case(key="1-mib", title="1 MiB response", what="64 connections", path=peers.HUGE_PATH, must=1.05),
        Case(
            key="10-mib-upload",
            title="10 MiB upload",
            what="8 clients, streamed to the backend",
            path=UPLOAD_PATH,
            connections=8,
            upload=UPLOAD_SIZE,
            must=1.05,
        ),
        Case(key="256-connections", title="256 connections", what="tiny response", connections=256),
        Case(key="2000-connections", title="2,000 connections", what="tiny response", connections=2000),
        Case(key="30-backends", title="30 backends", what="tiny response, instead of 3", backends=30),
        Case(key="10000-hosts", title="10,000 hostnames", what="tiny response, each in turn", hosts=10_000),
        Case(key="no-log", title="Without access log", what="tiny response", access_log=False),
        Case(key="2-workers", title="Two workers", what="tiny response, on the same core", workers=2),
    )
}
