"""Puts together what a worker needs for TLS, from the settings."""

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

from edge.net.tls.handshakes import Handshakes
from edge.net.tls.static_certificate import read_certificate
from edge.net.tls.ticket_rotation import TicketRotation
from edge.net.tls.tls_contexts import BaseContexts, HostContexts, TlsProfile
from edge.net.tls.tls_service import TlsService
from edge.rules.settings import Settings
from edge.rules.tls.handshake_limit import HandshakeLimit
from edge.rules.tls.ticket_chain import SECRET_SIZE, TicketChain


def new_ticket_chain(settings: Settings) -> TicketChain:
    """A chain of ticket keys that begins now. Made before workers are forked, it is that of all."""
    return TicketChain(secrets.token_bytes(SECRET_SIZE), int(time.time() // settings.tls.ticket_rotation))


def tls_service(settings: Settings, loop: asyncio.AbstractEventLoop, chain: TicketChain | None) -> TlsService:
    """What the TLS connections of a worker share; `chain`: None = ticket keys of its own.

    Raises OSError when the certificate cannot be read.
    """
    profile = TlsProfile(settings.tls.profile)
    bases = BaseContexts(profile, None)
    rotation = TicketRotation(bases, chain or new_ticket_chain(settings), settings.tls.ticket_rotation, time.time)
    rotation.rotate()
    return TlsService(
        bases=bases,
        rotation=rotation,
        hosts=HostContexts(
            loop,
            ThreadPoolExecutor(1, thread_name_prefix="certificates"),
            profile,
            capacity=settings.tls.ready,
        ),
        certificates=read_certificate(settings.tls.certificate, settings.tls.key),
        handshakes=Handshakes(settings.limits.handshakes),
        client_limit=HandshakeLimit(settings.limits.handshakes_per_client),
    )
