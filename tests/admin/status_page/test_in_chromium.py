"""The status page in Chromium: what it shows and how it moves, keyboard, phone, rights, axe-core, and no fault."""

import pytest
import pytest_asyncio
from playwright.async_api import expect

from edge.rules.traffic.top_records import Top
from tests.admin.conftest import admin_servers
from tests.support.chromium import PHONE, chromium, fits_width, shoot, violations, visits
from tests.support.staged_status import StagedStatus, busiest, busy, container, environment, healthy

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with chromium() as launched:
        yield launched


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser):
    async with visits(browser) as visit:
        yield visit


@pytest_asyncio.fixture(loop_scope="module")
async def serve(explained, snapshot, tmp_path):
    """As everywhere, on the loop of the browser."""
    async with admin_servers(explained, snapshot, tmp_path) as start:
        yield start


@pytest.fixture
def show(visit, serve):
    """Open the page of a staged edge."""

    async def open_page(stage=None, *, viewport=None, scheme="light", path="/", **server):
        stage = stage or StagedStatus()
        admin = await serve(status=stage, **server)
        shown = {"viewport": viewport} if viewport else {}
        url = f"http://127.0.0.1:{admin.server.address.port}"
        page = await visit.open(url, path=path, scheme=scheme, **shown)
        page.stage, page.admin = stage, admin
        return page

    return open_page


def card(page, name):
    return page.locator(".environment", has=page.get_by_role("heading", name=name, exact=True))


async def test_what_is_served_now(show):
    page = await show()
    await expect(page.locator("#edge")).to_have_text("edge-fra-1")
    await expect(page.locator("#stage")).to_have_text("ready")
    await expect(page.locator("#now")).to_contain_text("Median latency11 ms95 % within 47 ms")
    await expect(page.locator("#routes")).to_contain_text("Hostnames with a route103.2K")
    await expect(page.locator("#workers tbody tr")).to_have_count(4)
    await expect(page.locator("#listeners tbody tr").last).to_have_text("0.0.0.0:84433752")
    await expect(page.locator("[data-list=rate] li")).to_have_count(5)
    await expect(page.locator("[data-list=errors] li").first).to_have_text("ember/live 2.3 /s 5.6 % of them")
    await expect(page.locator("[data-list=latency] li").first).to_contain_text("fjordline/live 4200 ms")
    certificates = page.locator("#certificates li")
    await expect(certificates.first).to_contain_text("*.example.org and 1 more from the core API61 days")
    await expect(certificates.last).to_contain_text(
        "shop.example.net from the core APIthe core API has none (404)5 days"
    )
    await expect(page.locator("#events")).to_contain_text("route lookup problem")
    await expect(page.locator("#environments-count")).to_contain_text("6 of 10,214")
    assert await page.locator(".uplot canvas").count() == 3
    await shoot(page, "light")


@pytest.mark.long
async def test_a_container_sickens_and_recovers_before_our_eyes(show):
    page = await show()
    tiles = card(page, "acme/live").locator(".container")
    await expect(tiles).to_have_count(3)
    await expect(tiles.first).to_have_attribute("data-condition", "healthy")
    await tiles.first.evaluate("tile => { tile.mark = 'the same element'; }")
    wide = (await tiles.nth(1).bounding_box())["width"]
    page.stage.sicken()
    await expect(tiles.first).to_have_attribute("data-condition", "down")
    await expect(tiles.first).to_contain_text("down, connected to in the background")
    await expect(card(page, "acme/live")).to_contain_text("ac00 down (connect failed), tried again in 2.4 s")
    await expect(page.locator("#events")).to_contain_text("acme/live/ac00: healthy → down connect failed")
    await expect(page.locator("#drains")).to_contain_text("by alice, until")
    await expect(tiles.first).to_have_attribute("data-narrow", "true")
    await page.wait_for_function(
        f"element => element.offsetWidth > {wide * 1.2}", arg=await tiles.nth(1).element_handle()
    )
    assert await tiles.first.evaluate("tile => tile.mark") == "the same element"
    await expect(card(page, "borealis/live").locator(".pips i")).to_have_count(3)
    await shoot(page, "sick")
    page.stage.environments[0] = healthy("acme")
    await expect(tiles.first).to_have_attribute("data-condition", "healthy")
    await expect(card(page, "acme/live").locator(".note")).to_be_hidden()


