"""The issuer: the process that orders certificates from an ACME authority. No request passes through it, and no
other process speaks with the authority."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import structlog

from edge import __version__
from edge.admin.metrics import process_usage
from edge.admin.scoreboard import Row
from edge.net.acme.authority import CertificateAuthority
from edge.net.acme.issuance_files import IssuanceFiles
from edge.net.background import Background
from edge.rules.acme.issuance_plan import IssuancePlan
from edge.rules.acme.order_limits import OrderLimits
from edge.rules.background_tasks import HEARTBEAT_PERIOD, BackgroundTask
from edge.rules.settings import Settings
from edge.rules.settings.file import parse
from edge.run import event_log
from edge.run.acme.issuer import Issuer
from edge.run.acme.issuer_link import IssuerLink
from edge.run.control.channel import ChildEnd
from edge.run.control.control_link import Password
from edge.run.control.control_messages import ApplySettings, Drain, Ready, SettingsApplied

log = structlog.get_logger("styx.issuer")


def run(settings: Settings, *, row: Row, channel: socket.socket, password: Password) -> int:
    """Run the issuer until it ends. Returns its exit status."""
    row.begin(0, os.getpid(), time.monotonic(), serves=False)
    return asyncio.run(IssuerProcess(settings, row, ChildEnd(channel), password).live())


class IssuerProcess:
    """The issuer, and the messages of the master."""

    def __init__(self, settings: Settings, row: Row, master: ChildEnd, password: Password) -> None:
        self._settings, self._row, self._master, self._password = settings, row, master, password
        self._background = Background(row.task_failed)
        self._end: asyncio.Event

    async def live(self) -> int:
        """Order until the master or SIGTERM ends this process, or the master is gone. Returns the exit status."""
        self._end = asyncio.Event()
        loop, background, row = asyncio.get_running_loop(), self._background, self._row
        background.log_unhandled(loop)
        loop.add_signal_handler(signal.SIGTERM, self._end.set)
        background.every(BackgroundTask.HEARTBEAT, HEARTBEAT_PERIOD, self._beat)
        background.every(
            BackgroundTask.USAGE, process_usage.PERIOD, lambda: row.publish_usage(process_usage.read_usage())
        )
        self._master.listen(self._received)
        self._master.send(Ready())
        running: list[asyncio.Task[None]] = []

        async def issue() -> None:
            issuer = self._issuer()
            link = issuer.link = IssuerLink(self._password, issuer.wanted)
            connected = background.run(BackgroundTask.CONTROL_CHANNEL, link.stay_connected)
            try:
                await issuer.run()
            finally:
                issuer.close()
                connected.cancel()
                with suppress(asyncio.CancelledError):
                    await connected

        running.append(background.run(BackgroundTask.ISSUER, issue))
        await self._end.wait()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return 0

    def _beat(self) -> None:
        now = time.monotonic()
        self._row.alive_at(now)
        event_log.expire_override(now)

    def _issuer(self) -> Issuer:
        settings, directory = self._settings.tls.acme, self._settings.tls.directory
        assert directory is not None
        url = settings.directory_url or ""
        plan = IssuancePlan(
            url,
            OrderLimits(settings.orders_per_hour, settings.orders_per_domain),
            most_under_way=settings.concurrency,
            domain_of=_registered_domain(),
        )
        return Issuer(
            settings,
            plan,
            IssuanceFiles(directory),
            lambda: _authority(url, settings.ca_file),
            rand=Random().random,
            count=lambda result: self._row.count("styx_acme_orders_total", result),
        )

    def _received(self, message: Any) -> None:
        match message:
            case None | Drain():
                self._end.set()
            case ApplySettings(text, name, number):  # its own settings are cold: it would have been replaced
                event_log.configure(parse(text, name=name, environ=os.environ).log)
                self._master.send(SettingsApplied(number, ""))


def _authority(url: str, ca_file: str | None) -> CertificateAuthority:
    from edge.net.acme.acme_authority import AcmeAuthority  # of the extra `acme`, and needed in this process only

    return AcmeAuthority(url, ca_file=ca_file, user_agent=f"styx/{__version__}")


def _registered_domain() -> Callable[[str], str]:
    from publicsuffixlist import PublicSuffixList  # of the extra `acme`

    suffixes = PublicSuffixList()
    return lambda hostname: suffixes.privatesuffix(hostname) or hostname
