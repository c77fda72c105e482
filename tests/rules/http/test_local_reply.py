"""Local replies: reasons, formats, and escaping of hostile names."""

from html import unescape

import msgspec
import pytest

from edge.rules.http.local_reply import RETRY_AFTER, LocalReplies, LocalReply, accept_of, value_of
from edge.rules.outcomes import VERDICTS, Cause
from edge.rules.pages.page_table import PageTable
from edge.rules.pages.template_files import usable_pages
from edge.rules.pages.translations.english import ENGLISH
from edge.rules.pages.translations.known_translations import TRANSLATIONS

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
WITH_STATUS = [c for c, verdict in VERDICTS.items() if verdict.reason]


def reply_to(
    cause: Cause, accept: bytes = BROWSER, *, host: str = "shop.test", languages: bytes = b"", **files: str
) -> LocalReply:
    """`files`: templates, by name without `.html` and with `_in_` for the dot before a language."""
    found = usable_pages((f"{name.replace('_in_', '.')}.html", text.encode()) for name, text in files.items())
    return LocalReplies(PageTable(found)).error(
        cause, accept=accept, accept_language=languages, host=host, site="shop", request_id="r1"
    )


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
    assert headers(reply)["Vary"] == "Accept, Accept-Language"
    assert str(reply.status) in reply.body.decode()


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
    assert ENGLISH.sentences["all_refused"] in page
    assert all(f"<dd>{value}</dd>" in page for value in ("all_refused", "shop.test", "r1"))
    assert "$" not in page


def test_problem_details() -> None:
    assert msgspec.json.decode(reply_to(Cause.REFUSED, b"application/json").body) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": ENGLISH.sentences["all_refused"],
        "reason": "all_refused",
        "host": "shop.test",
        "request_id": "r1",
    }


def test_plain_text() -> None:
    text = reply_to(Cause.UNKNOWN_HOST, b"").body.decode()
    assert text == f"404 Not Found\n{ENGLISH.sentences['unknown_host']}\nunknown_host shop.test r1\n"


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


def test_a_template_replaces_the_built_in_page():
    template = "<p>$status $reason $hostname $site ${title} $message $request_id $retry_after $language $$"
    reply = reply_to(Cause.NO_BACKENDS, no_backends=template)
    sentence = ENGLISH.sentences["no_backends"]
    assert reply.body.decode() == (f"<p>503 no_backends shop.test shop Service Unavailable {sentence} r1 5 en $")
    assert b"503" in reply_to(Cause.REFUSED, no_backends=template).body, "the built-in page"


def test_a_page_has_its_language_and_is_negotiated():
    pages = {"error": "english", "error_in_de": "deutsch"}
    german = reply_to(Cause.NO_BACKENDS, languages=b"de-AT, en;q=0.5", **pages)
    assert (german.body, headers(german)["Content-Language"]) == (b"deutsch", "de")
    english = reply_to(Cause.NO_BACKENDS, languages=b"fr, en, de", **pages)
    assert (english.body, headers(english)["Content-Language"]) == (b"english", "en")
    assert headers(reply_to(Cause.NO_BACKENDS))["Content-Language"] == "en"


@pytest.mark.parametrize(
    ("languages", "language"),
    [
        (b"de-AT, en;q=0.5", "de"),
        (b"en;q=0.5, FR-ca;q=0.9", "fr"),
        (b"en-GB, de", "en"),
        (b"ja, pt-BR;q=0.1", "pt"),
        (b"ja, *", "en"),
        (b"de;q=0, nl;q=0.1", "nl"),
        (b"", "en"),
    ],
)
def test_the_built_in_page_is_in_the_language_of_the_client(languages: bytes, language: str) -> None:
    reply, words = reply_to(Cause.MAINTENANCE, languages=languages), TRANSLATIONS[language]
    page = unescape(reply.body.decode())
    assert headers(reply)["Content-Language"] == language
    assert f'<html lang="{language}">' in page
    assert f"<title>503 {words.titles[503]}</title>" in page
    assert f"<p>{words.sentences['maintenance']}</p>" in page
    assert all(f"<dt>{label}</dt>" in page for label in words.labels.values())


def test_a_template_comes_before_the_built_in_page_in_a_better_language() -> None:
    reply = reply_to(Cause.NO_BACKENDS, languages=b"de", error="english")
    assert (reply.body, headers(reply)["Content-Language"]) == (b"english", "en")


@pytest.mark.parametrize(("file", "language"), [("error_in_de-AT", "de"), ("error_in_ja", "en"), ("error", "en")])
def test_the_sentence_in_a_template_is_in_the_language_of_the_template(file: str, language: str) -> None:
    template, words = {file: "$title: $message"}, TRANSLATIONS[language]
    reply = reply_to(Cause.NO_BACKENDS, languages=b"de-AT, ja", **template)
    assert unescape(reply.body.decode()) == f"{words.titles[503]}: {words.sentences['no_backends']}"


@pytest.mark.parametrize("accept", [b"application/json", b"*/*"])
def test_what_is_no_page_is_in_english(accept: bytes) -> None:
    reply = reply_to(Cause.NO_BACKENDS, accept, languages=b"de")
    assert ENGLISH.sentences["no_backends"] in reply.body.decode()
    assert "Content-Language" not in headers(reply)


@pytest.mark.parametrize("accept", [b"application/json", b"*/*"])
def test_templates_are_for_browsers_only(accept):
    reply, usual = reply_to(Cause.NO_BACKENDS, accept, error="<p>page"), reply_to(Cause.NO_BACKENDS, accept)
    assert reply.body == usual.body
    assert "Content-Language" not in headers(reply)


def test_other_pages_are_used_from_the_next_reply_on():
    replies = LocalReplies()
    replies.use(PageTable(usable_pages([("error.html", b"new")])))
    made = replies.error(Cause.DRAINED, accept=BROWSER, host="", request_id="")
    assert (made.body, headers(made)["X-Styx-Error"], headers(made)["Retry-After"]) == (b"new", "drained", "5")
    replies.use(PageTable())
    assert replies.error(Cause.DRAINED, accept=BROWSER, host="", request_id="").body.startswith(b"<!doctype html>")


def test_a_redirect_is_no_error() -> None:
    reply = LocalReplies().redirect(b"https://www.shop.test/a")
    assert (reply.status, reply.reason, reply.body) == (301, "", b"")
    assert headers(reply) == {"Location": "https://www.shop.test/a", "Cache-Control": "max-age=60"}


def test_accept_of_takes_all_lines() -> None:
    assert accept_of([(b"Accept", b"a/b"), (b"Host", b"x"), (b"ACCEPT", b"c/d")]) == b"a/b,c/d"
    assert accept_of([]) == b""
    assert value_of([(b"X-Y", b"1"), (b"x-y", b"2"), (b"x", b"3")], b"x-y") == b"1,2"
