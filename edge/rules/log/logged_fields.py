"""Values of header fields for the access log: who sent the request, from which page, and as part of which trace.

They are found once for each `Request`; one object stands for all requests with an equal head.
"""

import re
from typing import Final

from edge.rules.http.head_validation import Request

LONGEST: Final = 1000
"Characters of a value that are logged."
CUT: Final = "..."

_USER_AGENT: Final = 10
_REFERER: Final = 7
_TRACEPARENT: Final = 11
"Lengths of the names: comparing them costs less than lowering each name of a head."

# W3C Trace Context, section 3.2. A higher version may have more parts. Ids of zeros only are not valid.
_TRACE: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def logged_fields(request: Request) -> tuple[str, str, str]:
    """`User-Agent`, `Referer` and the trace id of `traceparent`; empty = it has none."""
    logged = request.logged
    if logged is None:
        request.logged = logged = _found(request)
    return logged


def _found(request: Request) -> tuple[str, str, str]:
    agent, referer, trace = "", "", ""
    for name, value in request.fields:
        length = len(name)
        if length == _USER_AGENT:
            if name.lower() == b"user-agent":
                agent = text_of(value)
        elif length == _REFERER:
            if name.lower() == b"referer":
                referer = text_of(value)
        elif length == _TRACEPARENT and name.lower() == b"traceparent":
            trace = trace_id(value)
    return agent, referer, trace


def trace_id(traceparent: bytes) -> str:
    """The trace id, 32 hexadecimal digits; empty = not valid."""
    match = _TRACE.fullmatch(traceparent.strip(b" \t"))
    if match is None or (match[2] and match[0].startswith(b"00")):
        return ""
    return match[1].decode("ascii")


def text_of(value: bytes, *, longest: int = LONGEST) -> str:
    """A value as text, cut to `longest` characters: UTF-8, or else Latin-1, which any bytes are."""
    value = value.strip(b" \t")
    text = decoded(value)
    return text if len(text) <= longest else text[:longest] + CUT


def decoded(value: bytes) -> str:
    """Decode UTF-8; bytes that are not UTF-8 are taken for Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
