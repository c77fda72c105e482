"""What the status page loads until there is something to see, before an edge with 10,000 environments.

Times are printed (`pytest -s`) and not asserted: the machine may be busy. `make bench ARGS=status` measures them
under load. What makes the page quick is asserted: how much is loaded, and in how many requests.
"""

import json

import pytest

from bench.operations.first_paint import paint_of
from tests.support.chromium import chromium, visits
from tests.support.staged_status import StagedStatus, container, environment

SHOWN = 30
"Environments that a snapshot shows at most, of however many."
MOST_REQUESTS = 14
"The page, its style sheets, modules and icon."
MOST_BYTES = 96 << 10
"Of all its files, as they are transferred."
MOST_SNAPSHOT = 64 << 10


def large_edge() -> StagedStatus:
    stage = StagedStatus()
    stage.total = 10_000
    stage.environments = [
        environment(f"site-{n}", [container(f"c{n}-{m}", 0.25) for m in range(4)]) for n in range(SHOWN)
    ]
    return stage


@pytest.mark.long
async def test_what_is_loaded_before_the_first_paint(serve) -> None:
    admin = await serve(status=large_edge())
    origin = f"http://127.0.0.1:{admin.server.address.port}"
    async with chromium() as browser, visits(browser) as visit:
        page = await visit.open(origin, path="/")
        paint = await paint_of(page)
        assert await page.locator(".environment").count() == SHOWN
        await page.reload()
        again = await paint_of(page)
    print(f"first paint after {paint.painted:.0f} ms, with data {paint.shown:.0f} ms; again {again.shown:.0f} ms")
    assert paint.files <= MOST_REQUESTS
    assert 0 < paint.bytes < MOST_BYTES
    assert again.bytes < MOST_BYTES / 4, "the second time they are only checked"


async def test_a_snapshot_of_a_large_edge_is_small(admin_of_large_edge) -> None:
    body = (await admin_of_large_edge.get("/v1/status"))[1]
    assert json.loads(body)["environments"]["total"] == 10_000
    assert len(body) < MOST_SNAPSHOT


@pytest.fixture
async def admin_of_large_edge(serve):
    return await serve(status=large_edge())
