"""The files of the status page: validators, policy, rights, and that the page loads nothing else."""

import hashlib
import re

import pytest

from edge.admin.status_page.page_files import DIRECTORY, POLICY, PageFiles, takes_gzip
from edge.rules.settings.values import Address

HTML = {"Accept": "text/html,*/*"}


def files():
    read = PageFiles()
    read.read()
    return read


async def test_a_browser_gets_the_page_and_others_the_list_of_addresses(admin):
    response, body = await admin.get("/", **HTML)
    assert (response.status, response.content_type) == (200, "text/html")
    assert body.startswith("<!doctype html>")
    assert response.headers["Content-Security-Policy"] == POLICY
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    response, body = await admin.get("/")
    assert body.startswith("styx ")
    assert (await admin.get("/v1/"))[1] == body


async def test_files_have_validators(admin):
    response, _ = await admin.get("/status/page.js")
    assert (response.status, response.content_type) == (200, "text/javascript")
    assert response.headers["Cache-Control"] == "no-cache"
    etag = response.headers["ETag"]
    response, body = await admin.get("/status/page.js", If_None_Match=etag)
    assert (response.status, body) == (304, "")
    assert (await admin.get("/status/page.js", If_None_Match='"other"'))[0].status == 200


async def test_files_are_sent_with_gzip_to_those_who_take_it(admin):
    plain, body = await admin.get("/status/uplot/uPlot.esm.js", Accept_Encoding="identity")
    packed, same = await admin.get("/status/uplot/uPlot.esm.js", Accept_Encoding="br, gzip")
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    assert body == same
    assert int(packed.headers["Content-Length"]) < 0.4 * int(plain.headers["Content-Length"])
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    etag = packed.headers["ETag"]
    assert (await admin.get("/status/uplot/uPlot.esm.js", If_None_Match=etag))[0].status == 304


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip; q=0", False),
        ("gzip;q=0.000", False),
        ("", False),
        ("x-gzip2, br", False),
    ],
)
def test_who_takes_gzip(accepted, expected):
    assert takes_gzip(accepted) == expected


async def test_every_module_is_asked_for_at_once():
    """Not one after the other, as each import is found: over a tunnel each step costs a round trip."""
    names = {name for name in files().names if name.endswith(".js")}
    index = (DIRECTORY / "index.html").read_text()
    asked = set(re.findall(r'<link rel="modulepreload" href="/status/([^"]+)">', index))
    assert asked | {"page.js"} == names


@pytest.mark.parametrize("name", ["nothing.js", "../page_files.py", "..%2Fpage_files.py", "uplot/", ""])
async def test_there_are_no_other_files(admin, name):
    assert (await admin.get(f"/status/{name}"))[0].status == 404


async def test_all_that_the_page_loads_is_here():
    names = set(files().names)
    assert {
        "index.html",
        "page.css",
        "page.js",
        "uplot/uPlot.esm.js",
        "uplot/uPlot.min.css",
        "uplot/LICENSE",
    } <= names
    for name in names:
        text = (DIRECTORY / name).read_text()
        loaded = re.findall(r"""(?:src|href)="(/[^"]+)"|from "([^"]+)"|import "([^"]+)\"""", text)
        for path in filter(None, (found for group in loaded for found in group)):
            known = path.removeprefix("/status/") in names or path in ("/v1/", "/metrics")
            assert known or name.startswith("uplot/"), f"{name} loads {path}"


async def test_nothing_is_built_from_text_as_html_and_no_style_is_inline():
    for name in files().names:
        if name.startswith("uplot/"):
            continue
        text = (DIRECTORY / name).read_text()
        for forbidden in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
        ):
            assert forbidden not in text, f"{forbidden} in {name}"


async def test_the_chart_library_is_the_pinned_one():
    text = (DIRECTORY / "uplot" / "README").read_text()
    for name in ("uPlot.esm.js", "uPlot.min.css"):
        digest = hashlib.sha256((DIRECTORY / "uplot" / name).read_bytes()).hexdigest()
        assert f"{digest}  {name}" in text
    assert "MIT" in (DIRECTORY / "uplot" / "LICENSE").read_text()


async def test_the_page_needs_no_token_but_what_it_shows_does(serve):
    admin = await serve(Address("0.0.0.0", 0), token="sesame")
    assert (await admin.get("/", **HTML))[0].status == 200
    assert (await admin.get("/status/page.js"))[0].status == 200
    for path in ("/", "/v1/", "/v1/status", "/v1/status/stream", "/v1/rights"):
        await admin.problem(path, 401)
    await admin.problem("/status/page.js", 401, "POST")
    assert (await admin.get("/v1/status", Authorization="Bearer sesame"))[0].status == 200


async def test_no_page_for_a_rebound_name_or_through_a_proxy(admin):
    await admin.problem("/", 421, Host="evil.test", **HTML)
    await admin.problem("/", 403, Via="1.1 x", **HTML)
