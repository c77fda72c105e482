"""The command line: exit codes, output, and its requests to a running styx."""

import asyncio
import json

import pytest

from edge.demo.free_ports import free_port

BAD = """\
listeners: [{address: "127.0.0.1:8080", backlog: many}]
core_api: {url: "http://127.0.0.1:9900", timeout: 5}
pool: {idle_timeuot: 30s}
"""


async def test_no_command_and_a_wrong_one_are_wrong_usage(call):
    assert (await call("--help")).code == 0
    assert (await call("swerve")).code == 2
    assert (await call("check", "--colour")).code == 2


async def test_the_list_of_commands_fits_a_terminal_of_80_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    listed = await run("--help")
    assert "healthcheck" in listed.out
    assert "..." not in listed.out.partition("Commands:")[2], "a description is cut off: give it a short_help"


async def test_a_mistyped_command_or_option_has_a_suggestion(call):
    assert "Did you mean 'check'?" in (await call("chekc")).err
    assert "Did you mean '--strict'?" in (await call("check", "--strcit")).err


@pytest.mark.parametrize("name", ["demo.yaml", "styx.yaml"])
async def test_our_own_files_are_good(call, name):
    ran = await call("check", "-c", f"config/{name}")
    assert (ran.code, ran.out, ran.err) == (0, f"config/{name}: good\n", "")


async def test_every_fault_is_printed_with_its_position(call, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    ran = await call("check", "-c", path)
    assert (ran.code, ran.out) == (2, "")
    for fault in ("1:50: listeners.0.backlog", "2:51: core_api.timeout", "3:8: pool.idle_timeuot"):
        assert f"{path}:{fault}: " in ran.err


async def test_styx_does_not_start_with_a_bad_file(run, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    ran = await run("serve", "-c", path)
    assert ran.code == 2
    assert f"{path}:1:50: listeners.0.backlog: " in ran.err


async def test_a_file_that_is_not_there(run, tmp_path):
    for command in ("check", "serve"):
        ran = await run(command, "-c", tmp_path / "none.yaml")
        assert (ran.code, ran.err) == (2, f"styx: cannot read {tmp_path}/none.yaml: No such file or directory\n")


async def test_healthcheck(call, styx):
    ran = await call("healthcheck", "--admin", styx.settings.admin.address)
    assert (ran.code, ran.out) == (0, "ready\n")
    ran = await call("healthcheck", STYX_ADMIN=str(styx.settings.admin.address))
    assert (ran.code, ran.out) == (0, "ready\n")


@pytest.mark.parametrize("question", [("healthcheck",), ("explain", "live-acme.localhost")])
async def test_no_server_at_the_admin_address(run, question, tmp_path):
    for admin in (f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/none.sock"):
        ran = await run(*question, "--admin", admin)
        assert ran.code == 1
        assert ran.err.startswith(f"styx: nobody answers at {admin}: ")
        assert "Traceback" not in ran.err


async def test_an_invalid_admin_address(call):
    ran = await call("healthcheck", "--admin", "127.0.0.1")
    assert ran.code == 2
    assert ran.err.startswith("styx: 127.0.0.1: ")


async def test_explain(call, styx, platform, client):
    admin = styx.settings.admin.address
    before = await call("explain", "live-acme.localhost", "--admin", admin)
    assert before.code == 1
    assert "No request has asked for live-acme.localhost yet" in before.err
    assert (await client.ask("live-acme.localhost")).status == 200
    [container] = platform.containers("acme")
    shown = await call("explain", "live-acme.localhost", "--admin", admin)
    assert shown.code == 0
    assert f"{container.spec.id}" in shown.out
    assert f"127.0.0.1:{container.port}" in shown.out
    printed = await call("explain", "live-acme.localhost", "--admin", admin, "--json")
    assert [backend["id"] for backend in json.loads(printed.out)["workers"][0]["content"]["backends"]] == [
        container.spec.id
    ]
    by_url = await call("explain", "http://live-acme.localhost:8080/node?x=1", "--admin", admin)
    assert by_url.out.splitlines()[0] == shown.out.splitlines()[0]
    similar = await call("explain", "live-amce.localhost", "--admin", admin)
    assert similar.code == 1
    assert similar.err.endswith(" Known is: live-acme.localhost.\n")
    assert (await call("explain", "two words", "--admin", admin)).code == 1


async def test_explain_of_a_hostname_whose_lookup_failed(call, styx, platform, client):
    admin = styx.settings.admin.address
    await platform.stop_core_api()
    assert (await client.ask("live-acme.localhost")).status == 503
    shown = await call("explain", "live-acme.localhost", "--admin", admin)
    assert shown.code == 0
    assert "no route: requests are answered 503, `lookup_failed`" in shown.out
    assert "the lookup failed " in shown.out
    assert "Connect call failed" in shown.out or "Cannot connect" in shown.out
    assert "tried again " in shown.out


NOT_STYX = {
    "another protocol": b"SSH-2.0-x\r\n",
    "nothing": b"",
    "TLS": b"\x15\x03\x01\x00\x02\x02F",
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "an object": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a list": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]",
    "almost ours": b'HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{"workers":[1],"silent":3}',
    "empty replies": b"HTTP/1.1 200 OK\r\nContent-Length: 75\r\n\r\n"
    b'{"workers":[{"worker":0,"pid":1,"content":{"x":1},"error":""}],"silent":[]}',
    "denied": b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n",
    "not found": b"HTTP/1.1 404 X\r\nContent-Length: 3\r\n\r\nabc",
}


@pytest.mark.parametrize("response", NOT_STYX.values(), ids=NOT_STYX)
async def test_a_wrong_admin_address_is_an_error_of_one_line(call, response):
    async def serve(reader, writer):
        await reader.read(1000)
        writer.write(response)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    admin = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        for command in (
            "explain a.test",
            "routes",
            "drains",
            "top --once",
            "events",
            "clients",
            "config show",
            "log-level",
            "log-level debug",
            "healthcheck",
            "invalidate all",
            "reload",
        ):
            ran = await call(*command.split(), "--admin", admin)
            assert (ran.code, ran.out) == (1, ""), command
            assert ran.err.startswith("styx: "), command
            assert ran.err.count("\n") == 1, command


async def test_top(call, styx, platform, client):
    admin = styx.settings.admin.address
    assert (await client.ask("live-acme.localhost")).status == 200
    ran = await call("top", "--once", "--admin", admin)
    assert ran.code == 0, ran.err
    assert "ready" in ran.out
    assert "requests/s" in ran.out
