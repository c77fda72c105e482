"""The admin process: admin server, metrics, the server end of the control channel. No request passes through it."""

import asyncio
import os
import signal
import socket
import time
from collections import deque
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import structlog
import uvloop

from edge.admin.admin_messages import CommandResult, RouteSourceState
from edge.admin.admin_server import AdminServer
from edge.admin.health import Health
from edge.admin.metric_sources import EdgeState, NamedGroup
from edge.admin.metrics import process_usage
from edge.admin.metrics_collector import new_registry
from edge.admin.scoreboard import Row, Scoreboard
from edge.admin.status_page.edge_status import SAMPLE_PERIOD, EdgeStatus
from edge.admin.status_page.status_page import StatusPage
from edge.net.acme.issuance_files import IssuanceFiles
from edge.net.background import Background
from edge.net.redis.redis_changes import RedisChanges
from edge.net.routing.change_stream import ChangeStream
from edge.net.secret_files import SecretFileError, read_secret
from edge.rules.acme.explain_issuance import explain_issuance
from edge.rules.acme.issuance_records import ExplainedIssuance
from edge.rules.background_tasks import HEARTBEAT_PERIOD, BackgroundTask
from edge.rules.environment_status_records import RecentEvent
from edge.rules.settings import Settings
from edge.rules.settings.file import parse
from edge.run import event_log
from edge.run.commands.configuration_report import running_configuration
from edge.run.configuration_file import ConfigurationText
from edge.run.control.channel import ChildEnd
from edge.run.control.control_messages import (
    ApplySettings,
    CommandFinished,
    Drain,
    Failed,
    MasterEvents,
    Ready,
    RoutesTaken,
    SettingsApplied,
    StageIs,
    TakeRoutes,
)
from edge.run.control.control_server import ControlServer
from edge.run.files.file_watch import Renew, watch_files
from edge.run.pages.page_reader import PageReader
from edge.run.recent_events import MOST_EVENTS, RecentEvents
from edge.run.routes.pushed_sources import PushedSources
from edge.run.routes.route_set_store import RouteSetStore
from edge.run.routes.route_store import RouteStore
from edge.run.routes.route_writer import RouteWriter

MOST_WORDS, LONGEST_WORDS = 50, 300
"Maximum of lines, and of characters in one, that are reported to the master about the source of routes."

log = structlog.get_logger("styx.admin")


def run(
    configuration: ConfigurationText,
    settings: Settings,
    *,
    board: Scoreboard,
    row: Row,
    sock: socket.socket,
    admin_socket: socket.socket | None,
    channel: socket.socket,
    control: socket.socket,
    secret: bytes,
    routes: Path,
    sets: RouteSetStore,
) -> int:
    """Run the admin process until it ends. Returns its exit status."""
    row.begin(0, os.getpid(), time.monotonic(), serves=False)
    process = AdminProcess(configuration, settings, ChildEnd(channel), secret, directory=routes, row=row, sets=sets)
    process.recent_events.install()
    return uvloop.run(process.live(board, (sock, admin_socket), control))


