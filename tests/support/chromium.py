"""Pages in Chromium: launch it, open pages and collect their faults, take pictures, ask axe-core.

    @pytest.fixture
    async def browser():
        async with chromium() as launched:
            yield launched

    @pytest.fixture
    async def show(browser):
        async with visits(browser) as visit:
            yield partial(visit.open, url)

Pictures are taken only if STYX_SCREENSHOTS names a directory.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

CHROMIUM: Final = shutil.which("chromium")
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server")
DESKTOP: Final = {"width": 1440, "height": 1000}
PHONE: Final = {"width": 390, "height": 844}
SERIOUS: Final = ("serious", "critical")
"Impacts of axe-core that a page must not have."
SCANNED: Final = """async impacts => (await axe.run({resultTypes: ["violations"]})).violations
    .filter(found => impacts.includes(found.impact))
    .map(found => [found.id, found.nodes.map(node => node.target).slice(0, 5)])"""
"All rules are checked; the elements with which nothing is wrong are not described, which took most of the time."
TIMEOUT: Final = 100_000.0
"Milliseconds for each expectation and each action: generous, because the machine may be busy."
AT_REST: Final = 1200
"Milliseconds after which the transitions of a page have ended."

expect.set_options(timeout=TIMEOUT)


@asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Browser]:
    """Launch Chromium, with `flags` besides the usual ones. Skips the test without it, but not on CI."""
    if CHROMIUM is None:
        assert not os.environ.get("STYX_NO_SKIP"), "chromium is not installed"
        pytest.skip("chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield browser
        await browser.close()


class Visits:
    """The pages of one test, each in a browser context of its own, and what went wrong in them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.faults: list[str] = []
        "Lines of the console, exceptions of scripts, and requests that left the origin of the page."

    async def open(
        self,
        url: str,
        *,
        path: str = "",
        viewport: dict[str, int] = DESKTOP,
        scheme: str = "light",
        **context: Any,
    ) -> Page:
        """Open a page and wait until it has loaded. `url`: its origin, which nothing may be loaded from outside of.
        `scheme`: light or dark. `context`: further arguments of `Browser.new_context`."""
        opened = await self._browser.new_context(viewport=viewport, color_scheme=scheme, **context)
        self._contexts.append(opened)
        page = await opened.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self._check(request.url, url))
        await page.goto(url + path)
        return page

    def _check(self, loaded: str, origin: str) -> None:
        if not loaded.startswith((origin, "data:", "blob:")):
            self.faults.append(f"loads {loaded}")

    def expect_fault(self, part: str) -> None:
        """Remove the faults that contain `part`, which the test has caused; there must be one."""
        left = [fault for fault in self.faults if part not in fault]
        assert len(left) < len(self.faults), f"no fault with {part!r} in {self.faults}"
        self.faults[:] = left

    async def close(self) -> None:
        """Close the pages."""
        for context in self._contexts:
            await context.close()


@asynccontextmanager
async def visits(browser: Browser) -> AsyncIterator[Visits]:
    """The pages of one test. At its end: nothing was logged to a console, and nothing failed."""
    opened = Visits(browser)
    yield opened
    await opened.close()
    assert not opened.faults, opened.faults


async def shoot(page: Page, name: str) -> None:
    """Take a picture of the whole page, once it is at rest, if STYX_SCREENSHOTS names a directory."""
    if directory := os.environ.get("STYX_SCREENSHOTS"):
        await page.wait_for_timeout(AT_REST)
        await page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)


async def violations(page: Page) -> list[tuple[str, list[Any]]]:
    """What axe-core has against the page: serious and critical findings, with the first elements of each."""
    await page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    return [(rule, targets) for rule, targets in await page.evaluate(SCANNED, SERIOUS)]


async def fits_width(page: Page) -> bool:
    """Whether nothing makes the page scroll sideways."""
    return bool(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
