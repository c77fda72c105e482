"""styx without any platform: routes in a file, which is watched."""

import signal

import pytest

from tests.run.edges import Kept, edge, events

ENTRY = '  - {{hostnames: [{host}], backends: [{{address: "127.0.0.1:{port}", id: "{id}"}}]}}\n'


async def status(styx, host):
    async with Kept(styx.port) as kept:
        reply = await kept.ask(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return int(reply.split(b" ")[1])


async def until_it_is(styx, host, wanted):
    while await status(styx, host) != wanted:
        pass


@pytest.fixture
def file(tmp_path, platform):
    [container] = platform.containers("acme")
    file = tmp_path / "routes.yaml"

    def write(*hosts):
        text = "routes:\n" + "".join(
            ENTRY.format(host=host, port=container.port, id=container.spec.id) for host in hosts
        )
        file.with_suffix(".coming").write_text(text)
        file.with_suffix(".coming").replace(file)

    file_and_write = (file, write)
    write("a.test", "live-acme.localhost")
    return file_and_write


async def test_served_from_a_file_that_changes(file, until):
    path, write = file
    async with edge(core_api=f"file:{path}") as styx:
        assert await status(styx, "live-acme.localhost") == 200
        assert await status(styx, "b.test") == 404
        write("live-acme.localhost", "b.test")
        await until_it_is(styx, "a.test", 404)
        assert await status(styx, "b.test") != 404
        path.write_text("routes: nonsense")
        await until(lambda: any("are not used" in str(event["event"]) for event in events(styx)))
        assert await status(styx, "live-acme.localhost") == 200


async def test_a_bad_file_is_told_before_the_start(run, tmp_path, file):
    path, _ = file
    path.write_text("routes:\n  - hostnames: [a..test]\n")
    config = tmp_path / "styx.yaml"
    config.write_text(f'listeners: [{{address: "127.0.0.1:0"}}]\ncore_api: {{url: "file:{path}"}}\n')
    checked = await run("check", "-c", config)
    assert checked.code == 2
    assert f"{config}:2:17: core_api.url: {path}:2:17: routes.0.hostnames.0: cannot be a hostname" in checked.err
    served = await run("serve", "-c", config)
    assert served == checked


async def test_from_a_core_api_to_a_file_by_a_reload(file, platform, until):
    path, _ = file
    async with edge(core_api=platform.core_api_url) as styx:
        assert await status(styx, "live-acme.localhost") == 200
        assert await status(styx, "a.test") == 404
        styx.file.write_text(styx.file.read_text().replace(platform.core_api_url, f"file:{path}"))
        styx.tell(signal.SIGHUP)
        await until(lambda: any(event["event"] == "reloaded" for event in events(styx)))
        assert await status(styx, "live-acme.localhost") == 200
