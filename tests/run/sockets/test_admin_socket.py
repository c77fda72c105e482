"""The admin socket: its path, its rights, which users may send commands, and that it outlives processes."""

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.demo.free_ports import free_port
from edge.demo.styx_process import StyxProcess
from edge.net.accept.listener import open_listener
from edge.rules.settings.file import parse
from edge.rules.settings.values import Address
from edge.run import cli
from edge.run.sockets.admin_socket import directories, file_name, prepare
from edge.run.sockets.listening_sockets import Spare, open_sockets, spare_of, take_over
from edge.run.sockets.socket_handover import inherit
from tests.support.processes.edges import children, edge, text, told
from tests.support.processes.process_verbs import DEADLINE, is_alive
from tests.support.processes.unprivileged import NOBODY, as_nobody, command_as_nobody, needs_root

ACTS = [
    ("/v1/reload", {}),
    ("/v1/upgrade", {}),
    ("/v1/drains", {"kind": "server", "name": "s", "seconds": 600, "force": True}),
    ("/v1/invalidate", {"kind": "all"}),
]
COMMANDS = [("reload",), ("upgrade",), ("drain", "server", "s", "--force"), ("invalidate", "all")]


def settings(port=0, admin=""):
    text = f"""
listeners: [{{address: "127.0.0.1:0"}}]
core_api: {{url: "http://a"}}
admin: {{address: "127.0.0.1:{port}"{admin}}}
"""
    return parse(text, name="f", environ={})


@pytest.fixture
def opened():
    """`open_sockets`; all that it opened are closed after the test."""
    every = []

    def open_them(chosen, where, spare=None):
        every.append(open_sockets(chosen, 1, spare or Spare([]), admin_directories=where))
        return every[-1]

    yield open_them
    for sockets in reversed(every):
        if sockets.admin.sockets[0].fileno() != -1:
            sockets.close_all_but()


def path_of(sockets):
    return Path(sockets.admin_socket.address.path)


# where it lies


