"""The demo's page in Chromium: what it shows under load, everything that it can do, keyboard, phone, axe-core."""

import os
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"]
SCREENSHOTS = os.environ.get("STYX_SCREENSHOTS")
"A directory: the tests leave pictures of the page there."
DESKTOP, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}
PAINTED = """() => {
    const canvas = document.getElementById("dots"), blank = document.createElement("canvas");
    [blank.width, blank.height] = [canvas.width, canvas.height];
    return canvas.toDataURL() !== blank.toDataURL();
}"""
pytestmark = pytest.mark.asyncio(loop_scope="module")
expect.set_options(timeout=100_000)


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
async def show(browser, demo):
    """Open the page. After the test: the console is empty, nothing failed, nothing was loaded from elsewhere."""
    contexts, faults = [], []

    async def open_page(*, viewport=DESKTOP, scheme="light", **context):
        context = await browser.new_context(viewport=viewport, color_scheme=scheme, **context)
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: request.url.startswith(demo.url) or faults.append(request.url))
        await page.goto(demo.url)
        await page.wait_for_selector("html[data-ready]")
        page.faults = faults
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert faults == []


async def shoot(page, name):
    if SCREENSHOTS:
        await page.wait_for_timeout(1200)
        await page.screenshot(path=Path(SCREENSHOTS) / f"demo-{name}.png", full_page=True)


def tile(page, container):
    return page.locator(".tile", has=page.locator(f"b:text-is('{container.spec.id}')"))


def site(page, name):
    return page.locator(".site", has=page.get_by_role("heading", name=name, exact=True))


async def act(page, container, action):
    """Open the container's dialog, press the button, close the dialog; by keyboard."""
    await tile(page, container).focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#details-title")).to_contain_text(container.spec.id)
    await page.locator("#details").get_by_role("button", name=action, exact=True).focus()
    await page.keyboard.press("Enter")
    return page.locator("#details-facts")


async def drawn(page):
    """Wait until a dot flies, and has been painted."""
    await page.wait_for_function("import('/demo/dots.js').then(dots => dots.count() > 0)")
    await page.wait_for_function(PAINTED)


async def violations(page):
    """What axe-core has against the page, the serious and the critical."""
    await page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    result = await page.evaluate("axe.run()")
    return [
        (found["id"], [node["target"] for node in found["nodes"]][:5])
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
    ]


async def test_sites_containers_and_the_load_that_finds_them(show, platform):
    page = await show()
    await expect(page.locator(".site h3")).to_have_text(["acme", "globex", "initech"])
    await expect(page.locator(".tile")).to_have_count(8)
    await expect(page.locator(".server h3")).to_have_text([f"srv-{number}" for number in range(1, 7)])
    await expect(page.locator("#stage")).to_have_text("live")
    await expect(page.locator("#rate-shown")).to_have_text("30 requests/s")
    await expect(page.locator("#counts [data-outcome=ok] dd").first).not_to_have_text("0")
    await expect(page.locator("#dots-note")).to_have_text("Each dot is one request.")
    await drawn(page)
    await expect(page.locator("#awake")).to_contain_text("by demo-load/1")
    globex = tile(page, platform.containers("globex")[0])
    await expect(globex.locator(".share")).to_contain_text("%")
    assert (await page.locator("#status-page").get_attribute("href")).startswith("http://127.0.0.1:")
    await shoot(page, "light")


@pytest.mark.long
async def test_containers_come_and_go_with_the_goal(show, platform):
    page = await show()
    more = site(page, "acme").get_by_role("button", name="One container more for acme")
    await more.focus()
    for _ in range(3):
        await page.keyboard.press("Enter")
    await expect(site(page, "acme")).to_contain_text("4 containers wanted, 4 awake")
    await expect(page.locator(".tile")).to_have_count(11)
    assert len(platform.containers("acme")) == 4
    await expect(page.locator("#happened")).to_contain_text("of acme came to srv-")
    less = site(page, "acme").get_by_role("button", name="One container less for acme")
    for _ in range(4):
        await less.click()
    await expect(less).to_be_disabled()
    await expect(page.locator(".tile")).to_have_count(7)
    await expect(page.locator("#happened")).to_contain_text("is gone")


@pytest.mark.long
async def test_a_killed_container_and_what_styx_makes_of_it(show, platform):
    page = await show()
    container = platform.containers("globex")[0]
    facts = await act(page, container, "Kill")
    await expect(tile(page, container)).to_have_attribute("data-state", "dead")
    await expect(facts).to_contain_text("Styx saysdown")
    await page.keyboard.press("Escape")
    await expect(page.locator("#happened")).to_contain_text(f"{container.spec.id} of globex was killed or stopped")
    await expect(page.locator("#happened")).to_contain_text(f"styx: {container.spec.id} of globex")
    await act(page, container, "Start again")
    await expect(tile(page, container)).to_have_attribute("data-state", "running")


@pytest.mark.long
async def test_full_and_slow_containers_and_heal_everything(show, platform, demo):
    page = await show()
    first, second = platform.containers("globex")[:2]
    before = demo.load.count.outcomes["retried"]
    await act(page, first, "Fill")
    await expect(tile(page, first)).to_have_attribute("data-state", "full")
    await page.keyboard.press("Escape")
    await act(page, second, "20 times slower")
    await expect(tile(page, second)).to_have_attribute("data-state", "slow")
    await page.keyboard.press("Escape")
    await expect(page.locator("#counts [data-outcome=retried] dd").first).not_to_have_text(str(before))
    await page.get_by_role("button", name="Heal everything").click()
    for container in (first, second):
        await expect(tile(page, container)).to_have_attribute("data-state", "running")


