"""Error pages of templates, as clients get them."""

import pytest

from edge.rules.pages.page_template import MOST_TEMPLATE_BYTES
from tests.support.scene import Scene

BROWSER = ("Accept", "text/html,*/*;q=0.8")


@pytest.fixture
def pages(scene: Scene, tmp_path):
    """Writes templates, before the first request: by name without `.html`."""

    def write(**files: str) -> None:
        for name, text in files.items():
            (tmp_path / f"{name}.html").write_text(text)
        scene.settings(pages={"directory": str(tmp_path)})

    return write


async def test_the_page_of_a_route_under_maintenance(scene, pages, tmp_path):
    (tmp_path / "sites" / "shop").mkdir(parents=True)
    (tmp_path / "sites" / "shop" / "maintenance.de.html").write_text("$site: bald zurück ($retry_after)")
    pages(maintenance="$site: $message")
    scene.route("shop.test", site="shop", maintenance=True)
    scene.route("blog.test", site="blog", maintenance=True)
    languages = [("Accept-Language", "tlh"), ("Accept-Language", "de-AT;q=0.9, en;q=0.2")]
    german = await scene.get("shop.test", headers=[BROWSER, *languages])
    assert german.body.decode() == "shop: bald zurück (60)"
    assert (german.status, german.error, german["content-language"]) == (503, "maintenance", "de")
    assert (german["retry-after"], german["cache-control"]) == ("60", "no-store")
    assert german["vary"] == "Accept, Accept-Language"
    other = await scene.get("blog.test", headers=[BROWSER, *languages])
    assert other.body == b"blog: This site is under maintenance. Please come back later."
    assert other["content-language"] == "en"


async def test_the_site_is_that_of_the_route_not_what_the_client_says(scene, pages, tmp_path):
    (tmp_path / "sites" / "shop.test").mkdir(parents=True)
    (tmp_path / "sites" / "shop.test" / "error.html").write_text("of the site")
    pages(error="of all sites")
    assert (await scene.get("shop.test", headers=[BROWSER])).body == b"of all sites", "there is no route"
    scene.route("other.test", site="shop.test", maintenance=True)
    assert (await scene.get("other.test", headers=[BROWSER])).body == b"of the site"


async def test_head_has_the_length_of_the_page(scene, pages):
    pages(error="<p>$hostname")
    scene.route("shop.test", maintenance=True)
    reply = await scene.get("shop.test", headers=[BROWSER], method="HEAD")
    assert (reply.body, reply["content-length"]) == (b"", str(len("<p>shop.test")))
    assert reply["content-type"] == "text/html; charset=utf-8"


async def test_a_page_of_the_largest_size_arrives_whole(scene, pages):
    pages(error="x" * MOST_TEMPLATE_BYTES)
    scene.route("shop.test", maintenance=True)
    reply = await scene.get("shop.test", headers=[BROWSER])
    assert reply.body == b"x" * MOST_TEMPLATE_BYTES


@pytest.mark.parametrize("accept", ["application/json", "*/*"])
async def test_programs_get_no_page(scene, pages, accept):
    pages(error="<p>page")
    scene.route("shop.test", maintenance=True)
    reply = await scene.get("shop.test", headers=[("Accept", accept)])
    assert b"maintenance" in reply.body
    assert (b"<p>" in reply.body, reply.error, reply["retry-after"]) == (False, "maintenance", "60")
    assert "content-language" not in reply


async def test_a_rejected_request_has_a_page_too(scene, pages):
    pages(**{"405": "$hostname: no $status"})
    reply = await scene.get("shop.test", headers=[BROWSER], method="TRACE")
    assert (reply.status, reply.error) == (405, "method_not_allowed")
    assert (reply["content-type"], reply.body) == ("text/html; charset=utf-8", b": no 405"), (
        "its host is not believed"
    )


async def test_what_a_backend_responds_is_never_replaced(scene, pages):
    pages(error="page of the edge")
    scene.route("shop.test", [scene.raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nown")])
    reply = await scene.get("shop.test", headers=[BROWSER])
    assert (reply.status, reply.body, reply.error) == (404, b"own", None)


async def test_an_edge_without_its_directory_has_the_built_in_page(scene, tmp_path):
    scene.settings(pages={"directory": str(tmp_path / "never")})
    reply = await scene.get("shop.test", headers=[BROWSER])
    assert (reply.status, reply.body[:15]) == (404, b"<!doctype html>")
