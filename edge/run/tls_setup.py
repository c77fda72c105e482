"""Puts together what a worker needs for TLS, from the settings."""

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from edge.net.background import Background
from edge.net.certificates.certificate_directory import CertificateDirectory
from edge.net.certificates.certificate_files_reader import CertificateFiles
from edge.net.certificates.certificate_resolver import CertificateFinder, CertificateResolver
from edge.net.certificates.core_api_certificates import CoreApiCertificates
from edge.net.tls.handshake_result import HandshakeResult
from edge.net.tls.handshakes import Handshakes
from edge.net.tls.ticket_rotation import TicketRotation
from edge.net.tls.tls_contexts import BaseContexts, HostContexts, TlsProfile
from edge.net.tls.tls_service import TlsService
from edge.net.worker_context import WorkerContext
from edge.rules.background_tasks import BackgroundTask
from edge.rules.certificates.certificate_table import CertificateTable
from edge.rules.settings import Settings
from edge.rules.tls.handshake_limit import HandshakeLimit
from edge.rules.tls.ticket_chain import SECRET_SIZE, TicketChain

log = structlog.get_logger("styx.tls")


def new_ticket_chain(settings: Settings) -> TicketChain:
    """A chain of ticket keys that begins now. Made before workers are forked, it is that of all."""
    return TicketChain(secrets.token_bytes(SECRET_SIZE), int(time.time() // settings.tls.tickets.rotate))


class WorkerTls:
    """The TLS of one worker: what its connections share, and where certificates come from."""

    __slots__ = ("_files", "_reading", "_resolver", "service")

    def __init__(
        self,
        context: WorkerContext,
        chain: TicketChain | None,
        rand: Callable[[], float],
        observe: Callable[[HandshakeResult], None] | None = None,
    ) -> None:
        """`chain`: None = ticket keys of its own. `observe` gets each completed handshake."""
        settings = context.settings
        self._files: CertificateFiles | None = None
        self._reading: asyncio.Task[None] | None = None
        self._resolver: CertificateResolver | None = None
        profile = TlsProfile(settings.tls.profile)
        bases = BaseContexts(profile, None)
        chain = chain or new_ticket_chain(settings)
        self.service = TlsService(
            bases=bases,
            rotation=TicketRotation(bases, chain, settings.tls.tickets.rotate, time.time),
            hosts=HostContexts(
                context.loop,
                ThreadPoolExecutor(1, thread_name_prefix="certificates"),
                profile,
                capacity=settings.tls.ready,
            ),
            certificates=self._finder(context, rand),
            default=settings.tls.default,
            handshakes=Handshakes(settings.limits.handshakes),
            client_limit=HandshakeLimit(settings.limits.handshakes_per_client),
            observe=observe,
        )

    def _finder(self, context: WorkerContext, rand: Callable[[], float]) -> CertificateFinder:
        settings = context.settings
        if settings.tls.directory is not None:
            self._files = CertificateFiles(CertificateDirectory(settings.tls.directory))
            context.resolver.invalidator.certificates = self._files
            return self._files
        self._resolver = CertificateResolver(
            CertificateTable(settings.tls, settings.routes),
            CoreApiCertificates(settings.core_api),
            context.resolver.lookups.limit,
            deferred=context.deferred_queue,
            concurrency=settings.tls.concurrency,
            timeout=settings.core_api.timeout,
            clock=context.clock,
            rand=rand,
        )
        context.resolver.invalidator.certificates = self._resolver
        return self._resolver

    def prepare(self) -> None:
        """Make the contexts that connections begin with, and read a directory of certificates. Raises OSError."""
        self.service.rotation.rotate()
        if self.service.bases.why_no_keys:
            log.warning(
                "ticket keys not set", code="ticket_keys_unavailable", reason=self.service.bases.why_no_keys
            )
        if self._files is not None:
            self._files.read_now()

    def start(self, background: Background) -> None:
        """Begin to read the directory again whenever something has changed, in the running loop."""
        if self._files is not None:
            self._reading = background.run(BackgroundTask.CERTIFICATE_READER, self._files.read_on)

    async def close(self) -> None:
        """End its thread and its questions."""
        self.service.close()
        if self._reading is not None:
            self._reading.cancel()
        if self._resolver is not None:
            await self._resolver.close()
