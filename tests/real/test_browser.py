"""Chromium opens a page of a site on uvicorn: parallel assets, fetch, an event stream and WebSockets.

The page does it all by itself and sends its own report, so nothing has to drive the browser.
"""

import pytest

from tests.real.real_programs import program

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP site.localhost 127.0.0.1",
)

EXPECTED = {
    "assets": {
        "styles": [str(n) for n in range(10)],
        "scripts": list(range(10)),
        "images": [n + 1 for n in range(12)],
    },
    "upload": {"status": 200, "bytes": 300_000, "same": True},
    "stream": 200_000,
    "gzip": True,
    "missing": 404,
    "cached": ["cached text"] * 3,
    "abort": "data: first\n\n",
    "events": [f"event {n}" for n in range(1, 8)],
    "websocket": {
        "heard": ["grüße", True],
        "code": 3001,
        "wasClean": True,
        "protocol": "chat.v2",
        "extension": "permessage-deflate",
    },
    "closed": {"code": 4002, "reason": "as you wish", "wasClean": True},
    "faults": [],
}


@pytest.fixture
async def report(asgi_site, start, tmp_path):
    """What the page has to say."""
    program("chromium")
    url = f"http://site.localhost:{asgi_site.edge}/"
    await start("chromium", *FLAGS, f"--user-data-dir={tmp_path}/profile", url)
    return await asgi_site.told("/reported")


async def test_a_page_with_everything(report, asgi_site, scene):
    assert report == EXPECTED
    told = await asgi_site.told()
    assert sorted(told["closed"]) == [3001, 4002]
    assert told["not_modified"] == 2
    asked = {outcome.target for outcome in scene.outcomes}
    assert {f"/asset/{n}.{kind}" for n in range(10) for kind in ("css", "js", "png")} <= asked
    snapshot = scene.snapshot
    assert snapshot.route_hits + snapshot.route_misses >= 47
    # Six connections for requests, one for each WebSocket; and a browser may open some before it needs them.
    assert snapshot.client_connections_accepted <= 6 + 2 + 4