@pytest.mark.long
async def test_environments_come_and_go(show):
    page = await show()
    await expect(card(page, "ember/live")).to_be_visible()
    page.stage.environments = [environment("new-site", [], maintenance=True), *page.stage.environments[:2]]
    await expect(card(page, "new-site/live")).to_contain_text("maintenance: requests get 503")
    await expect(card(page, "ember/live")).to_have_count(0)
    await expect(card(page, "acme/live")).to_be_visible()
    page.stage.environments = [environment("new-site", [container("a", 0.0, "drained")], drained=True)]
    await expect(card(page, "new-site/live")).to_contain_text("drained by an operator: requests get 503")


@pytest.mark.long
async def test_a_top_site_is_explained_by_mouse_and_keyboard(show):
    page = await show()
    rate = page.locator("[data-list=rate] button")
    await rate.first.click()
    await expect(page.locator("#explained")).to_contain_text("acme/live  ·  generation 1842")
    await page.keyboard.press("Escape")
    await rate.nth(1).focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#explained-title")).to_have_text("live-borealis.example.org")


@pytest.mark.long
async def test_top_sites_come_and_go_and_keep_the_focus(show):
    page = await show()
    rate = page.locator("[data-list=rate] button")
    await expect(rate).to_have_count(5)
    await rate.first.focus()
    gone = busy("gone", 9.0)
    gone.hostname = ""
    page.stage.top = Top(20.0, [busy("fjordline", 50.0), gone], [], [busy("fjordline", 50.0)], [])
    await expect(rate).to_have_text(["fjordline/live 50 /s 12 ms", "gone/live 9 /s 12 ms"])
    await expect(rate.first).to_be_focused()
    await expect(rate.last).to_be_disabled()
    await expect(page.locator("[data-list=errors]")).to_contain_text("No site has had an error.")
    await expect(page.locator("[data-list=latency] li")).to_have_count(1)
    await expect(page.locator("#top-seconds")).to_have_text("since the start")
    page.stage.top = busiest()
    await expect(rate).to_have_count(5)
    await expect(page.locator("[data-list=errors] li")).to_have_count(2)
    page.stage.top = None
    await expect(page.locator("#top")).to_be_hidden()


@pytest.mark.long
async def test_only_those_in_trouble(show):
    page = await show()
    await page.get_by_role("button", name="In trouble").click()
    await expect(page.locator("#no-environments")).to_have_text("No environment is in trouble.")
    page.stage.sicken()
    await expect(page.locator(".environment:visible")).to_have_count(2)
    await expect(page.get_by_role("button", name="In trouble (2)")).to_have_attribute("aria-pressed", "true")


@pytest.mark.long
async def test_by_keyboard_alone(show):
    page = await show()
    await expect(card(page, "acme/live")).to_be_visible()
    await page.keyboard.press("/")
    await page.keyboard.type("https://live-acme.example.org/node/12")
    await page.keyboard.press("Enter")
    await expect(page.locator("#explained")).to_contain_text("acme/live  ·  generation 1842")
    await expect(page.locator("#explained-title")).to_be_focused()
    assert page.url.endswith("#explain=https%3A%2F%2Flive-acme.example.org%2Fnode%2F12")
    await shoot(page, "explained")
    await page.keyboard.press("Escape")
    await expect(page.locator("#explanation")).to_be_hidden()
    await card(page, "acme/live").locator(".container").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#details")).to_contain_text("acme/live/ac00")
    await page.keyboard.press("Escape")
    await expect(page.locator("#details")).to_be_hidden()


async def test_a_hostname_that_nobody_asked_for_and_what_is_no_hostname(show):
    page = await show(path="/#explain=other.test")
    await expect(page.locator("#explained")).to_contain_text("Known is: live-acme.example.org.")
    await page.locator("#hostname").fill("two words")
    await page.get_by_role("button", name="Explain", exact=True).click()
    await expect(page.locator("#explained")).to_contain_text("there is no hostname in 'two words'")
    await page.locator("#hostname").fill("<img src=x onerror=alert(1)>")
    await page.get_by_role("button", name="Explain", exact=True).click()
    await expect(page.locator("#explained-title")).to_have_text("<img src=x onerror=alert(1)>")
    assert await page.locator("#explanation img").count() == 0


