"""What the page knows of styx: its status, or nothing while it does not respond."""

import aiohttp
import msgspec
import pytest

from edge.demo.page.demo_records import SeenByStyx
from edge.demo.page.styx_view import StyxView
from tests.support.staged_status import StagedStatus


async def test_the_status_is_read_and_forgotten_when_it_is_not_there():
    stage = StagedStatus()
    replies = [(200, msgspec.json.encode(await stage.snapshot()).decode()), (503, ""), (200, "no JSON")]

    async def ask(path):
        assert path == "/v1/status"
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    view = StyxView(ask, is_wanted=lambda: True)
    good = replies[0]
    for bad in ((503, ""), (200, "no JSON"), aiohttp.ClientConnectionError(), TimeoutError()):
        replies[:] = [good, bad]
        await view.look()
        assert view.retries is not None
        seen = view.containers["acme", "live", "ac00"]
        assert isinstance(seen, SeenByStyx)
        assert seen.condition == "healthy"
        assert seen.share == pytest.approx(1 / 3, abs=0.2)
        await view.look()
        assert (view.containers, view.retries) == ({}, None)