def test_directories_of_the_admin_socket():
    assert directories({"RUNTIME_DIRECTORY": "/run/styx@1:/run/more"}, 0)[0] == Path("/run/styx@1")
    assert directories({"XDG_RUNTIME_DIR": "/run/user/0"}, 0)[0] == Path("/run/styx")
    assert directories({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == [
        Path("/run/user/7/styx"),
        Path("/tmp/styx-7"),
        Path("/dev/shm/styx-7"),
    ]
    assert directories({}, 7)[0] == Path("/tmp/styx-7")


def test_its_directory_is_private(tmp_path):
    prepare(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    prepare(tmp_path / "new")
    for mode in (0o770, 0o702, 0o1777):
        (tmp_path / "new").chmod(mode)
        with pytest.raises(PermissionError):
            prepare(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        prepare(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        prepare(tmp_path / "none" / "deep")


@needs_root
def test_a_directory_of_another_user_is_not_used(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.chown(tmp_path / "link", NOBODY, NOBODY, follow_symlinks=False)
    for name in ("theirs", "link"):
        with pytest.raises(OSError, match=r"Others|Not a directory"):
            prepare(tmp_path / name)
    (tmp_path / "systemd").symlink_to(tmp_path / "target")
    prepare(tmp_path / "systemd")


def test_it_is_private_and_named_after_the_admin_address(opened, tmp_path):
    one, two = opened(settings(), [tmp_path]), opened(settings(), [tmp_path])
    for sockets in (one, two):
        port = sockets.admin.sockets[0].getsockname()[1]
        assert path_of(sockets) == tmp_path / f"admin-127.0.0.1:{port}.sock"
        assert stat.S_IMODE(path_of(sockets).stat().st_mode) == 0o600
    one.close_all_but()
    assert os.listdir(tmp_path) == [path_of(two).name]
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
        assert file_name(sock) == f"admin-[::1]:{sock.getsockname()[1]}.sock"


def test_it_is_never_open_to_others_even_for_a_moment(tmp_path, monkeypatch):
    """Its mode is read in the first moment after it has a name."""
    modes = []

    class Watched(socket.socket):
        def bind(self, address):
            super().bind(address)
            modes.append(stat.S_IMODE(os.stat(address).st_mode))

    monkeypatch.setattr("edge.net.accept.listener.socket.socket", Watched)
    before = os.umask(0)
    try:
        open_listener(Address(path=f"{tmp_path}/a"), private=True).close()
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_the_next_directory_is_taken_when_one_cannot_be(opened, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    too_long = tmp_path / ("x" * 100)
    sockets = opened(settings(), [tmp_path / "a" / "b", tmp_path / "open", too_long, tmp_path / "good"])
    assert path_of(sockets).parent == tmp_path / "good"


def test_an_edge_without_one_serves_all_the_same(opened, tmp_path, capsys):
    sockets = opened(settings(), [tmp_path / "a" / "b"])
    assert sockets.admin_socket is None
    assert sockets.of_admin == (sockets.admin,)
    said = capsys.readouterr().out
    assert "admin_socket_unavailable" in said
    assert f"{tmp_path}/a/b: No such file or directory" in said


def test_one_in_the_settings_must_be_opened(opened, tmp_path):
    sockets = opened(settings(admin=f', socket: "{tmp_path}/mine"'), [])
    assert path_of(sockets) == tmp_path / "mine"
    assert stat.S_IMODE(path_of(sockets).stat().st_mode) == 0o600
    with pytest.raises(OSError, match=f"cannot listen on unix:{tmp_path}/no/mine: No such file"):
        open_sockets(settings(admin=f', socket: "{tmp_path}/no/mine"'), 1, Spare([]))


def test_a_unix_socket_as_admin_address_is_enough(opened, tmp_path):
    text = 'listeners: [{address: "127.0.0.1:0"}]\ncore_api: {url: "http://a"}\n'
    chosen = parse(f'{text}admin: {{address: "unix:{tmp_path}/a"}}\n', name="f", environ={})
    assert opened(chosen, [tmp_path]).admin_socket is None


def test_a_live_one_of_another_process_is_left_alone(tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{tmp_path}/mine")
        other.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for one in waiting:  # its queue is full
            one.setblocking(False)
            one.connect_ex(f"{tmp_path}/mine")
        with pytest.raises(OSError, match="Address already in use"):
            open_sockets(settings(admin=f', socket: "{tmp_path}/mine"'), 1, Spare([]))
        for one in waiting:
            one.close()
    opened = open_sockets(settings(admin=f', socket: "{tmp_path}/mine"'), 1, Spare([]))
    opened.close_all_but()


# it stays the same


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_new_configuration_keeps_it(opened, tmp_path, elsewhere):
    """Whatever directory the environment would lead to now."""
    chosen = settings(free_port())
    before = opened(chosen, [tmp_path])
    after = opened(chosen, [tmp_path / "new" if elsewhere else tmp_path], spare_of(before))
    assert after.admin_socket.sockets == before.admin_socket.sockets
    before.close_all_but(after)
    assert path_of(after).is_socket()


def test_one_whose_file_is_gone_is_opened_again(opened, tmp_path):
    chosen = settings(free_port())
    before = opened(chosen, [tmp_path])
    path_of(before).unlink()
    after = opened(chosen, [tmp_path], spare_of(before))
    assert after.admin_socket.sockets != before.admin_socket.sockets
    assert path_of(after) == path_of(before)
    before.close_all_but(after)
    assert path_of(after).is_socket(), "it belongs to the new one"


def test_it_is_handed_over(opened, tmp_path):
    chosen = settings(free_port())
    before = opened(chosen, [tmp_path])
    descriptors = json.loads(before.handed_over())
    for entry in descriptors:
        entry[1] = [os.dup(number) for number in entry[1]]
    spare = take_over(json.dumps(descriptors))
    after = opened(chosen, [tmp_path / "new"], spare)
    assert spare.close() == []
    assert path_of(after) == path_of(before)
    before.leave_files()
    before.close_all_but()
    assert path_of(after).is_socket()


# processes


def socket_of(child) -> Path:
    connection = http.client.HTTPConnection("127.0.0.1", child.settings.admin.address.port, timeout=5)
    try:
        connection.request("GET", "/v1/overview")
        return Path(json.load(connection.getresponse())["socket"])
    finally:
        connection.close()


def over_unix(path: Path) -> int:
    """The status of the response to a drain over this socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(str(path))
        return post(sock, *ACTS[2])


def post(sock, path, body, headers="") -> int:
    data = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    sock.sendall(head.encode() + data.encode())
    return int(sock.recv(1 << 16).split()[1])


async def drained(child) -> bool:
    return json.loads((await child.ask_admin("/v1/drains"))[1]) != []


@needs_root
async def test_another_user_may_read_but_not_command(run):
    async with edge() as styx:
        port, path, before = styx.settings.admin.address.port, socket_of(styx), children(styx.pid)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_uid == os.geteuid()

        def tries():
            statuses = []
            for asked in ACTS:
                for headers in ("", "Authorization: Bearer x\r\n", "Host: 127.0.0.1\r\n"):
                    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
                        statuses.append(post(sock, *asked, headers=headers))
            try:
                return [*statuses, over_unix(path)]
            except PermissionError:
                return statuses

        assert set(await as_nobody(tries)) <= {400, 403}
        admin = f"127.0.0.1:{port}"
        for command in COMMANDS:
            code, _, err = await command_as_nobody(*command, "--admin", admin)
            assert code == 1
            assert err == (
                f"styx: not permitted at unix:{path}: this needs root or the user of styx, or the admin token "
                "(--token-file or STYX_ADMIN_TOKEN)\n"
            )
        code, out, _ = await command_as_nobody("routes", "--admin", admin)
        assert (code, "worker 1" in out) == (0, True)
        assert (await command_as_nobody("healthcheck", "--admin", admin))[:2] == (0, "ready\n")
        assert not await drained(styx)
        assert children(styx.pid) == before
        assert not told(styx, "reloaded")
        assert not told(styx, "admin_command")


@needs_root
async def test_credentials_are_checked_whatever_the_mode_of_the_file(until):
    async with edge() as styx:
        path = socket_of(styx)
        path.chmod(0o666)
        path.parent.chmod(0o755)
        assert await as_nobody(lambda: over_unix(path)) == 403
        assert not await drained(styx)
        assert over_unix(path) == 200
        assert await drained(styx)
        await until(lambda: told(styx, "admin_command"))
        assert [event["user"] for event in told(styx, "admin_command")] == [os.geteuid()]


@needs_root
async def test_the_user_of_the_workers_has_no_right_that_is_roots(call, tmp_path):
    """The master runs as root, its children as the user `nobody`: root carries out reload and upgrade."""
    async with edge(more="user: nobody") as styx:
        admin = styx.settings.admin.address
        assert os.stat(f"/proc/{children(styx.pid)['admin']}").st_uid == NOBODY
        assert socket_of(styx).stat().st_uid == 0
        assert (await command_as_nobody("reload", "--admin", admin))[0] == 1
        ran = await call("reload", "--admin", admin)
        assert (ran.code, ran.out) == (0, "nothing changed\n")


@needs_root
async def test_the_admin_token_is_enough(call, until, tmp_path):
    token = tmp_path / "token"
    token.write_text("sesame\n")
    async with edge() as styx:
        admin, before = str(styx.settings.admin.address), children(styx.pid)["admin"]
        styx.file.write_text(styx.file.read_text().replace(f'"{admin}"', f'"{admin}", token_file: "{token}"'))
        assert (await call("reload", "--admin", admin)).code == 0
        await until(lambda: not is_alive(before))
        asked = ("reload", "--admin", admin)
        ran = await call(*asked, STYX_ADMIN_TOKEN="wrong")
        assert (ran.code, "The token is not the admin token." in ran.err) == (1, True)
        assert (await command_as_nobody(*asked))[0] == 1
        assert len(told(styx, "admin_command")) == 1

        def with_token() -> str:
            os.environ["STYX_ADMIN_TOKEN"] = "sesame"
            return CliRunner().invoke(cli.main, asked).stdout

        assert await as_nobody(with_token) == "nothing changed\n"
        assert (await call(*asked, "--token-file", token)).out == "nothing changed\n"
        assert [event["user"] for event in told(styx, "admin_command")] == [os.geteuid(), "token", "token"]


async def test_commands_over_a_path_that_is_given(call, tmp_path):
    async with edge() as styx:
        admin = f"unix:{socket_of(styx)}"
        assert (await call("reload", "--admin", admin)).out == "nothing changed\n"
        assert (await call("healthcheck", "--admin", admin)).out == "ready\n"
        assert (await call("drain", "server", "s", "--force", STYX_ADMIN=admin)).code == 0


async def test_it_outlives_the_admin_process(until):
    async with edge() as styx:
        path, admin = socket_of(styx), children(styx.pid)["admin"]
        inode = path.stat().st_ino
        os.kill(admin, signal.SIGKILL)
        assert over_unix(path) == 200, "who comes meanwhile waits for the next one"
        await until(lambda: children(styx.pid).get("admin", admin) != admin)
        assert over_unix(path) == 200
        assert path.stat().st_ino == inode
        assert not is_alive(admin)
    assert not path.exists()


async def test_another_edge_takes_it_over(until):
    async with edge(delay="10m") as first:
        path, inode = socket_of(first), socket_of(first).stat().st_ino
        first.send_signal(signal.SIGTERM)
        await until(lambda: told(first, "stopping") != [])
        async with StyxProcess(first.file.read_text()) as second:
            await until(first.ended.is_set)
            assert socket_of(second) == path
            assert path.stat().st_ino == inode
            assert over_unix(path) == 200


async def test_it_moves_by_reload(call, until, tmp_path):
    somebody_elses = socket.socket(socket.AF_UNIX)
    async with edge() as styx:
        before, admin = socket_of(styx), str(styx.settings.admin.address)
        text = styx.file.read_text()
        styx.file.write_text(text.replace(f'"{admin}"', f'"{admin}", socket: "{tmp_path}/none/a.sock"'))
        ran = await call("reload", "--admin", admin)
        fault = f"admin.socket: cannot listen on unix:{tmp_path}/none/a.sock: No such file or directory\n"
        assert (ran.code, ran.err) == (1, f"{styx.file}:3:45: {fault}")
        text = text.replace("workers: 2", "workers: 1")
        somebody_elses.bind(f"{tmp_path}/taken")
        somebody_elses.listen()
        styx.file.write_text(text.replace(f'"{admin}"', f'"{admin}", socket: "{tmp_path}/taken"'))
        ran = await call("reload", "--admin", admin)
        assert (ran.code, ran.err) == (1, f"cannot listen on unix:{tmp_path}/taken: Address already in use\n")
        assert over_unix(before) == 200
        somebody_elses.close()
        styx.file.write_text(text.replace(f'"{admin}"', f'"{admin}", socket: "{tmp_path}/a.sock"'))
        assert (await call("reload", "--admin", admin)).code == 0
        await until(lambda: socket_of(styx) == tmp_path / "a.sock")
        assert (await call("reload", "--admin", admin)).out == "nothing changed\n"
        assert not before.exists()


async def test_a_file_that_was_removed_is_made_again_by_a_reload(call, until):
    async with edge() as styx:
        path = socket_of(styx)
        path.unlink()  # as a cleaner of temporary files does
        ran = await call("reload", "--admin", styx.settings.admin.address)
        assert ran.err.startswith(f"styx: nobody answers at unix:{path}: ")
        assert ran.code == 1
        styx.file.write_text(styx.file.read_text().replace("workers: 2", "workers: 1"))
        styx.send_signal(signal.SIGHUP)
        await until(path.is_socket)
        await until(lambda: told(styx, "reloaded") != [])
        ran = await call("reload", "--admin", styx.settings.admin.address)
        assert (ran.out, ran.err) == ("nothing changed\n", "")


async def test_check_reports_a_missing_directory(call, tmp_path):
    config = tmp_path / "styx.yaml"
    config.write_text(text(more="").replace("admin: {", f"admin: {{socket: {tmp_path}/none/a, "))
    ran = await call("check", "-c", config)
    fault = f"admin.socket: cannot listen on unix:{tmp_path}/none/a: No such file or directory\n"
    assert (ran.code, ran.err) == (2, f"{config}:3:17: {fault}")


def test_there_is_nothing_to_inherit_where_no_edge_drains():
    assert inherit(Address("127.0.0.1", 1)) is None


async def test_a_route_to_the_admin_port_leads_nowhere(run, tmp_path):
    """A tenant that points a route there reaches only the probes, even with the token."""
    port, routes, token = free_port(), tmp_path / "routes.yaml", tmp_path / "token"
    routes.write_text(f'routes: [{{hostnames: [localhost], backends: [{{address: "127.0.0.1:{port}"}}]}}]\n')
    token.write_text("sesame")
    config = text(admin=port, workers=1, core_api=f"file:{routes}")
    config = config.replace("admin: {", f'admin: {{token_file: "{token}", ')
    async with StyxProcess(config) as styx:
        for headers in ("", "Authorization: Bearer sesame\r\n"):
            with socket.create_connection(("127.0.0.1", styx.port), timeout=DEADLINE) as sock:
                assert post(sock, *ACTS[2], headers=headers) in (403, 502, 503)
        assert not await drained(styx)


# what it costs


@needs_root
async def test_a_thousand_idle_connections_of_another_user(until):
    """They neither block other clients nor make the admin process grow."""
    async with edge() as styx:
        port = styx.settings.admin.address.port
        admin = children(styx.pid)["admin"]
        for path in ("/readyz", "/metrics", "/v1/overview"):
            assert (await styx.ask_admin(path))[0] == 200
        before = resident(admin)
        holding, let_go = os.pipe()
        ready, is_ready = os.pipe()

        def hold():
            os.close(let_go)
            socks = []
            for number in range(1000):
                sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
                if number % 2:
                    sock.sendall(b"POST /v1/drains HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 4000)
                socks.append(sock)
            os.write(is_ready, b"!")
            os.read(holding, 1)
            return len(socks)

        holder = asyncio.ensure_future(as_nobody(hold))
        try:
            await asyncio.to_thread(os.read, ready, 1)
            for path in ("/readyz", "/metrics", "/v1/overview", "/readyz"):
                async with asyncio.timeout(DEADLINE):
                    assert (await fresh(port, path)).startswith(b"HTTP/1.1 200 ")
            assert over_unix(socket_of(styx)) == 200
            assert resident(admin) - before < 20 << 20
        finally:
            os.close(let_go)
            assert await holder == 1000
            for descriptor in (holding, ready, is_ready):
                os.close(descriptor)
        await until(lambda: told(styx, "admin_connections_full") != [])


async def fresh(port, path) -> bytes:
    """The response on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def resident(pid) -> int:
    """Resident memory in bytes."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) << 10


# wrong addresses


@pytest.mark.parametrize("command", [*COMMANDS, ("routes",), ("explain", "a b/c"), ("healthcheck",)])
async def test_the_address_of_clients_is_no_admin_address(call, command):
    async with edge(workers=1) as styx:
        ran = await call(*command, "--admin", f"127.0.0.1:{styx.port}")
        assert ran.code == 1
        assert ran.err == (
            f"styx: 127.0.0.1:{styx.port} is where styx takes requests of clients, not its admin address\n"
        )


@pytest.mark.parametrize("command", [*COMMANDS, ("routes",), ("explain", "a")])
async def test_some_other_server(call, command):
    async def served(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n<p>Hi</p>")
        writer.close()

    async with await asyncio.start_server(served, "127.0.0.1", 0) as server:
        admin = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ran = await call(*command, "--admin", admin)
    assert (ran.code, ran.err) == (1, f"styx: {admin} does not answer as an admin server of styx does\n")


async def test_a_missing_token_file(call, tmp_path):
    ran = await call("reload", "--token-file", tmp_path / "none")
    assert (ran.code, ran.err) == (2, f"styx: --token-file: No such file or directory: {tmp_path}/none\n")
