"""The first paint of the status page in Chromium: how long it takes, and what is loaded for it."""

import shutil
from typing import Final, NamedTuple

from playwright.async_api import Page, async_playwright

FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server")
TIMEOUT: Final = 60_000.0
"Milliseconds."
_SEEN: Final = """() => performance.getEntriesByName("first-snapshot").length === 1
  && performance.getEntriesByName("first-contentful-paint").length === 1"""
_LOADED: Final = """() => {
  const of = type => performance.getEntriesByType(type);
  const inside = entry => new URL(entry.name).pathname.startsWith("/status/");
  const files = [...of("navigation"), ...of("resource").filter(inside)];
  return [
    of("paint").find(entry => entry.name === "first-contentful-paint").startTime,
    of("mark").find(entry => entry.name === "first-snapshot").startTime,
    files.length,
    files.reduce((sum, entry) => sum + entry.transferSize, 0),
  ];
}"""


class Paint(NamedTuple):
    """One visit. Times are milliseconds since the navigation began."""

    painted: float
    "The first contentful paint."
    shown: float
    "The first snapshot has been shown: environments, numbers and events."
    files: int
    bytes: int
    "Transferred for all files, with their headers."


async def paint_of(page: Page) -> Paint:
    """Wait until the page has something to show. What it took, since it was opened or loaded again."""
    await page.wait_for_function(_SEEN)
    return Paint(*await page.evaluate(_LOADED))


async def first_paints(url: str, visits: int) -> list[Paint]:
    """Visit a status page again and again, each time with an empty cache; no visits if there is no Chromium."""
    program, found = shutil.which("chromium"), []
    if program is None:
        return []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=[*FLAGS])
        for _ in range(visits):
            page = await browser.new_page()
            page.set_default_timeout(TIMEOUT)
            await page.goto(url)
            found.append(await paint_of(page))
            await page.close()
        await browser.close()
    return found
