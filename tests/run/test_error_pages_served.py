"""Error pages of a running edge: whatever happens to their directory, each reply has a page."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from tests.run.test_reload import change, reload
from tests.support.processes.edges import children, edge, told
from tests.support.processes.process_verbs import DEADLINE

TAKEN, NOT_USED = "pages_taken_over", "pages_not_used"
ROUTES = """\
routes:
  - {hostnames: [a.test], site: shop, maintenance: true}
  - {hostnames: [b.test], site: blog, maintenance: true}
"""
BUILT_IN = b"<!doctype html>"


class Page:
    """A reply to a browser."""

    def __init__(self, head, body):
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = body


async def page(styx, host="a.test", *, method="GET", accept="text/html", languages=""):
    """Over a connection of its own, which any worker may get."""
    reader, writer = await asyncio.open_connection("127.0.0.1", styx.port)
    fields = f"Host: {host}\r\nAccept: {accept}\r\nAccept-Language: {languages}\r\nConnection: close"
    try:
        async with asyncio.timeout(DEADLINE):
            writer.write(f"{method} / HTTP/1.1\r\n{fields}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            return Page(head, await reader.read())
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def pages(styx, times=8, **how):
    """What several connections get: enough for both workers, most of the time."""
    return {(await page(styx, **how)).body for _ in range(times)}


async def until_all_are(styx, body, **how):
    """Fails by the time limit of the test."""
    while await pages(styx, **how) != {body}:
        pass


@asynccontextmanager
async def visitors(styx, most=4):
    """Ask all the time, until the end of the block. What they got, by body; None = no reply."""
    got = Counter()

    async def ask():
        while True:
            try:
                reply = await page(styx)
            except (OSError, EOFError):
                got[None] += 1
            else:
                is_whole = reply.status == 503 and int(reply.fields["content-length"]) == len(reply.body)
                got[reply.body if is_whole else "broken"] += 1
            await asyncio.sleep(0.002)

    asking = [asyncio.create_task(ask()) for _ in range(most)]
    try:
        yield got
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


@pytest.fixture
def templates(tmp_path):
    directory = tmp_path / "pages"
    (directory / "sites" / "shop").mkdir(parents=True)
    (directory / "error.html").write_text("first")
    return directory


def an_edge(templates, tmp_path, **changes):
    (tmp_path / "routes.yaml").write_text(ROUTES)
    directory = f'pages: {{directory: "{templates}"}}'
    return edge(core_api=f"file:{tmp_path}/routes.yaml", more=directory, **changes)


async def test_by_reason_language_and_site(templates, tmp_path):
    (templates / "maintenance.html").write_text("<p>back soon: $hostname $retry_after $request_id")
    (templates / "maintenance.de.html").write_text("<p>bald zurück")
    (templates / "sites" / "shop" / "maintenance.html").write_text("<p>the shop is closed")
    async with an_edge(templates, tmp_path) as styx:
        shop, blog = await page(styx), await page(styx, "b.test")
        assert (shop.status, shop.body) == (503, b"<p>the shop is closed")
        assert blog.body.decode() == f"<p>back soon: b.test 60 {blog.fields['x-request-id']}"
        german = await page(styx, "b.test", languages="de-AT,de;q=0.9,en;q=0.5")
        assert german.body.decode() == "<p>bald zurück"
        assert {name: german.fields[name] for name in ("content-language", "vary", "content-type")} == {
            "content-language": "de",
            "vary": "Accept, Accept-Language",
            "content-type": "text/html; charset=utf-8",
        }
        for reply in (shop, blog, german):
            assert reply.fields["x-styx-error"] == "maintenance"
            assert (reply.fields["retry-after"], reply.fields["cache-control"]) == ("60", "no-store")
        head = await page(styx, method="HEAD")
        assert (head.body, head.fields["content-length"]) == (b"", str(len(shop.body)))
        unknown = await page(styx, "unknown.test")
        assert (unknown.status, unknown.body) == (404, b"first")
        assert (await page(styx, accept="application/json")).fields["content-type"] == "application/problem+json"
        text = await page(styx, accept="*/*")
        assert text.body.startswith(b"503 Service Unavailable\n")
        assert "content-language" not in text.fields


@pytest.mark.parametrize("host", ["..%2f..%2fetc", "../../etc/passwd", "sites", "shop/../blog"])
async def test_no_name_of_a_client_reaches_the_file_system(templates, tmp_path, host):
    async with an_edge(templates, tmp_path, workers=1) as styx:
        reply = await page(styx, host, languages="../../etc, ..")
        assert (reply.status in (400, 404), reply.body) == (True, b"first")


async def test_templates_change_under_load_and_no_reply_fails(templates, tmp_path, until):
    async with an_edge(templates, tmp_path) as styx:
        before = children(styx.pid)
        await until_all_are(styx, b"first")
        async with visitors(styx) as got:
            (templates / "error.html").write_text("second")
            await until_all_are(styx, b"second")
            (templates / "error.html").write_text("<p>$hostnam")
            await until(lambda: told(styx, NOT_USED))
            [event] = told(styx, NOT_USED)
            assert event["faults"] == [
                f"{templates}/error.html:1:4: unknown name $hostnam: did you mean $hostname?"
            ]
            assert await pages(styx) == {b"second"}
            (templates / "sites" / "shop" / "503.html").write_text("of the shop")
            await until_all_are(styx, b"of the shop")
            for path in (templates / "sites" / "shop" / "503.html", templates / "error.html"):
                path.unlink()
            await until(lambda: told(styx, TAKEN)[-1]["templates"] == 0)
            assert all(body.startswith(BUILT_IN) for body in await pages(styx))
            (templates / "error.html").write_text("third")
            await until_all_are(styx, b"third")
            shutil.move(templates, templates.with_name("away"))
            await until(lambda: told(styx, "pages_directory_unreadable"))
            assert await pages(styx) == {b"third"}
            shutil.move(templates.with_name("away"), templates)
            await until(lambda: told(styx, "pages_directory_usable"))
        assert {body for body in got if body is not None and not body.startswith(BUILT_IN)} == {
            *(b"first", b"second", b"third", b"of the shop")
        }
        assert not got[None]
        assert got.total() > 100
        assert children(styx.pid) == before


async def test_a_worker_that_starts_has_the_pages_of_the_others(templates, tmp_path, until):
    async with an_edge(templates, tmp_path) as styx:
        (templates / "error.html").write_text("$nothing")
        await until(lambda: told(styx, NOT_USED))
        for name in ("worker 0", "worker 1"):
            before = children(styx.pid)[name]
            os.kill(before, signal.SIGKILL)
            await until(lambda name=name, before=before: children(styx.pid).get(name, before) != before)
        await styx.workers()
        assert await pages(styx) == {b"first"}


async def test_pages_outlive_the_admin_process(templates, tmp_path, until):
    async with an_edge(templates, tmp_path) as styx:
        before = children(styx.pid)["admin"]
        async with visitors(styx) as got:
            os.kill(before, signal.SIGKILL)
            await until(lambda: children(styx.pid).get("admin", before) != before)
            (templates / "error.html").write_text("second")
            await until_all_are(styx, b"second")
        assert set(got) <= {b"first", b"second"}


async def test_an_edge_starts_and_reloads_with_broken_pages_and_says_so(templates, tmp_path, call, until):
    (templates / "404.html").write_text("")
    async with an_edge(templates, tmp_path) as styx:
        fault = f"{templates}/404.html:1:1: is empty"
        await until(lambda: told(styx, NOT_USED))
        assert told(styx, NOT_USED)[0]["faults"] == [fault]
        assert (await page(styx, "unknown.test")).body == b"first"
        ran = await reload(call, styx)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("nothing changed\nwarning: ")
        assert ran.out.endswith(f"{fault}\n")
        assert (await page(styx, "unknown.test")).body == b"first"
        (templates / "404.html").write_text("good")
        assert (await reload(call, styx)).code == 0
        await until_all_are(styx, b"good", host="unknown.test")


async def test_the_directory_is_a_hot_setting(templates, tmp_path, call, until):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "5xx.html").write_text("other")
    async with an_edge(templates, tmp_path) as styx:
        workers = await styx.workers()
        change(styx, str(templates), str(tmp_path / "other"))
        assert (await reload(call, styx)).code == 0
        await until_all_are(styx, b"other")
        change(styx, f'"{tmp_path}/other"', "null")
        assert (await reload(call, styx)).code == 0
        while not all(body.startswith(BUILT_IN) for body in await pages(styx)):
            pass
        assert await styx.workers() == workers
        change(styx, "null", f'"{templates}"')
        change(styx, "workers: 2", "workers: 2\nforwarding: {via_name: other}")
        assert (await reload(call, styx)).code == 0, "with workers that are new"
        await until_all_are(styx, b"first")


async def test_an_edge_starts_without_its_directory(tmp_path, until):
    async with an_edge(tmp_path / "never", tmp_path, workers=1) as styx:
        assert (await page(styx)).body.startswith(BUILT_IN)
        [event] = told(styx, "pages_directory_unreadable")
        assert event["error"] == "No such file or directory"
        (tmp_path / "never").mkdir()
        (tmp_path / "never" / "error.html").write_text("now")
        await until_all_are(styx, b"now")
