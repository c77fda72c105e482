"""The root of the configuration: all sections, and the constraints between them."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from edge.rules.settings.listeners import ListenerSettings, distinct
from edge.rules.settings.operations import (
    AccessLogSettings,
    AdminSettings,
    DrainSettings,
    LogSettings,
    MetricsSettings,
    PageSettings,
)
from edge.rules.settings.routing import CoreApiSettings, RedisSettings, RouteSettings
from edge.rules.settings.section import HOUR, Cold, Hot, Section
from edge.rules.settings.tls import BackendSettings, TlsSettings
from edge.rules.settings.traces import TraceSettings
from edge.rules.settings.traffic import (
    DemeritSettings,
    ForwardingSettings,
    LimitSettings,
    PoolSettings,
    RetrySettings,
    TimeoutSettings,
)
from edge.rules.settings.values import Duration, Text, Token, Workers

MAX_WORKERS = 128


class Settings(Section):
    """All settings. Only `listeners` and `core_api` have no default."""

    listeners: Cold[Annotated[tuple[ListenerSettings, ...], Field(min_length=1), AfterValidator(distinct)]]
    workers: Cold[Workers] = Field(default=0, le=MAX_WORKERS)
    "Worker processes; auto = one for each core that styx may use."
    watchdog: Hot[Duration] = Field(default=10.0, ge=0.5, le=HOUR)
    "A worker or admin process whose event loop is stalled for this long is dumped, killed and replaced."
    user: Cold[Text] = ""
    'User of the workers and the admin process when styx is started as root; "" = root.'
    edge_name: Cold[Token] = ""
    'Name of this machine in X-Styx-Edge; "" = its host name.'
    core_api: CoreApiSettings
    routes: RouteSettings = RouteSettings()
    tls: TlsSettings = TlsSettings()
    backends: BackendSettings = BackendSettings()
    redis: RedisSettings = RedisSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    limits: LimitSettings = LimitSettings()
    pool: PoolSettings = PoolSettings()
    retries: RetrySettings = RetrySettings()
    demerits: DemeritSettings = DemeritSettings()
    forwarding: ForwardingSettings = ForwardingSettings()
    pages: PageSettings = PageSettings()
    admin: AdminSettings = AdminSettings()
    access_log: AccessLogSettings = AccessLogSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    traces: TraceSettings = TraceSettings()
    drain: DrainSettings = DrainSettings()

    @property
    def files_of_tls(self) -> tuple[str, ...]:
        """Files besides certificates that TLS listeners rely on: authorities of clients and their revocation lists,
        ticket secrets."""
        tickets = self.tls.tickets.file if any(listener.tls for listener in self.listeners) else None
        of_clients = [file for each in self.listeners for file in (each.client_ca, each.client_crl)]
        files = (tickets, *of_clients)
        return tuple(file for file in files if file is not None)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        for name in ("queue_timeout", "boot"):
            if self.retries.exceeds(name, self.timeouts, "deadline"):
                yield f"retries.{name}", "must not be longer than timeouts.deadline, which holds all attempts"
        if self.tls.acme.is_on:
            yield from self._contradictions_of_acme()
        if any(listener.tls for listener in self.listeners) and self.tls.directory is None:
            if self.core_api.is_pushed:
                yield "tls.certificates", "must be file:/DIRECTORY, because core_api.url is a file of routes"
            elif not self.core_api.may_send_keys:
                yield (
                    "tls.certificates",
                    "private keys must not be sent in the clear, nor to anybody: core_api.url must be https with "
                    "core_api.tls.certificate, or on this machine",
                )
        shared = [n for n, listener in enumerate(self.listeners) if listener.address == self.admin.address]
        if shared and (self.admin.address.port or self.admin.address.path):
            yield "admin.address", f"{self.admin.address} is already the address of listeners.{shared[0]}"
        if self.admin.socket_address in {self.admin.address, *(listener.address for listener in self.listeners)}:
            yield "admin.socket", f"{self.admin.socket} is already another address"
        for n, listener in enumerate(self.listeners):
            trusted = self.forwarding.trusted if listener.trusted is None else listener.trusted
            if listener.proxy_protocol and not trusted and not listener.address.path:
                yield f"listeners.{n}.proxy_protocol", "nobody may connect: name the proxies' networks in trusted"

    def _contradictions_of_acme(self) -> Iterator[tuple[str, str]]:
        if not any(listener.tls for listener in self.listeners):
            yield "tls.acme.directory_url", "no listener has tls: true, so no certificate would ever be used"
        if all(listener.tls for listener in self.listeners):
            yield (
                "tls.acme.directory_url",
                "the authority asks for its proof on port 80, without TLS: for which it needs a listener, such as "
                '{address: ":80", redirect_to_https: true}',
            )