class AdminProcess:
    """The admin process: its servers, its background tasks, and the messages of the master."""

    def __init__(
        self,
        configuration: ConfigurationText,
        settings: Settings,
        master: ChildEnd,
        secret: bytes,
        *,
        directory: Path,
        row: Row,
        sets: RouteSetStore,
    ) -> None:
        self._configuration, self._settings = configuration, settings
        self._row = row
        self._named = _named(settings)
        "Listeners and sites with numbers of their own."
        self.recent_events = RecentEvents("admin")
        self._events_of_master: deque[RecentEvent] = deque(maxlen=MOST_EVENTS)
        self._background = background = Background(row.task_failed)
        self._master = master
        self._health = Health("no stage from the master yet")
        self._route_writer = RouteWriter(RouteStore(directory, settings.routes.capacity), background)
        self._control_server = ControlServer(
            master,
            secret,
            self._route_writer.write,
            count_failure=row.task_failed,
            count_refused=row.control_refused,
        )
        self._changes = ChangeStream(
            self._control_server.changed, clock=time.monotonic, rand=Random().random, background=background
        )
        self._bus = RedisChanges(self._control_server.changed, Random().random, background)
        self._control_server.publish = self._bus.publish
        self._control_server.read_configuration = lambda: running_configuration(self._settings, self._configuration)
        self._control_server.explain_issuance = self._issuance
        self._sources = PushedSources(sets, self._control_server.routes_pushed.publish, background)
        self._pages = PageReader(self._control_server.use_pages, background=background)
        self._server: AdminServer
        self._end: asyncio.Event
        self._stage_known: asyncio.Event
        self._watching: asyncio.Task[None] | None = None
        self._taking: asyncio.Task[None] | None = None
        self._applying: asyncio.Task[None] | None = None

    async def live(
        self, board: Scoreboard, sockets: tuple[socket.socket, socket.socket | None], control: socket.socket
    ) -> int:
        """Serve until the master or SIGTERM ends this process, or the master is gone. Returns the exit status."""
        self._end, self._stage_known = asyncio.Event(), asyncio.Event()
        self._background.log_unhandled(asyncio.get_running_loop())
        self._begin_to_tell()
        try:
            token = read_secret(self._settings.admin.token_file)
        except SecretFileError as error:
            self._master.send(Failed(f"admin.token_file: {error}"))
            return 1
        listeners, sites = self._named[NamedGroup.LISTENER], self._named[NamedGroup.SITE]
        edge = self._changes.state, self._sources.state, self._pages.state
        registry = new_registry(board, *edge, listeners=listeners, sites=sites)
        status = self._edge_status(board, listeners)
        self._background.every(BackgroundTask.STATUS_SAMPLER, SAMPLE_PERIOD, status.sample)
        self._server = AdminServer(
            self._settings.admin.address,
            health=self._health,
            registry=registry,
            control_api=self._control_server,
            token=token,
            page=StatusPage(status),
            source=self._source_state,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end.set)
        self._master.listen(self._received)
        self._route_writer.start()
        await self._control_server.start(control)
        self._changes.start(self._settings.core_api)
        self._bus.start(self._settings.redis)
        self._sources.reconfigure(self._settings)
        self._pages.reconfigure(self._settings)
        self._watch()
        self._master.send(Ready())
        # Connections that wait in the backlog get the real stage in their response.
        await self._stage_known.wait()
        await self._server.start(*sockets)
        await self._end.wait()
        if self._watching is not None:
            self._watching.cancel()
        await self._sources.stop()
        await self._pages.stop()
        await self._changes.stop()
        await self._bus.stop()
        await self._server.stop()
        await self._control_server.stop()
        await self._route_writer.close()
        return 0

    def _begin_to_tell(self) -> None:
        """Write to its row that it is alive, and what it uses, again and again."""
        row, every = self._row, self._background.every
        every(BackgroundTask.HEARTBEAT, HEARTBEAT_PERIOD, self._beat)
        every(BackgroundTask.USAGE, process_usage.PERIOD, lambda: row.publish_usage(process_usage.read_usage()))
        row.publish_usage(process_usage.read_usage())

    def _beat(self) -> None:
        now = time.monotonic()
        self._row.alive_at(now)
        event_log.expire_override(now)

    def _edge_status(self, board: Scoreboard, listeners: list[str]) -> EdgeStatus:
        return EdgeStatus(
            board,
            self._control_server,
            self._health,
            edge=self._settings.edge_name or socket.gethostname(),
            listeners=listeners,
            edge_state=lambda: EdgeState(self._changes.state, self._sources.state, time.monotonic()),
            workers=lambda: self._control_server.workers,
            events=lambda: [*self.recent_events.events, *self._events_of_master],
        )

    def _issuance(self, hostname: str) -> ExplainedIssuance | None:
        """The issuer's records of the orders of a hostname. Blocking."""
        acme, directory = self._settings.tls.acme, self._settings.tls.directory
        if acme.directory_url is None or directory is None:
            return None
        files = IssuanceFiles(directory)
        return explain_issuance(files.record(hostname), files.gate(), time.time(), acme.directory_url)

    def _source_state(self, hostname: str) -> RouteSourceState:
        """The state of the source of routes, as far as it concerns this hostname."""
        file = self._sources.state
        if not file.is_read:
            return RouteSourceState("core API")
        missing = file.missing.get(hostname)
        missing_for = None if missing is None else max(0.0, time.monotonic() - missing)
        return RouteSourceState(self._settings.core_api.source, file.problem, file.held_back, missing_for)

    def _received(self, message: Any) -> None:
        match message:
            case None | Drain():
                self._end.set()
                self._stage_known.set()
            case StageIs(stage, reason, workers):
                self._control_server.workers = dict(workers)
                self._health.follow(stage, reason)
                self._stage_known.set()
            case MasterEvents(events):
                self._events_of_master.extend(events)
            case CommandFinished(number, done, words):
                self._control_server.command_finished(number, CommandResult(done, words))
            case TakeRoutes(number):
                self._taking = asyncio.create_task(self._take_routes(number), name="take routes over")
            case ApplySettings():
                self._apply_settings(message)

    async def _take_routes(self, number: int) -> None:
        done, words = await self._sources.take_now()
        more = [f"and {len(words) - MOST_WORDS} more"] * (len(words) > MOST_WORDS)
        self._master.send(RoutesTaken(number, done, [line[:LONGEST_WORDS] for line in words[:MOST_WORDS]] + more))

    def _apply_settings(self, message: ApplySettings) -> None:
        why = ""
        try:
            before, self._settings = self._settings, parse(message.text, name=message.name, environ=os.environ)
            self._configuration = ConfigurationText(message.name, message.text)
            for group, names in _named(self._settings).items():
                self._named[group][:] = names
            if self._settings.core_api != before.core_api:
                self._changes.start(self._settings.core_api)
            self._sources.reconfigure(self._settings)
            self._pages.reconfigure(self._settings)
            if not self._settings.core_api.is_pushed:
                self._control_server.routes_pushed.withdraw()
            event_log.configure(self._settings.log)
            self._watch()
        except Exception as error:  # reported to the operator who reloads
            log.exception("settings not used", code="settings_not_used")
            why = str(error)[:1000] or type(error).__name__
        self._applying = asyncio.create_task(self._take_pages(message.number, why), name="take pages over")

    async def _take_pages(self, number: int, why: str) -> None:
        """Take over the error pages, which every reload does, before the settings count as applied."""
        try:
            await self._pages.take_now()
        finally:
            self._master.send(SettingsApplied(number, why))

    # watched files

    def _watch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        settings = self._settings
        certificates = (*settings.core_api.tls.files, *settings.backends.tls.files, *settings.files_of_tls)
        files: dict[str, Renew] = dict.fromkeys(certificates, self._renew_certificates)
        if settings.core_api.token_file is not None:
            files[settings.core_api.token_file] = self._renew_workers
        if settings.admin.token_file is not None:
            files[settings.admin.token_file] = self._renew_own
        run = self._background.run
        self._watching = run(BackgroundTask.FILE_WATCHER, partial(watch_files, files)) if files else None

    async def _renew_own(self) -> None:
        assert self._settings.admin.token_file is not None
        self._server.use_token(read_secret(self._settings.admin.token_file))
        log.info("admin token reloaded", code="admin_token_read")

    async def _renew_workers(self) -> None:
        await self._control_server.renew_tokens()
        log.info("core API token reloaded", code="core_api_token_read")

    async def _renew_certificates(self) -> None:
        await self._control_server.renew_tokens()
        log.info("TLS file reloaded", code="own_certificate_read")


def _named(settings: Settings) -> dict[NamedGroup, list[str]]:
    return {
        NamedGroup.LISTENER: [str(listener.address) for listener in settings.listeners],
        NamedGroup.SITE: list(settings.metrics.sites),
    }
