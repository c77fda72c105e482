"""Local replies: reasons, formats, and escaping of hostile names."""

from html import unescape
from string import Template

import msgspec
import pytest

from edge.rules.http.local_reply import DEFAULT_PAGE, RETRY_AFTER, SENTENCES, LocalReplies, LocalReply, accept_of
from edge.rules.outcomes import VERDICTS, Cause

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
WITH_STATUS = [c for c, verdict in VERDICTS.items() if verdict.reason]


def reply_to(
    cause: Cause, accept: bytes = BROWSER, *, host: str = "shop.test", page: str = DEFAULT_PAGE
) -> LocalReply:
    return LocalReplies(page).error(cause, accept=accept, host=host, request_id="r1")


def headers(reply: LocalReply) -> dict[str, str]:
    assert reply.lines.endswith(b"\r\n")
    lines = reply.lines.decode("ascii").removesuffix("\r\n").split("\r\n")
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


@pytest.mark.parametrize("cause", WITH_STATUS)
def test_every_reply_has_its_reason_and_is_never_cached(cause: Cause) -> None:
    reply = reply_to(cause)
    assert (reply.status, reply.reason) == (VERDICTS[cause].status, VERDICTS[cause].reason)
    assert headers(reply)["X-Styx-Error"] == reply.reason
    assert headers(reply)["Cache-Control"] == "no-store"
    assert str(reply.status) in reply.body.decode()


def test_every_reason_has_a_sentence() -> None:
    reasons = {VERDICTS[cause].reason for cause in WITH_STATUS}
    assert SENTENCES.keys() == reasons - {"client_gone"}
    assert all(sentence.endswith(".") for sentence in SENTENCES.values())


def test_retry_after_is_on_each_503_and_on_nothing_else() -> None:
    for cause in WITH_STATUS:
        assert ("Retry-After" in headers(reply_to(cause))) == (VERDICTS[cause].status in (429, 503))
    assert headers(reply_to(Cause.MAINTENANCE))["Retry-After"] == str(RETRY_AFTER["maintenance"])
    assert all(seconds > 0 for seconds in RETRY_AFTER.values())


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        pytest.param(BROWSER, "text/html; charset=utf-8", id="browser"),
        pytest.param(b"TEXT/HTML", "text/html; charset=utf-8", id="any case"),
        pytest.param(b"application/json", "application/problem+json", id="JSON"),
        pytest.param(b"application/vnd.api+json", "application/problem+json", id="some JSON"),
        pytest.param(b"application/problem+json", "application/problem+json", id="problem details"),
        pytest.param(b"*/*", "text/plain; charset=utf-8", id="anything"),
        pytest.param(b"image/png", "text/plain; charset=utf-8", id="nothing we have"),
        pytest.param(b"", "text/plain; charset=utf-8", id="no Accept"),
    ],
)
def test_the_format_is_what_accept_asks_for(accept: bytes, kind: str) -> None:
    assert headers(reply_to(Cause.UNKNOWN_HOST, accept))["Content-Type"] == kind


def test_an_html_page() -> None:
    page = reply_to(Cause.REFUSED).body.decode()
    assert "<title>503 Service Unavailable</title>" in page
    assert SENTENCES["all_refused"] in page
    assert "all_refused &middot; shop.test &middot; r1" in page
    assert "$" not in page


def test_problem_details() -> None:
    assert msgspec.json.decode(reply_to(Cause.REFUSED, b"application/json").body) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": SENTENCES["all_refused"],
        "reason": "all_refused",
        "host": "shop.test",
        "request_id": "r1",
    }


def test_plain_text() -> None:
    text = reply_to(Cause.UNKNOWN_HOST, b"").body.decode()
    assert text == f"404 Not Found\n{SENTENCES['unknown_host']}\nunknown_host shop.test r1\n"


def test_499_has_a_title_of_its_own() -> None:
    assert b"499 Client Closed Request" in reply_to(Cause.CLIENT_GONE, b"").body


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "\"'><img src=x>", "a&b", "$reason ${status} $$"])
def test_a_hostile_hostname_is_escaped(hostile: str) -> None:
    page = reply_to(Cause.UNKNOWN_HOST, host=hostile).body.decode()
    ordinary = reply_to(Cause.UNKNOWN_HOST, host="HERE").body.decode()
    before, after = ordinary.split("HERE")
    assert page.startswith(before)
    assert page.endswith(after)
    inside = page[len(before) : -len(after)]
    assert not set("<>\"'") & set(inside)
    assert unescape(inside) == hostile
    problem = msgspec.json.decode(reply_to(Cause.UNKNOWN_HOST, b"json", host=hostile).body)
    assert problem["host"] == hostile


def test_the_page_is_replaceable_and_its_unknown_names_are_left_alone() -> None:
    reply = reply_to(Cause.NO_BACKENDS, page="<p>$status $reason $host $price, $5 ${title}")
    assert reply.body == b"<p>503 no_backends shop.test $price, $5 Service Unavailable"


def test_the_default_page_uses_every_name_that_there_is() -> None:
    used = set(Template(DEFAULT_PAGE).get_identifiers())
    assert used == {"status", "title", "sentence", "reason", "host", "request_id"}


def test_a_redirect_is_no_error() -> None:
    reply = LocalReplies().redirect(b"https://www.shop.test/a")
    assert (reply.status, reply.reason, reply.body) == (301, "", b"")
    assert headers(reply) == {"Location": "https://www.shop.test/a", "Cache-Control": "max-age=60"}


def test_accept_of_takes_all_lines() -> None:
    assert accept_of([(b"Accept", b"a/b"), (b"Host", b"x"), (b"ACCEPT", b"c/d")]) == b"a/b,c/d"
    assert accept_of([]) == b""
