"""Puts together what a worker needs for TLS, from the settings."""

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import structlog

from edge.net.background import Background, Timer
from edge.net.balancing.backend_sessions import BackendSessions
from edge.net.balancing.backend_tls import BackendTls
from edge.net.certificates.certificate_directory import CertificateDirectory
from edge.net.certificates.certificate_files_reader import CertificateFiles
from edge.net.certificates.certificate_finder import CertificateFinder
from edge.net.certificates.certificate_resolver import CertificateResolver
from edge.net.certificates.certificate_wishes import CertificateWishes
from edge.net.certificates.core_api_certificates import CoreApiCertificates
from edge.net.routing.core_api_session import checked_context, files_of
from edge.net.tls.bio_pair import BioPair
from edge.net.tls.client_tls import ClientTls
from edge.net.tls.client_verification import ClientVerification
from edge.net.tls.handshake_result import HandshakeResult
from edge.net.tls.handshakes import Handshakes
from edge.net.tls.ticket_rotation import TicketRotation
from edge.net.tls.ticket_secret_file import read_ticket_secrets
from edge.net.tls.tls_contexts import BaseContexts, HostContexts, TlsProfile
from edge.net.tls.tls_service import TlsService
from edge.net.transport.read_budget import ReadBudget
from edge.net.worker_context import WorkerContext
from edge.rules.background_tasks import BackgroundTask
from edge.rules.certificates.certificate_table import CertificateTable
from edge.rules.settings import Settings
from edge.rules.tls.client_authorities import ClientAuthorities
from edge.rules.tls.handshake_limit import HandshakeLimit
from edge.rules.tls.revocation_lists import RevocationLists
from edge.rules.tls.ticket_chain import SECRET_SIZE, TicketChain
from edge.run.files.directory_watch import watch_directory

NEW_CLIENTS_PER_TURN: Final = 0.0002
"""Seconds of each turn of the loop for ClientHellos and handshakes: some hellos, or one handshake, which takes
longer."""
LISTS_LOOKED_AT_EVERY: Final = 60.0
"Seconds."

log = structlog.get_logger("styx.tls")


