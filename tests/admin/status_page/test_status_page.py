"""The status page in the admin server: its stream outlives other responses, and ends with the server."""

import asyncio
import json

from edge.admin.admin_connections import Bounds


async def events_of(response, count):
    found = []
    async with asyncio.timeout(60):
        while len(found) < count:
            line = (await response.content.readline()).decode()
            if line.startswith("event: "):
                found.append(line.split()[1])
    return found


async def stream(admin):
    session = admin._sessions[0]
    return await session.get(f"http://127.0.0.1:{admin.server.address.port}/v1/status/stream")


async def test_one_snapshot_as_json(admin):
    response, body = await admin.get("/v1/status")
    content = json.loads(body)
    assert response.content_type == "application/json"
    assert (content["edge"], content["stage"], content["source"]["kind"]) == ("edge-1", "starting", "core API")
    assert [worker["pid"] for worker in content["workers"]] == [11]
    found = content["environments"]
    assert (found["total"], found["in_trouble"], found["shown"]) == (0, 0, [])


async def test_the_top_sites_are_not_asked_for_each_time(admin):
    for _ in range(20):
        _, body = await admin.get("/v1/status")
        [site] = json.loads(body)["environments"]["top"]["rate"]
        assert (site["site"], site["hostname"]) == ("acme", "www.acme.test")
    assert 1 <= admin.control_api.tops < 10, "once in five seconds"


async def test_a_stream_may_last_longer_than_other_responses(serve):
    admin = await serve(bounds=Bounds(handling=2.5, response=2.5, deadline_sweep=0.1))
    response = await stream(admin)
    assert await events_of(response, 6) == ["history"] + ["snapshot"] * 5
    response.close()


async def test_a_stream_ends_with_the_server(serve):
    admin = await serve()
    response = await stream(admin)
    assert await events_of(response, 2) == ["history", "snapshot"]
    async with asyncio.timeout(100):
        await admin.server.stop()
        await response.content.read()
    response.close()


async def test_rights(serve):
    admin = await serve(token="sesame")
    assert json.loads((await admin.get("/v1/rights"))[1]) == {"may_act": False}
    assert json.loads((await admin.get("/v1/rights", Authorization="Bearer sesame"))[1]) == {"may_act": True}
    assert json.loads((await admin.act("/v1/rights", method="GET"))[1]) == {"may_act": True}


async def test_a_head_request_opens_no_stream(admin):
    assert (await admin.act("/v1/status/stream", method="HEAD"))[0].status == 405
