"""Who may do what on the admin server. Pure: from the facts of one request to a denial, or to none.

    /livez, /readyz      everybody: load balancers ask, and the responses reveal nothing
    through a proxy      nobody: somebody made a route to the admin port, and its clients are strangers
    reading (GET, HEAD)  who can reach a loopback address or a Unix socket; elsewhere the token is needed
    acting (all others)  root and the user of styx over the Unix socket; everybody with the token

Web pages are kept out in two ways. One whose name its owner points to 127.0.0.1 (DNS rebinding) makes the browser
ask *us*, but with the page's name in `Host`: 421. And what a page makes a browser send bears `Origin` or
`Sec-Fetch-Site` (W3C Fetch Metadata): it may not act.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from edge.rules.settings.values import Address

PROBES: Final = frozenset({"/livez", "/readyz"})
READING: Final = frozenset({"GET", "HEAD"})
PROXY_FIELDS: Final = frozenset({"via", "forwarded"})
NOT_FROM_A_PAGE: Final = frozenset({"", "none"})
"Values of Sec-Fetch-Site: absent, and what the user typed."


class TokenCheck(Enum):
    """What came of comparing the bearer token of a request with ours."""

    ABSENT = "absent"
    "None was presented, or none is configured."
    RIGHT = "right"
    WRONG = "wrong"


class Caller(NamedTuple):
    """By what way a request came, and what it presents."""

    unix: bool
    "Over a Unix socket, otherwise over TCP."
    trusted: bool
    "By a Unix socket, from root or the user of styx, as the kernel says (SO_PEERCRED)."
    token: TokenCheck


class Denial(NamedTuple):
    """Why a request is not served."""

    status: int
    detail: str
    lacks_right: bool = False
    "The admin socket, or a token, would help."


def acts(method: str) -> bool:
    """Whether this method may change something."""
    return method not in READING


def came_through_proxy(names: Iterable[str]) -> bool:
    """Whether these field names include any that proxies add."""
    return any((low := name.lower()) in PROXY_FIELDS or low.startswith("x-forwarded-") for name in names)


def is_local_host(header: str, bound: str) -> bool:
    """Whether a `Host` header names this machine, not a page that a browser was lured to."""
    name = header.lower()
    host = name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0].removesuffix(".")
    return host in {"localhost", "127.0.0.1", "[::1]", bound.lower(), f"[{bound.lower()}]"}


def denial(method: str, path: str, headers: Mapping[str, str], caller: Caller, address: Address) -> Denial | None:
    """Why this request is not served by the server at `address`; None = it is.

    `headers` is case-insensitive, as aiohttp's are. With the right token all is served: browsers do not add one by
    themselves. A wrong one is refused, even where none would be needed.
    """
    if path in PROBES:
        return None
    if came_through_proxy(headers):
        return Denial(403, "Requests that came through a proxy are not served here.")
    if caller.token is TokenCheck.RIGHT:
        return None
    if caller.token is TokenCheck.WRONG:
        return Denial(401, "The token is not the admin token.")
    if not (caller.unix or address.is_local):
        return Denial(401, "This address needs the admin token.", lacks_right=True)
    if not caller.unix and not is_local_host(headers.get("Host", ""), address.host):
        return Denial(421, "Ask by the name localhost or by the address that the server is bound to.")
    if not acts(method):
        return None
    if "Origin" in headers or headers.get("Sec-Fetch-Site", "") not in NOT_FROM_A_PAGE:
        return Denial(403, "Web pages may not change anything here.")
    if not caller.trusted:
        return Denial(403, "Acting needs the admin socket or the admin token.", lacks_right=True)
    return None