def new_ticket_chain(settings: Settings) -> TicketChain:
    """A chain of ticket keys that begins now. Made before workers are forked, it is that of all."""
    return TicketChain(secrets.token_bytes(SECRET_SIZE), int(time.time() // settings.tls.tickets.rotate))


def backend_tls(loop: asyncio.AbstractEventLoop, settings: Settings) -> BackendTls | None:
    """TLS to backends; None = `backends.tls` is not set. Reads its files. Raises SecretFileError."""
    identity = settings.backends.tls
    if not identity.is_set:
        return None
    tls = ClientTls(files_of(identity), checked_context("backends.tls", identity))
    return BackendTls(loop, tls, identity.name, BioPair(), BackendSessions(loop.time))


class WorkerTls:
    """The TLS of one worker: what its connections share, and where certificates come from."""

    __slots__ = (
        "_files",
        "_loop",
        "_reading",
        "_resolver",
        "_source",
        "_thread",
        "_tickets",
        "_timer",
        "service",
        "wishes",
    )

    def __init__(
        self,
        context: WorkerContext,
        chain: TicketChain | None,
        rand: Callable[[], float],
        observe: Callable[[HandshakeResult], None] | None = None,
    ) -> None:
        """`chain`: None = ticket keys of its own. `observe` gets each completed handshake."""
        settings = context.settings
        self._loop = context.loop
        self._timer: Timer | None = None
        "Looks for revocation lists that are not in force any more."
        self._tickets = settings.tls.tickets.file
        "The file of ticket secrets; None = keys are those of this edge alone."
        self.wishes: CertificateWishes | None = None
        "None = styx obtains no certificates by itself (`tls.acme`)."
        self._files: CertificateFiles | None = None
        self._reading: list[asyncio.Task[None]] = []
        "Of the directory of certificates."
        self._resolver: CertificateResolver | None = None
        self._source: CoreApiCertificates | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="certificates")
        "One does all, in the order in which they are submitted."
        profile = TlsProfile(settings.tls.profile)
        bases = BaseContexts(profile, None)
        chain = chain or new_ticket_chain(settings)
        asked = [listener.verification for listener in settings.listeners if listener.verification is not None]
        verifications = {files: ClientVerification(files, profile) for files in asked}
        self.service = TlsService(
            bases=bases,
            rotation=TicketRotation(
                bases, chain, settings.tls.tickets.rotate, time.time, tuple(verifications.values())
            ),
            hosts=HostContexts(context.loop, self._thread, profile, capacity=settings.tls.ready),
            certificates=self._finder(context, rand),
            default=settings.tls.default,
            handshakes=Handshakes(settings.limits.handshakes),
            client_limit=HandshakeLimit(settings.limits.handshakes_per_client),
            turns=ReadBudget(context.loop, time.monotonic, per_turn=NEW_CLIENTS_PER_TURN),
            verifications=verifications,
            observe=observe,
        )

    def _finder(self, context: WorkerContext, rand: Callable[[], float]) -> CertificateFinder:
        settings = context.settings
        if settings.tls.directory is not None:
            self._files = CertificateFiles(CertificateDirectory(settings.tls.directory))
            context.resolver.invalidator.certificates = self._files
            if settings.tls.acme.is_on:
                self.wishes = CertificateWishes(context.resolver.resolve, context.clock)
                self._files.wanted = self.wishes.add
            return self._files
        self._source = CoreApiCertificates(settings.core_api)
        self._resolver = CertificateResolver(
            CertificateTable(settings.tls, settings.routes),
            self._source,
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
        """Make the contexts that connections begin with, and read files of authorities and ticket secrets, and a
        directory of certificates. Raises OSError."""
        if self._tickets is not None:
            self.service.rotation.secrets = read_ticket_secrets(self._tickets)
        for verification in self.service.verifications.values():
            verification.read(self.service.rotation.keys)
        self.service.rotation.rotate()
        if self.service.bases.why_no_keys:
            log.warning(
                "ticket keys not set", code="ticket_keys_unavailable", reason=self.service.bases.why_no_keys
            )
        if self._files is not None:
            self._files.read_now()

    def start(self, background: Background) -> None:
        """Begin to read the directory again whenever something has changed, and to tell of revocation lists that
        end, in the running loop."""
        if any(files.revocations is not None for files in self.service.verifications):
            self._timer = background.every(
                BackgroundTask.CLIENT_CRL_WATCH, LISTS_LOOKED_AT_EVERY, self.look_at_lists
            )
        if self._files is not None:
            watching = self._files.watching(watch_directory)
            self._reading = [
                background.run(BackgroundTask.CERTIFICATE_READER, self._files.read_on),
                background.run(BackgroundTask.CERTIFICATE_WATCHER, watching),
            ]

    def renew(self) -> None:
        """Ask the core API for certificates with its token and the certificate of styx as they are now, and believe
        the authorities of clients and use the ticket secrets as they are now. A file that cannot be used changes
        nothing."""
        if self._source is not None:
            self._source.renew()
        if self._files is not None:
            self._files.look_soon()
        self._renew_tickets()
        for files, verification in self.service.verifications.items():
            if files.revocations is None:
                self._use(verification, verification.look)
            else:  # long lists take a second
                reading = self._loop.run_in_executor(self._thread, verification.look)
                reading.add_done_callback(partial(self._lists_read, verification))

    def _lists_read(
        self,
        verification: ClientVerification,
        reading: "asyncio.Future[tuple[ClientAuthorities, RevocationLists | None]]",
    ) -> None:
        if not reading.cancelled():
            self._use(verification, reading.result)

    def _use(
        self,
        verification: ClientVerification,
        found: Callable[[], tuple[ClientAuthorities, RevocationLists | None]],
    ) -> None:
        """Use what is found, unless a file is no good."""
        try:
            verification.use(*found(), self.service.rotation.keys)
        except OSError as error:
            file = verification.files.authorities
            log.error("client CA file not used", code="client_ca_not_used", file=file, reason=str(error))

    def look_at_lists(self) -> None:
        """Tell of revocation lists that are not in force."""
        for verification in self.service.verifications.values():
            verification.tell_not_in_force()

    def _renew_tickets(self) -> None:
        rotation = self.service.rotation
        try:
            found = None if self._tickets is None else read_ticket_secrets(self._tickets)
        except OSError as error:
            log.error("ticket secrets not used", code="ticket_secrets_not_used", reason=str(error))
            return
        if found != rotation.secrets:
            rotation.secrets = found
            rotation.rotate()

    async def close(self) -> None:
        """End its thread and its lookups."""
        self.service.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        if self._resolver is not None:
            await self._resolver.close()