@pytest.mark.long
async def test_read_only_without_the_token_and_more_with_it(show):
    page = await show(token="sesame")
    await expect(page.locator("#rights")).to_have_text("read only")
    tile = card(page, "acme/live").locator(".container").first
    await tile.click()
    await expect(page.get_by_role("button", name="Explain its hostname")).to_be_visible()
    await expect(page.get_by_role("button", name="Drain it for 10 min")).to_have_count(0)
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Unlock").click()
    await page.locator("#token").fill("sesame")
    await page.get_by_role("button", name="Use it").click()
    await expect(page.locator("#rights")).to_have_text("may change things")
    await tile.click()
    page.admin.control_api.known_servers.append("srv-192")
    await page.get_by_role("button", name="Drain srv-192").click()
    await expect(page.locator("#details")).to_be_hidden()
    [drain] = page.admin.control_api.drains()
    assert (drain.kind, drain.name, drain.by) == ("server", "srv-192", "the admin token")
    await page.get_by_role("button", name="Lock").click()
    await expect(page.locator("#rights")).to_have_text("read only")


@pytest.mark.long
async def test_a_wrong_token_is_refused(show, visit):
    page = await show(token="sesame")
    await page.get_by_role("button", name="Unlock").click()
    await page.locator("#token").fill("wrong")
    await page.get_by_role("button", name="Use it").click()
    await expect(page.locator("#token-fault")).to_have_text("The token is not the admin token.")
    visit.expect_fault("401")


@pytest.mark.long
async def test_a_lost_connection_is_said_and_made_again(show, visit):
    page = await show()
    await expect(page.locator("#stage")).to_have_text("ready")
    await page.context.set_offline(True)
    page.admin.server._connections._close(
        next(c for c in page.admin.server._connections._open.values() if c.in_request)
    )
    await expect(page.locator("#lost")).to_contain_text("No connection")
    await expect(page.locator("#stage")).to_have_text("no connection")
    await page.context.set_offline(False)
    await expect(page.locator("#lost")).to_be_hidden()
    await expect(page.locator("#stage")).to_have_text("ready")
    visit.expect_fault("ERR_")


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(show, scheme):
    stage = StagedStatus()
    stage.sicken()
    page = await show(stage, scheme=scheme, path="/#explain=live-acme.example.org")
    await expect(page.locator("#explained pre")).to_be_visible()
    await expect(card(page, "acme/live").locator("[data-condition=down]")).to_be_visible()
    assert await violations(page) == []
    await shoot(page, scheme + "-explained")
    await card(page, "acme/live").locator(".container").first.click()
    await expect(page.locator("#details")).to_contain_text("12 times, last 3.2 s ago")
    assert await violations(page) == []


@pytest.mark.long
async def test_the_theme_can_be_chosen_and_is_kept(show):
    page = await show(scheme="light")
    button = page.locator("#theme")
    await button.click()
    await button.click()
    await expect(button).to_have_attribute("aria-label", "Theme: dark")
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert await page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


@pytest.mark.long
async def test_on_a_phone_nothing_is_cut_off(show):
    stage = StagedStatus()
    stage.sicken()
    page = await show(stage, viewport=PHONE)
    await expect(card(page, "acme/live")).to_be_visible()
    await expect(page.locator("[data-list=latency] li")).to_have_count(5)
    assert await fits_width(page)
    assert await violations(page) == []
    await shoot(page, "phone")


@pytest.mark.long
async def test_thirty_environments_are_painted_soon_and_cost_little(show):
    stage = StagedStatus()
    stage.environments = [
        environment(f"site-{n}", [container(f"{n}-{m}", 0.1) for m in range(10)]) for n in range(30)
    ]
    page = await show(stage)
    await expect(page.locator(".container")).to_have_count(300)
    paint = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 5000, "below 1 s on a quiet machine"
    assert await page.evaluate("document.querySelectorAll('*').length") < 6000
    await shoot(page, "load")
