"""Settings of operation: the admin API, the logs, and how styx stops."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from edge.rules.settings.section import DAY, GIB, HOUR, KIB, MIB, Cold, Hot, Section
from edge.rules.settings.values import Address, Duration, FilePath, Size, SocketAddress, Text, address


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

    @property
    def syslog(self) -> Address | None:
        """Address of the syslog daemon, if the lines go there."""
        scheme, _, where = self.path.partition(":")
        try:
            return address(f"unix:{where}" if where.startswith("/") else where) if scheme == "syslog" else None
        except ValueError:
            return None


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
