"""The status page of an edge in trouble, in Chromium: nothing is clipped or beyond the screen, axe-core finds
nothing serious, and what is wrong can be read; light, dark and on a phone."""

import pytest
import pytest_asyncio
from playwright.async_api import expect

from edge.admin.status_page.status_records import (
    CertificateNow,
    DrainNow,
    ListenerNow,
    ServedNow,
    SourceNow,
    WorkerNow,
)
from edge.rules.environment_status_records import RecentEvent
from tests.admin.conftest import admin_servers
from tests.support.chromium import DESKTOP, PHONE, chromium, fits_width, shoot, violations, visits
from tests.support.staged_status import StagedStatus, busiest, busy, container, environment

LONG = "a-customer-with-a-very-long-name-" + "x" * 30
LONG_HOST = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 57])


def long_names() -> StagedStatus:
    stage = StagedStatus()
    sick = container("c" * 64, 0.0, "down", why="connect failed", next_probe=2.4)
    stage.environments = [
        environment(LONG, [sick, *(container(f"{'d' * 60}{n}", 1 / 40) for n in range(40))], hostname=LONG_HOST),
        environment("redirected", [], redirect=f"https://{LONG_HOST}/{'path/' * 40}"),
        *stage.environments,
    ]
    entry = busy(LONG, 310.0)
    entry.hostname = LONG_HOST
    stage.top = busiest()
    stage.top.rate[0] = stage.top.errors[0] = stage.top.latency[0] = entry
    stage.certificates = [CertificateNow(f"*.{LONG_HOST}", -2.5, 3, "the core API", f"no answer for {LONG_HOST}")]
    stage.drains = [DrainNow("backend", f"{LONG}/live/{'c' * 64}", 600.0, 1.8e9, "a-user-" + "y" * 50)]
    stage.changes["edge"] = f"edge-{'z' * 60}.example.org"
    stage.changes["listeners"] = [ListenerNow(f"unix:/run/{'long/' * 18}styx.sock", 0, 1)]
    stage.changes["events"] = [
        RecentEvent(1.79e9, "error", "worker 1", "route lookup problem", "x", f"hostname={LONG_HOST} reason={LONG}")
    ]
    return stage


def no_traffic() -> StagedStatus:
    stage = StagedStatus()
    stage.environments, stage.total, stage.top, stage.certificates = [], 0, None, []
    blames = dict.fromkeys(("nobody", "client", "backend", "core", "edge"), 0.0)
    stage.changes["now"] = ServedNow(0.0, blames, None, None, None, 0.0, 0.0, 0.0, 0.0, 0, 0)
    stage.changes["events"] = []
    return stage


def core_api_down() -> StagedStatus:
    stage = StagedStatus()
    stage.changes["source"] = SourceNow(
        "core API", up=False, lookups=0.0, p50=None, changes_up=False, changes_silence=93.0
    )
    return stage


def a_silent_worker() -> StagedStatus:
    stage = StagedStatus()
    stage.changes["workers"] = [
        WorkerNow(0, 4100, 0.1, 0.4, 8, 100, leaving=False),
        WorkerNow(1, 4101, 47.0, 0.4, 8, 100, leaving=False),
        WorkerNow(2, 4102, 0.1, 310.0, 8, 100, leaving=True),
    ]
    return stage


def many() -> StagedStatus:
    stage = StagedStatus()
    stage.total = 10_000
    sizes = [n % 7 + 1 for n in range(30)]
    stage.environments = [
        environment(f"site-{n}", [container(f"c{n}-{m}", 1 / size) for m in range(size)])
        for n, size in enumerate(sizes)
    ]
    stage.sicken()
    return stage


TROUBLES = {each.__name__: each for each in (long_names, no_traffic, core_api_down, a_silent_worker, many)}
SAID = {
    "core_api_down": ("#trouble", "The core API fails: known hostnames are served"),
    "a_silent_worker": ("#workers", "silent for 47 s"),
    "no_traffic": ("#environments", "No "),
}
IN_TROUBLE = {"core_api_down", "a_silent_worker"}
CLIPPED = """() => [...document.querySelectorAll("body *")].filter(element => {
  const style = getComputedStyle(element), box = element.getBoundingClientRect();
  const unseen = element.closest(".hidden, .skip, svg, .uplot, [hidden], .scroll *");
  if (!box.width || style.visibility === "hidden" || unseen) return false;
  const clips = !["visible", "auto"].includes(style.overflowX) && style.textOverflow !== "ellipsis";
  return (clips && element.scrollWidth > element.clientWidth + 1) || box.right > innerWidth + 1;
}).map(element => `${element.tagName} ${element.className}: ${element.textContent.slice(0, 60)}`).slice(0, 5)"""
LOOKS = (("light", DESKTOP, "light"), ("dark", DESKTOP, "dark"), ("phone", PHONE, "light"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with chromium() as launched:
        yield launched


@pytest_asyncio.fixture(loop_scope="module")
async def serve(explained, snapshot, tmp_path):
    """As everywhere, on the loop of the browser."""
    async with admin_servers(explained, snapshot, tmp_path) as start:
        yield start


@pytest.mark.long
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_everything_can_be_read(browser, serve, trouble):
    admin = await serve(status=TROUBLES[trouble]())
    url = f"http://127.0.0.1:{admin.server.address.port}"
    async with visits(browser) as visit:
        for name, viewport, scheme in (
            ("light", DESKTOP, "light"),
            ("dark", DESKTOP, "dark"),
            ("phone", PHONE, "light"),
        ):
            page = await visit.open(url, path="/", viewport=viewport, scheme=scheme)
            await expect(page.locator("#stage")).to_have_text("ready")
            if trouble in SAID:
                where, words = SAID[trouble]
                await expect(page.locator(where)).to_contain_text(words)
            await expect(page.locator("#trouble")).to_be_visible(visible=trouble in IN_TROUBLE)
            await shoot(page, f"{trouble}-{name}")
            assert await fits_width(page), name
            assert await page.evaluate(CLIPPED) == [], name
            assert await violations(page) == [], name
