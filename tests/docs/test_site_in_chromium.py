"""The built site in Chromium, opened as files and with no network: each page looks right, and nothing fails."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from tests.support.drawings import ROOT

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--allow-file-access-from-files"]
SCREENSHOTS = os.environ.get("STYX_SCREENSHOTS")
"A directory: the tests leave pictures of the pages there."
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PAGES = [
    "index",
    "first_site",
    "install",
    "something_is_wrong",
    "settings",
    "compared",
    "migrating",
    "balancing",
    "architecture",
    "operating",
    "capacity",
    "contracts",
]
HEAVIEST = 900 * 1024
"Bytes of a page with all that it loads, not compressed; half of them is the index of the search."
SCANNED = """async () => (await axe.run({resultTypes: ["violations"]})).violations
    .filter(found => ["serious", "critical"].includes(found.impact))
    .map(found => [found.id, found.nodes.slice(0, 4).map(node => node.html.slice(0, 160))])"""
pytestmark = [pytest.mark.long, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
expect.set_options(timeout=100_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, by the first process of pytest-xdist; the others wait for it in the directory that all share."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    built = shared / "site"
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            partial = shared / "site-partial"  # left by a build that failed
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(partial)]
            subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)
            partial.rename(built)
    return built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    if CHROMIUM is None:
        assert not os.environ.get("STYX_NO_SKIP"), "chromium is not installed"
        pytest.skip("chromium is not installed")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="module")
async def show(browser, site):
    """Open pages of the site. After the test: nothing was logged to the console, nothing failed or came from
    elsewhere."""
    contexts, faults = [], []

    def watch(request):
        if not request.url.startswith(("file://", "data:", "blob:", "about:")):
            faults.append(f"loads {request.url}")

    async def open_browser(viewport=DESKTOP, scheme="light"):
        context = await browser.new_context(viewport=viewport, color_scheme=scheme)
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", watch)
        page.on("requestfailed", lambda request: faults.append(f"failed {request.url}"))
        return page

    yield open_browser
    for context in contexts:
        await context.close()
    assert faults == []


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
async def test_pages_are_readable_for_everybody(show, site, viewport, scheme):
    page, found = await show(viewport, scheme), {}
    for name in PAGES:
        await page.goto(f"file://{site}/{name}.html")
        await expect(page.locator("h1")).to_have_count(1)
        if SCREENSHOTS:
            picture = Path(SCREENSHOTS) / f"{name}-{scheme}-{viewport['width']}.png"
            await page.screenshot(path=picture, full_page=name in ("index", "balancing", "first_site"))
        await page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
        found |= {f"{name}: {rule}": nodes for rule, nodes in await page.evaluate(SCANNED)}
        too_wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert too_wide <= 0, f"{name} is {too_wide} pixels wider than the screen"
        drawn = "() => [...document.images].filter(image => !image.naturalWidth).map(image => image.src)"
        assert await page.evaluate(drawn) == [], name
    assert found == {}, json.dumps(found, indent=1)


async def test_search_finds_a_cause_without_a_server(show, site):
    page = await show()
    await page.goto(f"file://{site}/index.html")
    await page.get_by_role("textbox", name="Search").fill("all_refused")
    result = page.locator(".md-search-result__item a").first
    await expect(result).to_be_visible()
    await result.click()
    await expect(page.locator("h1")).to_be_visible()
    assert page.url.startswith("file://")


async def test_the_colours_can_be_switched(show, site):
    page = await show()
    await page.goto(f"file://{site}/index.html")
    await expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "default")
    await page.locator("label[title='Dark colours']").click()
    await expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "slate")


@pytest.mark.parametrize("name", ["index", "settings", "first_site"])
async def test_a_page_is_painted_and_not_heavy(show, site, name):
    page, loaded = await show(), set()
    page.on("request", lambda request: loaded.add(request.url.partition("?")[0]))
    await page.goto(f"file://{site}/{name}.html")
    await page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    assert f"file://{site}/{name}.html" in loaded
    assert sum(os.path.getsize(url[7:]) for url in loaded if url.startswith("file://")) < HEAVIEST  # noqa: ASYNC240


async def test_a_phone_shows_all_columns_of_the_settings(show, site):
    page = await show(PHONE)
    await page.goto(f"file://{site}/settings.html")
    row = page.locator("tr", has_text="core_api.timeout").first
    await expect(row.locator("td")).to_have_count(4)
    for cell in await row.locator("td").all():
        box = await cell.bounding_box()
        assert box["x"] + box["width"] <= PHONE["width"]
    label = "cell => getComputedStyle(cell, '::before').content"
    assert await row.locator("td").nth(1).evaluate(label) == '"default: "'
