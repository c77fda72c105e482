"""Makes HTTP sessions for the core API: User-Agent, bearer token, certificates, connection limit."""

import ssl

import aiohttp

from edge.net.secret_files import SecretFileError, read_secret
from edge.net.tls.client_tls import ClientTlsFiles, client_context
from edge.rules.settings import CoreApiSettings, IdentitySettings

IDLE_TIMEOUT = 30.0
"Seconds after which an idle connection to the core API is closed."


def core_api_session(settings: CoreApiSettings, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """A session whose requests carry the token of the core API, and whose connections show the certificate of the
    edge; the files of both are read now. Who wants new files used makes a new session.

    `timeout` applies to each request. Raises OSError (SecretFileError, ssl.SSLError) when a file cannot be used.
    """
    headers = {"User-Agent": "styx"}
    if token := read_secret(settings.token_file):
        headers["Authorization"] = f"Bearer {token}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=settings.concurrency, keepalive_timeout=IDLE_TIMEOUT, ssl=_context(settings.tls)
        ),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
    )


def _context(identity: IdentitySettings) -> ssl.SSLContext | bool:
    """The context of its connections; True = aiohttp's own. Raises SecretFileError."""
    if identity.ca is None and identity.certificate is None:
        return True
    try:
        return client_context(ClientTlsFiles(identity.ca, identity.certificate, identity.key))
    except (OSError, ValueError) as error:
        raise SecretFileError(f"core_api.tls: {getattr(error, 'strerror', None) or error}") from error
