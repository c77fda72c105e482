"""Settings of operation: the admin API, the logs, and how styx stops."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from edge.rules.exchange_records import LOG_CONSTANTS, DetailedOutcome, Outcome
from edge.rules.nearest_names import nearest_names
from edge.rules.settings.section import DAY, GIB, HOUR, KIB, MIB, Cold, Hot, Section
from edge.rules.settings.values import Address, Duration, FilePath, Flag, Ratio, Size, SocketAddress, Text, address

ALL_FIELDS = "*"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")


class AdminSettings(Section):
    """The admin API: health, metrics, and commands such as reload and drain."""

    address: Cold[SocketAddress] = Address("127.0.0.1", 9901)
    "Where the admin API listens. Anything but loopback or a Unix socket needs token_file."
    socket: Cold[Text] = ""
    "Unix socket over which root and the user of styx may act without a token; empty = in /run/styx or similar."
    token_file: Cold[FilePath] = None
    "File with the bearer token that allows acting from any address; null = no token."

    @property
    def socket_address(self) -> Address | None:
        """The address of `socket`, if it is set."""
        return Address(path=self.socket) if self.socket else None

    def contradictions(self) -> Iterator[tuple[str, str]]:
        try:
            _ = self.socket and address(f"unix:{self.socket}")
        except ValueError as error:
            yield "socket", str(error).removesuffix(" after unix:")
        if not self.address.is_local and self.token_file is None:
            yield (
                "address",
                "is open to other machines: set admin.token_file, or use 127.0.0.1",
            )


class AccessLogSettings(Section):
    """The access log: one line for every request."""

    path: Cold[Text] = "-"
    'File to append to; "-" = standard output, "" = none; syslog:/dev/log or syslog:127.0.0.1:514 = syslog.'
    format: Cold[Literal["json", "logfmt", "combined"]] = "json"
    "json = one object a line, logfmt = name=value, combined = as Apache and nginx write it."
    fields: Cold[tuple[Text, ...]] = ()
    "For json and logfmt: the fields of a line, as [time, host, status]; [] = the usual ones; ['*'] = all."
    request_headers: Cold[tuple[Text, ...]] = Field(default=(), max_length=64)
    "For json and logfmt: header fields of the request that are written too; of credentials, only their presence."
    response_headers: Cold[tuple[Text, ...]] = Field(default=(), max_length=64)
    "For json and logfmt: header fields of the backend's response that are written too, in the same way."
    redact_query: Cold[tuple[Text, ...]] = ()
    "Query parameters whose value is not written, in target, referer, location, as [token, password]; [*] = all."
    truncate_addresses: Cold[Flag] = False
    "Whether addresses are written without the bits that name one client: the last 8 of IPv4, the last 80 of IPv6."
    sample_2xx: Cold[Ratio] = Field(default=1.0, ge=0.0, le=1.0)
    "Share of the lines with status 2xx that is written; all others are, and those with a retry."
    long_after: Cold[Duration] = Field(default=0.0, ge=0, le=DAY)
    "A line each time an exchange has lasted so long again, while it lasts (ended: false); 0 = none."
    facility: Cold[
        Literal["local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7", "user", "daemon"]
    ] = "local7"
    "For syslog (nginx: local7); the severity is info, the tag styx."
    buffer: Cold[Size] = Field(default=MIB, ge=256 * KIB, le=GIB)
    "Lines buffered in memory while the file or its reader is slow; more lines are dropped and counted."
    flush_interval: Cold[Duration] = Field(default=1.0, ge=0.001, le=HOUR)
    "Longest time for which a line is buffered."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.path.startswith("syslog:") and self.syslog is None:
            yield "path", "names no syslog: write syslog:/dev/log or syslog:HOST:PORT"
        known = (*DetailedOutcome.__struct_fields__, *LOG_CONSTANTS)
        for n, name in enumerate(self.fields):
            if name == ALL_FIELDS and self.fields == (ALL_FIELDS,):
                continue
            if name not in known:
                near = nearest_names(name, known, 1)
                yield f"fields.{n}", f"{name} is no field" + (f": did you mean {near[0]}?" if near else "")
            elif name in self.fields[:n]:
                yield f"fields.{n}", f"{name} is given twice"
        for setting in ("request_headers", "response_headers"):
            for n, name in enumerate(getattr(self, setting)):
                if not _HEADER_NAME.fullmatch(name):
                    yield f"{setting}.{n}", f"{name} is no name of a header field"
        if self.format == "combined":
            chosen = (name for name in ("fields", "request_headers", "response_headers") if getattr(self, name))
            yield from ((name, "is for json and logfmt: combined has its own fields") for name in chosen)
        if 0 < self.long_after < 1:
            yield "long_after", "must be 0, or at least 1s"

    @property
    def chosen_fields(self) -> tuple[str, ...]:
        """The fields of a line."""
        if self.fields == (ALL_FIELDS,):
            return (*DetailedOutcome.__struct_fields__, *LOG_CONSTANTS)
        return self.fields or (*Outcome.__struct_fields__, *LOG_CONSTANTS)

    @property
    def needs_details(self) -> bool:
        """Whether lines have fields that only a `DetailedOutcome` has."""
        usual = {*Outcome.__struct_fields__, *LOG_CONSTANTS}
        return self.format == "combined" or not usual.issuperset(self.chosen_fields)

    @property
    def syslog(self) -> Address | None:
        """Address of the syslog daemon, if the lines go there."""
        scheme, _, where = self.path.partition(":")
        try:
            return address(f"unix:{where}" if where.startswith("/") else where) if scheme == "syslog" else None
        except ValueError:
            return None


class PageSettings(Section):
    """The pages that browsers get instead of a response: see docs/error_pages.md."""

    directory: Hot[FilePath] = None
    "Directory with templates such as unknown_host.html, 404.de.html, error.html; null = the built-in page."


class MetricsSettings(Section):
    """Metrics beyond those of the whole edge. All others are always there."""

    sites: Cold[tuple[Text, ...]] = Field(default=(), max_length=64)
    "Sites that get series of their own, as the core API names them: requests by status, and their times."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        for n, site in enumerate(self.sites):
            if not site or site in self.sites[:n]:
                yield f"sites.{n}", "is given twice" if site else "must not be empty"


class LogSettings(Section):
    """The event log of styx, on standard error."""

    level: Hot[Literal["debug", "info", "warning", "error"]] = "info"
    "The least serious level that is written: debug, info, warning or error; of libraries, from warning on."
    format: Hot[Literal["json", "console"]] = "json"
    "json = one object a line, console = for reading in a terminal."


class DrainSettings(Section):
    """How styx drains when it is stopped, and how workers drain that a reload or an upgrade replaces."""

    delay: Hot[Duration] = Field(default=5.0, ge=0, le=HOUR)
    "After SIGTERM: not ready, but still accepting, until the load balancers before styx have noticed."
    timeout: Hot[Duration] = Field(default=30.0, ge=0, le=DAY)
    "After delay: for requests in flight and tunnels to end; those left get 503 edge_stopped, or are cut off."
    idle: Hot[Duration] = Field(default=1.0, ge=0, le=HOUR)
    "After delay: an idle client connection is closed after this long; a request on it is still served."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        cut_off = "must not be longer than timeout, after which all connections are cut off"
        yield from self.exceeding("timeout", cut_off, "idle")
