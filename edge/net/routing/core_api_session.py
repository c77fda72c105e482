"""Makes HTTP sessions for the core API: User-Agent, bearer token, connection limit."""

import aiohttp

from edge.net.secret_files import read_secret
from edge.rules.settings import CoreApiSettings

IDLE_TIMEOUT = 30.0
"Seconds after which an idle connection to the core API is closed."


def core_api_session(settings: CoreApiSettings, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """A session whose requests carry the token of the core API, read from its file now.

    `timeout` applies to each request. Raises SecretFileError when the token cannot be read.
    """
    headers = {"User-Agent": "styx"}
    if token := read_secret(settings.token_file):
        headers["Authorization"] = f"Bearer {token}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=settings.concurrency, keepalive_timeout=IDLE_TIMEOUT),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
    )
