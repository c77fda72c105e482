"""HTTP sessions with the core API: who asks, with which token, over how many connections."""

import aiohttp

from edge.net.secret_files import read_secret
from edge.rules.settings import CoreApiSettings

IDLE_TIMEOUT = 30.0
"Seconds for which an idle connection to the core API is kept."


def core_api_session(settings: CoreApiSettings, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """A session whose requests bear the token of the core API, as its file says now. `timeout` is for each request.

    Raises SecretFileError when the token cannot be read."""
    headers = {"User-Agent": "styx"}
    if token := read_secret(settings.token_file):
        headers["Authorization"] = f"Bearer {token}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=settings.concurrency, keepalive_timeout=IDLE_TIMEOUT),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
    )