@pytest.mark.long
async def test_a_moved_container_is_the_same_tile_on_another_server(show, platform):
    page = await show()
    [container] = platform.containers("acme")
    before = platform.registry.container(container.spec.id).server
    await tile(page, container).evaluate("tile => { tile.mark = 'the same element'; }")
    await act(page, container, "Move")
    await expect(page.locator("#happened")).to_contain_text(f"{container.spec.id} of acme moved: {before} → ")
    after = platform.registry.container(container.spec.id).server
    rack = page.locator(".server", has=page.get_by_role("heading", name=after, exact=True))
    await expect(rack.locator(".tile b", has_text=container.spec.id)).to_have_count(1)
    assert await tile(page, container).evaluate("tile => tile.mark") == "the same element"


@pytest.mark.long
async def test_asleep_until_a_request_comes(show, platform, demo):
    demo.load.choice["acme"] = "off"
    page = await show()
    [container] = platform.containers("acme")
    await act(page, container, "Put to sleep")
    await expect(tile(page, container)).to_have_attribute("data-state", "asleep")
    await page.keyboard.press("Escape")
    await site(page, "acme").get_by_role("combobox").select_option("light")
    await expect(tile(page, container)).to_have_attribute("data-state", "running")
    await expect(page.locator("#happened")).to_contain_text(f"{container.spec.id} of acme woke up")


@pytest.mark.long
async def test_reaper_dragon_and_core_api_are_switched(show, platform):
    page = await show()
    platform.reaper.seconds, platform.dragon.seconds = 1.0, 0.2
    await page.get_by_role("switch", name="Reaper").click()
    await expect(page.locator("#reaper")).to_have_attribute("aria-checked", "true")
    standby = platform.containers("initech", role="standby")[0]
    await expect(tile(page, standby)).to_have_attribute("data-state", "asleep")
    await expect(page.locator("#happened")).to_contain_text(f"{standby.spec.id} of initech fell asleep")
    await page.get_by_role("switch", name="Migration dragon").click()
    await expect(page.locator("#dragon-note")).to_contain_text("moved; ")
    await expect(page.locator("#happened")).to_contain_text("moved: srv-")
    await page.locator("#core-api").click()
    await expect(page.locator("#core-api-note")).to_have_text("down: styx knows what it knows")
    await expect(page.locator("#dragon-note")).to_have_text("rests: nobody could be told")
    assert not platform.core_api_up
    await page.locator("#core-api").click()
    await expect(page.locator("#happened")).to_contain_text("the core API is up")
    await page.locator("#dragon").click()
    await expect(page.locator("#dragon")).to_have_attribute("aria-checked", "false")
    platform.reaper.seconds, platform.dragon.seconds = 10.0, 1.0


@pytest.mark.long
async def test_the_load_is_chosen_by_keyboard_and_sampled_when_it_is_high(show, demo):
    page = await show()
    await page.locator("#rate").focus()
    await page.keyboard.press("End")
    await expect(page.locator("#rate-shown")).to_have_text("300 requests/s")
    await expect(page.locator("#dots-note")).to_contain_text("one in ")
    await shoot(page, "load")
    await page.keyboard.press("Home")
    await expect(page.locator("#rate-shown")).to_have_text("none")
    await expect(page.locator("#dots-note")).to_have_text("There is no load.")
    assert demo.load.rate == 0


@pytest.mark.long
async def test_another_site(show, platform):
    page = await show()
    await page.get_by_label("Another site").fill("acme")
    await page.get_by_role("button", name="Create").click()
    await expect(page.locator("#fault")).to_contain_text("environment live of site acme")
    page.faults[:] = [fault for fault in page.faults if "409" not in fault]
    await page.get_by_label("Another site").fill("hooli")
    await page.keyboard.press("Enter")
    await expect(site(page, "hooli")).to_contain_text("2 containers wanted, 2 awake")
    await expect(page.locator("#fault")).to_be_hidden()
    assert len(platform.containers("hooli")) == 2


@pytest.mark.long
async def test_on_a_phone_nothing_is_cut_off(show):
    page = await show(viewport=PHONE, has_touch=True)
    await drawn(page)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await shoot(page, "phone")


@pytest.mark.long
async def test_who_asks_for_less_motion_gets_no_dots_and_is_told(show):
    page = await show(reduced_motion="reduce")
    await expect(page.locator("#dots-note")).to_contain_text("your system asks for less motion")
    await expect(page.locator("#counts [data-outcome=ok] dd").first).not_to_have_text("0")
    assert await page.evaluate("import('/demo/dots.js').then(dots => dots.count())") == 0


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(show, platform, scheme):
    first, second, third, *_ = platform.containers("globex")
    await first.kill()
    second.fill(on=True)
    third.slow(20)
    await platform.fleet.sleep(platform.containers("initech")[0].spec.id)
    page = await show(scheme=scheme)
    for container, state in ((first, "dead"), (second, "full"), (third, "slow")):
        await expect(tile(page, container)).to_have_attribute("data-state", state)
    assert await violations(page) == []
    await shoot(page, f"sick-{scheme}")
    await tile(page, first).click()
    await expect(page.locator("#details-facts")).to_contain_text("Statedead")
    assert await violations(page) == []


@pytest.mark.long
async def test_the_theme_can_be_chosen_and_is_kept(show):
    page = await show()
    await page.locator("#theme").click()
    await page.locator("#theme").click()
    await expect(page.locator("#theme")).to_have_attribute("aria-label", "Theme: dark")
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
