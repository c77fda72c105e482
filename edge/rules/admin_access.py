"""Access control of the admin server: decides whether one request is served. Pure.

    /livez, /readyz      everybody: for load balancers; the responses reveal nothing
    /, /status/...       everybody: the files of the status page, which are the same on every edge
    through a proxy      nobody: somebody made a route to the admin port, and its clients are unknown
    reading (GET, HEAD)  all who can reach a loopback address or a Unix socket; elsewhere the token is needed
    acting (all others)  root and the user of styx over the Unix socket; everybody with the token

Web pages are kept out in two ways. With DNS rebinding, a page whose name resolves to 127.0.0.1 makes the browser
send requests to styx, but with the page's name in `Host`: they get 421. And the requests that a page makes a
browser send carry `Origin` or `Sec-Fetch-Site` (W3C Fetch Metadata): they may not act. Except for the status page
itself: it may do what its browser may, with the token, or over the Unix socket (forwarded by ssh).
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from edge.rules.settings.values import Address

PROBES: Final = frozenset({"/livez", "/readyz"})
PAGE, PAGE_FILES = "/", "/status/"
"The status page, and the beginning of the paths of its files."
READING: Final = frozenset({"GET", "HEAD"})
PROXY_FIELDS: Final = frozenset({"via", "forwarded"})
NOT_FROM_A_PAGE: Final = frozenset({"", "none"})
"Values of Sec-Fetch-Site without a page: absent, and for an address that the user typed."


class TokenCheck(Enum):
    """The result of comparing the bearer token of a request with the admin token."""

    ABSENT = "absent"
    "The request has none, or none is configured."
    RIGHT = "right"
    WRONG = "wrong"


class Caller(NamedTuple):
    """The client of the admin server: how it is connected, and its token."""

    unix: bool
    "Whether it is connected over a Unix socket, otherwise over TCP."
    trusted: bool
    "Whether it is root or the user of styx on a Unix socket, according to the kernel (SO_PEERCRED)."
    token: TokenCheck


class Denial(NamedTuple):
    """The response to a request that is not served."""

    status: int
    detail: str
    lacks_right: bool = False
    "Whether the request would be served over the admin socket, or with a token."


def acts(method: str) -> bool:
    """Whether this method may change something."""
    return method not in READING


def came_through_proxy(names: Iterable[str]) -> bool:
    """Whether these field names include one that proxies add."""
    return any((low := name.lower()) in PROXY_FIELDS or low.startswith("x-forwarded-") for name in names)


def is_local_host(header: str, bound: str) -> bool:
    """Whether a `Host` header names this machine, not a web page (DNS rebinding)."""
    name = header.lower()
    host = name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0].removesuffix(".")
    return host in {"localhost", "127.0.0.1", "[::1]", bound.lower(), f"[{bound.lower()}]"}


def is_own_page(headers: Mapping[str, str], bound: str) -> bool:
    """Whether a request that a web page makes comes from the status page of this server, opened by a name of this
    machine (RFC 6454: scheme, host and port of `Origin`)."""
    host = headers.get("Host", "")
    same = (
        headers.get("Sec-Fetch-Site", "same-origin") == "same-origin" and headers.get("Origin") == f"http://{host}"
    )
    return same and is_local_host(host, bound)


def may_act(headers: Mapping[str, str], caller: Caller, address: Address) -> bool:
    """Whether this caller may change something, directly or by the status page in its browser."""
    if caller.token is TokenCheck.RIGHT:
        return True
    return caller.unix and caller.trusted and is_local_host(headers.get("Host", ""), address.host)


def denial(method: str, path: str, headers: Mapping[str, str], caller: Caller, address: Address) -> Denial | None:
    """Why the server at `address` does not serve this request; None = it does.

    `headers` is case-insensitive, as aiohttp's are. With the right token every request is served: browsers do not
    add one by themselves. A wrong token is rejected, even where none is needed.
    """
    if path in PROBES:
        return None
    if came_through_proxy(headers):
        return Denial(403, "Requests that came through a proxy are not served here.")
    if caller.token is TokenCheck.RIGHT:
        return None
    if caller.token is TokenCheck.WRONG:
        return Denial(401, "The token is not the admin token.")
    is_page = (path == PAGE or path.startswith(PAGE_FILES)) and not acts(method)
    if not (caller.unix or address.is_local or is_page):
        return Denial(401, "This address needs the admin token.", lacks_right=True)
    if not caller.unix and address.is_local and not is_local_host(headers.get("Host", ""), address.host):
        return Denial(421, "Ask by the name localhost or by the address that the server is bound to.")
    if not acts(method):
        return None
    from_page = "Origin" in headers or headers.get("Sec-Fetch-Site", "") not in NOT_FROM_A_PAGE
    if from_page and not (caller.unix and is_own_page(headers, address.host)):
        return Denial(403, "Web pages may not change anything here.")
    if not caller.trusted:
        return Denial(403, "Acting needs the admin socket or the admin token.", lacks_right=True)
    return None
