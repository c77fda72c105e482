"""The management API over HTTP."""

import pytest

PREFIX = "/v1/platform"


@pytest.fixture
def call(platform, http):
    async def called(method, path, body=None, data=None):
        async with http.request(method, platform.core_api_url + PREFIX + path, json=body, data=data) as response:
            return response.status, (await response.json() if response.status != 204 else None)

    return called


async def created(call, **members):
    status, shown = await call("POST", "/environments", {"site": "acme", "service_time": 0, **members})
    assert status == 201, shown
    return shown


async def test_create_show_list_resize_remove(call, platform):
    shown = await created(call, hostnames=["a.example"], containers=2, standby=1, workers=3)
    assert shown["goal"] == {"containers": 2, "standby": 1}
    assert [(c["role"], c["state"], c["listening"]) for c in shown["containers"]] == [
        ("active", "running", True),
        ("active", "running", True),
        ("standby", "running", True),
    ]
    assert await call("GET", "/environments") == (200, [shown])
    assert await call("GET", "/environments/acme/live") == (200, shown)
    status, after = await call("PATCH", "/environments/acme/live", {"containers": 5})
    assert (status, after["goal"]["containers"]) == (202, 5)
    assert after["generation"] > shown["generation"]
    await platform._reconciler.settled("acme", "live")
    assert len(platform.containers("acme", role="active")) == 5
    assert await call("DELETE", "/environments/acme/live") == (204, None)
    assert (await call("GET", "/environments/acme/live"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/environments", {"site": "acme"}, 409, "choose another name"),
        ("POST", "/environments", {"site": "UPPER"}, 400, "$.site"),
        ("POST", "/environments", {"site": "b", "workers": 0}, 400, "$.workers"),
        ("POST", "/environments", {"site": "b", "color": "red"}, 400, "color"),
        ("POST", "/environments", [], 400, "object"),
        ("PATCH", "/environments/acme/live", {"containers": -1}, 400, "$.containers"),
        ("PATCH", "/environments/acme/test", {"containers": 1}, 404, "lists what there is"),
        ("POST", "/containers/zzzz/kill", {}, 404, "lists what there is"),
        ("POST", "/containers/{id}/dance", {}, 404, "move, kill"),
        ("POST", "/containers/{id}/slow", {}, 400, "factor"),
        ("POST", "/containers/{id}/slow", {"factor": 0}, 400, "$.factor"),
        ("POST", "/containers/{id}/move", {"leave": "mess"}, 400, "$.leave"),
        ("GET", "/nowhere", None, 404, "/v1/"),
        ("PUT", "/environments", {}, 405, "GET, HEAD, POST"),
    ],
)
async def test_errors_name_the_remedy(call, method, path, body, status, word):
    shown = await created(call)
    got, response = await call(method, path.format(id=shown["containers"][0]["id"]), body)
    assert got == status, response
    assert word in response["error"]


async def test_a_body_that_is_not_json(call):
    status, response = await call("POST", "/environments", data=b"{")
    assert status == 400
    assert "JSON" in response["error"]


async def test_actions(call, platform, ask):
    shown = await created(call)
    name = shown["containers"][0]["id"]
    container = platform.container(name)

    async def do(action, **body):
        status, content = await call("POST", f"/containers/{name}/{action}", body)
        assert status == 200, content
        return content

    await do("fill", on=True)
    assert (await ask(container.port)).refused == "queue-full"
    await do("fill", on=False)
    assert (await ask(container.port)).status == 200
    await do("slow", factor=10)
    assert container.slow_factor == 10
    assert (await do("kill"))["listening"] is False
    assert (await do("heal"))["listening"] is True
    assert container.slow_factor == 1
    assert (await do("sleep"))["state"] == "asleep"
    assert (await do("wake"))["state"] == "running"
    assert (await do("stop"))["listening"] is False
    await do("heal")
    assert (await do("move"))["port"] != shown["containers"][0]["port"]
