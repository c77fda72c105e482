"""Extracts the hostname from an operator's input: a URL from a browser, `host:port` from a log, or a name."""

import re

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_PORT = re.compile(r":[0-9]*\Z")


def hostname_in(text: str) -> str:
    """The hostname in a URL, in `host:port`, or in a hostname: in lower case, without a dot at its end, a name in
    another script in its ASCII form (RFC 5890). Raises ValueError when there is none.
    """
    rest = text.strip()
    if match := _SCHEME.match(rest):
        rest = rest[match.end() :]
    rest = re.split(r"[/?#\\]", rest.removeprefix("//"), maxsplit=1)[0].rpartition("@")[2]
    host = rest if rest.endswith("]") else _PORT.sub("", rest)
    host = host.lower().removesuffix(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ValueError(f"{text[:255]!r} has no hostname that DNS could have: {error}") from error
    if not host or any(character.isspace() or not character.isprintable() for character in host):
        raise ValueError(f"there is no hostname in {text[:255]!r}: give a hostname, host:port or a URL")
    return host
