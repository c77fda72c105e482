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
    "Unix socket over which root and who starts styx may act without a token; empty = in /run/styx or the like."
    token_file: Cold[FilePath] = None
    "File with the bearer token with which one may act from anywhere; null = no token."

    @property
    def socket_address(self) -> Address | None:
        """Of `socket`, if it is set."""
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
    """One line for every request."""

    path: Cold[Text] = "-"
    'File to append to; "-" = standard output, "" = none; syslog:/dev/log or syslog:127.0.0.1:514 = syslog.'
    format: Cold[Literal["json", "logfmt", "combined"]] = "json"
    "json = one object a line, logfmt = name=value, combined = as Apache and nginx write it."
    facility: Cold[
        Literal["local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7", "user", "daemon"]
    ] = "local7"
    "For syslog (nginx: local7); the severity is info, the tag styx."
    buffer: Cold[Size] = Field(default=MIB, ge=256 * KIB, le=GIB)
    "Lines that may wait in memory while the file or its reader is slow; more are dropped, and counted."
    flush_interval: Cold[Duration] = Field(default=1.0, ge=0.001, le=HOUR)
    "Longest time for which a line is held."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.path.startswith("syslog:") and self.syslog is None:
            yield "path", "names no syslog: write syslog:/dev/log or syslog:HOST:PORT"

    @property
    def syslog(self) -> Address | None:
        """Where the syslog daemon listens, if that is where the lines go."""
        scheme, _, where = self.path.partition(":")
        try:
            return address(f"unix:{where}" if where.startswith("/") else where) if scheme == "syslog" else None
        except ValueError:
            return None


class LogSettings(Section):
    """What styx says about itself, on standard error."""

    level: Hot[Literal["debug", "info", "warning", "error"]] = "info"
    "The least serious level that is written: debug, info, warning or error; libraries speak from warning on."
    format: Hot[Literal["json", "console"]] = "json"
    "json = one object a line, console = for reading in a terminal."


class DrainSettings(Section):
    """How styx goes when it is told to stop, and how the workers go that a reload or an upgrade replaces."""

    delay: Hot[Duration] = Field(default=5.0, ge=0, le=HOUR)
    "After SIGTERM: not ready, but still accepting, until the load balancers before styx have noticed."
    timeout: Hot[Duration] = Field(default=30.0, ge=0, le=DAY)
    "Then, for requests in hand, long transfers and tunnels; what is left gets 503 edge_stopped, or is cut off."
    idle: Hot[Duration] = Field(default=1.0, ge=0, le=HOUR)
    "A kept connection that is silent for this long is closed meanwhile; one that asks once more gets its answer."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        cut_off = "must not be longer than timeout, after which all connections are cut off"
        yield from self.exceeding("timeout", cut_off, "idle")
