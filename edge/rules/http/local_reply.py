"""Local replies: the error pages and redirects that the edge sends itself.

Every error carries `X-Styx-Error` with the reason of its row in VERDICTS, and no other response does, so a tenant
can tell the edge's 503 from the application's. Errors are never cached: `Cache-Control: no-store`.
"""

from collections.abc import Mapping
from email.utils import formatdate
from functools import cache, lru_cache
from typing import Final

import msgspec

from edge.rules.http.head_validation import Request
from edge.rules.http.messages import Fields
from edge.rules.outcomes import VERDICTS, Cause, Verdict
from edge.rules.pages.default_page import built_in_page
from edge.rules.pages.page_table import NO_PAGES, PageTable
from edge.rules.pages.translations.english import ENGLISH
from edge.rules.pages.translations.known_translations import TRANSLATIONS, translation_for

RETRY_AFTER: Final[Mapping[str, int]] = {
    "unknown_host_limit": 5,
    "no_backends": 5,
    "drained": 5,
    "site_limit": 2,
    "client_limit": 2,
    "all_refused": 1,
    "lookup_failed": 5,
    "maintenance": 60,
    "edge_overloaded": 2,
    "edge_stopped": 1,
}
"Seconds of Retry-After (RFC 9110, section 10.2.3) on a 429 or 503, by reason."

VARY: Final = b"Vary: Accept, Accept-Language\r\n"
"On each error, whatever its format (RFC 9110, section 12.5.5)."
ALLOW: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
"The usual methods: a site may support more or fewer, which the edge cannot know (RFC 9110, section 10.2.1)."


class LocalReply:
    """A response that the edge makes itself, before it is encoded."""

    __slots__ = ("body", "lines", "reason", "status")

    def __init__(self, status: int, reason: str, lines: bytes, body: bytes) -> None:
        """`reason`: as in VERDICTS; empty for what is no error, such as a redirect. `lines`: header lines of this
        reply alone."""
        self.status = status
        self.reason = reason
        self.lines = lines
        self.body = body


class LocalReplies:
    """Makes local replies, with the error pages of one worker."""

    __slots__ = ("pages",)

    def __init__(self, pages: PageTable = NO_PAGES) -> None:
        """`pages`: the templates; where it has none, the built-in page is sent."""
        self.pages = pages

    def use(self, pages: PageTable) -> None:
        """Make the pages of all later replies from these templates."""
        self.pages = pages

    def reply_to(self, request: Request, cause: Cause, *, site: str, request_id: str) -> LocalReply:
        """The reply to this request, which ended with `cause`. `site`: that of its route; "" = it has none."""
        fields = request.fields
        return self.error(
            cause,
            accept=accept_of(fields),
            accept_language=value_of(fields, b"accept-language"),
            host=request.host,
            site=site,
            request_id=request_id,
        )

    def error(
        self,
        cause: Cause,
        *,
        accept: bytes,
        host: str,
        request_id: str,
        accept_language: bytes = b"",
        site: str = "",
    ) -> LocalReply:
        """The reply to a request that ended with `cause`, in the format that `accept` asks for. `accept` and
        `accept_language`: the values of these fields."""
        verdict = VERDICTS[cause]
        if cause is Cause.LOCAL_REPLY:
            return LocalReply(verdict.status, "", ALLOW, b"")
        texts = {"hostname": host, "site": site, "request_id": request_id}
        kind, body = self._body(cause, texts, accept.lower(), accept_language)
        lines = b"".join((_lines_of(cause), kind))
        return LocalReply(verdict.status, verdict.reason, lines, body)

    def redirect(self, location: bytes, status: int = 301) -> LocalReply:
        """The reply for a hostname that the core API redirects to another URL, or (308) to https."""
        return LocalReply(status, "", b"Location: %b\r\nCache-Control: max-age=60\r\n" % location, b"")

    def proof(self, body: bytes) -> LocalReply:
        """The reply to an ACME authority that asks for a proof (RFC 8555, section 8.3)."""
        return LocalReply(200, "", b"Content-Type: application/octet-stream\r\nCache-Control: no-store\r\n", body)

    def _body(
        self, cause: Cause, values: dict[str, str], accept: bytes, accept_language: bytes
    ) -> tuple[bytes, bytes]:
        """Lines about the body, and the body, by `Accept` in lower case: a page for browsers, in their language;
        problem details (RFC 9457) for programs, else plain text, both in English."""
        if b"text/html" in accept:
            verdict = VERDICTS[cause]
            page = self.pages.find(
                verdict.reason, verdict.status, site=values["site"], accept_language=accept_language
            ) or built_in_page(accept_language)
            language = page.language.encode("ascii")
            lines = b"Content-Language: %b\r\nContent-Type: text/html; charset=utf-8\r\n" % language
            return lines, page.rendered({**texts_of(cause, translation_for(page.language).language), **values})
        texts = {**texts_of(cause, ENGLISH.language), **values}
        if b"json" in accept:
            problem = {
                "type": "about:blank",
                "title": texts["title"],
                "status": VERDICTS[cause].status,
                "detail": texts["message"],
                "reason": texts["reason"],
                "host": texts["hostname"],
                "request_id": texts["request_id"],
            }
            return b"Content-Type: application/problem+json\r\n", msgspec.json.encode(problem) + b"\n"
        text = "{status} {title}\n{message}\n{reason} {hostname} {request_id}\n".format_map(texts)
        return b"Content-Type: text/plain; charset=utf-8\r\n", text.encode()


@cache
def texts_of(cause: Cause, language: str) -> Mapping[str, str]:
    """The values for a page that do not depend on the request. `language`: a key of TRANSLATIONS."""
    verdict, words = VERDICTS[cause], TRANSLATIONS[language]
    seconds = _retry_after(verdict)
    return {
        "status": str(verdict.status),
        "title": words.titles.get(verdict.status) or ENGLISH.titles[verdict.status],
        "message": words.sentences.get(verdict.reason, ""),
        "reason": verdict.reason,
        "retry_after": "" if seconds is None else str(seconds),
    }


def _retry_after(verdict: Verdict) -> int | None:
    return RETRY_AFTER.get(verdict.reason) if verdict.status in (429, 503) else None


@cache
def _lines_of(cause: Cause) -> bytes:
    verdict = VERDICTS[cause]
    lines = b"X-Styx-Error: %b\r\nCache-Control: no-store\r\n" % verdict.reason.encode() + VARY
    if (seconds := _retry_after(verdict)) is not None:
        lines += b"Retry-After: %d\r\n" % seconds
    return lines + ALLOW if verdict.status == 405 else lines


@lru_cache(1)
def date_line(second: int) -> bytes:
    """The `Date` line of a response (RFC 9110, section 6.6.1). `second`: since the epoch."""
    return b"Date: %b\r\n" % formatdate(second, usegmt=True).encode("ascii")


def accept_of(fields: Fields) -> bytes:
    """The value of the request's `Accept`, all its lines joined."""
    return value_of(fields, b"accept")


def value_of(fields: Fields, name: bytes) -> bytes:
    """The value of a field, all its lines joined. `name`: in lower case."""
    return b",".join([value for key, value in fields if key.lower() == name])
