"""Puts together what a worker needs for TLS, from the settings."""

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

from edge.net.tls.handshakes import Handshakes
from edge.net.tls.static_certificate import read_certificate
from edge.net.tls.tls_contexts import BaseContexts, HostContexts, TlsProfile
from edge.net.tls.tls_service import TlsService
from edge.rules.settings import Settings
from edge.rules.tls.handshake_limit import HandshakeLimit
from edge.rules.tls.ticket_keys import KEY_SIZE, TicketKey, TicketKeys


def new_ticket_keys() -> TicketKeys:
    """Random ticket keys. Made before workers are forked, they are the keys of all."""
    return TicketKeys(TicketKey(secrets.token_bytes(KEY_SIZE), time.time()))


def tls_service(settings: Settings, loop: asyncio.AbstractEventLoop, keys: TicketKeys | None) -> TlsService:
    """What the TLS connections of a worker share. Raises OSError when the certificate cannot be read."""
    profile = TlsProfile(settings.tls.profile)
    return TlsService(
        bases=BaseContexts(profile, keys or new_ticket_keys()),
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
