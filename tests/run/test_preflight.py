"""`check`, `serve` and `reload` check what a configuration relies on before it is used."""

import os
import random
import select
import socket
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from edge.demo.free_ports import free_port
from edge.demo.styx_process import StyxProcess
from edge.rules.settings import Settings
from edge.rules.settings.values import Address
from edge.run.preflight import findings_of, preflight, tolerated
from edge.run.routes.initial_routes import first_routes
from edge.run.routes.route_directory import prepare_directory
from edge.run.sockets.listening_sockets import Held, Spare, open_sockets
from tests.support.processes.edges import edge
from tests.support.processes.process_verbs import is_alive
from tests.support.processes.unprivileged import NOBODY, as_nobody, needs_root
from tests.support.sample_revocations import revocation_list
from tests.support.tls_parts import ca, issue

PLAIN = {
    "listeners": ({"address": "127.0.0.1:0"},),
    "core_api": {"url": "http://127.0.0.1:9"},
    "admin": {"address": "127.0.0.1:0"},
    "access_log": {"path": ""},
}


def settings_with(sections: dict[str, Any]) -> Settings:
    return Settings.model_validate({**PLAIN, **sections})


def found(sections: dict[str, Any], environ: dict[str, str] | None = None, **more: Any) -> list[str]:
    return [f"{path}: {words}" for path, words in findings_of(settings_with(sections), (), environ or {}, **more)]


async def found_by_nobody(sections: dict[str, Any]) -> list[str]:
    """The same, asked by a process without rights."""
    return list(await as_nobody(lambda: found(sections)))


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that all users can reach, and only ours can write to. (Those of pytest are closed to others.)"""
    with tempfile.TemporaryDirectory(prefix="styx-preflight-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_nothing_is_found_where_nothing_is_wrong(tmp_path):
    (tmp_path / "token").write_text("sesame")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sections = {
            "listeners": ({"address": f"127.0.0.1:{port}"}, {"address": f"unix:{tmp_path}/styx.sock"}),
            "core_api": {"url": "http://127.0.0.1:9", "token_file": str(tmp_path / "token")},
            "access_log": {"path": str(tmp_path / "access.log")},
            "routes": {"directory": str(tmp_path / "several" / "levels")},
        }
        assert found(sections) == [], "an address in use may be ours"
    assert [path.name for path in tmp_path.iterdir()] == ["token"], "nothing was made"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{dir}/none/access.log", "No such file or directory"),
        ("{dir}", "Is a directory"),
        ("{dir}/file/access.log", "Not a directory"),
        ("{dir}/dangling", "No such file or directory"),
        ("{dir}/loop", "Too many levels of symbolic links"),
        ("{dir}/socket", "No such device or address"),
    ],
)
def test_an_access_log_that_cannot_be_written(tmp_path, path, words):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere/access.log")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        path = path.format(dir=tmp_path)
        assert found({"access_log": {"path": path}}) == [f"access_log.path: {words}: {path}"]


@pytest.mark.parametrize("path", ["", "-", "/dev/null", "{dir}/fifo", "{dir}/there", "{dir}/link", "syslog:/none"])
def test_an_access_log_that_can(tmp_path, path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "there").write_text("a line\n")
    (tmp_path / "link").symlink_to("not-yet")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert found({"access_log": {"path": path.format(dir=tmp_path)}}) == []
        poll = select.poll()
        poll.register(reader)
        assert poll.poll(0) == [], "a reader that saw it opened and closed again would take that for the end"
    finally:
        os.close(reader)
    assert (tmp_path / "there").read_text() == "a line\n"
    assert not (tmp_path / "not-yet").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.0.2.1:8080", "cannot listen on 192.0.2.1:8080: Cannot assign requested address"),
        ("no-such-host.invalid:8080", "cannot listen on no-such-host.invalid:8080: "),
        ("unix:{dir}/none/styx.sock", "cannot listen on unix:{dir}/none/styx.sock: No such file or directory"),
        ("unix:{dir}/file", "cannot listen on unix:{dir}/file: something else is there"),
        ("unix:{dir}/file/sock", "cannot listen on unix:{dir}/file/sock: Not a directory"),
    ],
)
@pytest.mark.parametrize("where", ["listeners", "admin"])
def test_an_address_that_cannot_be_listened_on(tmp_path, address, words, where):
    (tmp_path / "file").write_text("")
    address, words = address.format(dir=tmp_path), words.format(dir=tmp_path)
    if where == "admin":
        (tmp_path / "token").write_text("sesame")
        path, sections = "admin.address", {"admin": {"address": address, "token_file": str(tmp_path / "token")}}
    else:
        path, sections = "listeners.1.address", {"listeners": (*PLAIN["listeners"], {"address": address})}
    [fault] = found(sections)
    assert fault.startswith(f"{path}: {words}")


def test_a_unix_socket_that_is_there_may_be_ours(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "styx.sock"))
        assert found({"listeners": ({"address": f"unix:{tmp_path}/styx.sock"},)}) == []


def test_open_sockets_are_not_checked():
    """Such as those that systemd passes to a user who may not open them."""
    address = Address("192.0.2.1", 80)
    settings = settings_with({"listeners": ({"address": str(address)},)})
    assert len(list(findings_of(settings, (), {}))) == 1
    assert list(findings_of(settings, Spare([Held(address, [], by_slot=False)]), {})) == []


@pytest.mark.parametrize(
    ("directory", "words"),
    [("{dir}/file", "{dir}/file: Not a directory"), ("{dir}/file/routes", "{dir}/file: Not a directory")],
)
def test_a_directory_of_routes_that_cannot_be(tmp_path, directory, words):
    (tmp_path / "file").write_text("")
    directory, words = directory.format(dir=tmp_path), words.format(dir=tmp_path)
    assert found({"routes": {"directory": directory}}) == [f"routes.directory: {words}"]
    state = {"STATE_DIRECTORY": directory.removesuffix("/routes")}
    assert found({}, state) == [f"routes.directory: {tmp_path}/file: Not a directory"]


def test_files_that_are_missing_empty_or_bad(tmp_path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "routes").write_text("routes: [{hostnames: [a..b]}]\n")
    sections = {
        "core_api": {"url": f"file:{tmp_path}/routes", "token_file": "/none"},
        "admin": {"address": "127.0.0.1:0", "token_file": str(tmp_path / "empty")},
        "redis": {"password_file": str(tmp_path)},
        "user": "no-such-user",
    }
    assert found(sections) == [
        "user: there is no user 'no-such-user' on this machine",
        "core_api.token_file: No such file or directory: /none",
        f"admin.token_file: {tmp_path}/empty is empty",
        f"redis.password_file: Is a directory: {tmp_path}",
        f"core_api.url: {tmp_path}/routes:1:23: routes.0.hostnames.0: cannot be a hostname: labels of a-z 0-9 - "
        "joined by dots, not 'a..b'",
    ]


@needs_root
async def test_a_user_without_rights(public):
    (public / "theirs").mkdir()
    (public / "theirs").chmod(0o755)
    (public / "log").write_text("")
    (public / "log").chmod(0o644)
    sections = {
        "listeners": ({"address": "127.0.0.1:97"}, {"address": f"unix:{public}/styx.sock"}),
        "access_log": {"path": str(public / "log")},
        "routes": {"directory": str(public / "theirs" / "routes")},
    }
    first, *others = await found_by_nobody(sections)
    assert first == f"access_log.path: Permission denied: {public}/log"
    assert others == [
        f"routes.directory: {public}/theirs: Permission denied",
        "listeners.0.address: cannot listen on 127.0.0.1:97: Permission denied (low ports need root or "
        "CAP_NET_BIND_SERVICE: AmbientCapabilities= in systemd, or the sysctl net.ipv4.ip_unprivileged_port_start)",
        f"listeners.1.address: cannot listen on unix:{public}/styx.sock: Permission denied",
    ]
    [fault] = await found_by_nobody({"access_log": {"path": str(public / "new.log")}})
    assert fault == f"access_log.path: Permission denied: {public}/new.log"


@needs_root
def test_files_are_checked_as_the_user_that_workers_become(public):
    for name in ("token", "log"):
        (public / name).write_text("sesame")
        (public / name).chmod(0o600)
    sections = {
        "core_api": {"url": "http://127.0.0.1:9", "token_file": str(public / "token")},
        "access_log": {"path": str(public / "log")},
    }
    assert found(sections) == []
    assert found({**sections, "user": "nobody"}) == [
        f"core_api.token_file: Permission denied: {public}/token",
        f"access_log.path: Permission denied: {public}/log",
    ]
    assert (os.geteuid(), os.getegid()) == (0, 0)


@needs_root
@pytest.mark.parametrize(
    ("owner", "content", "usable"),
    [
        (None, None, True),
        (0, None, True),
        (0, "routes", True),
        (0, "something", False),
        (NOBODY, "something", True),
        (12_345, None, False),
    ],
)
def test_a_directory_of_routes_is_good_if_a_start_could_use_it(public, owner, content, usable):
    """`owner`: None = the directory is missing."""
    directory = public / "routes"
    if owner is not None:
        directory.mkdir()
        directory.chmod(0o755)
        os.chown(directory, owner, owner)
    if content is not None:
        (directory / content).write_text("")
    sections = {"routes": {"directory": str(directory)}, "user": "nobody"}
    assert (found(sections) == []) == usable
    with nullcontext() if usable else pytest.raises(OSError, match="routes"):
        prepare_directory(settings_with(sections), {})


@needs_root
def test_a_unix_socket_in_a_directory_of_the_user_is_opened_with_its_rights(public):
    (public / "own").mkdir()
    os.chown(public / "own", 12_345, 12_345)
    for directory, usable in (("own", False), (".", True)):
        path = str(public / directory / "styx.sock")
        sections = {"listeners": ({"address": f"unix:{path}"},), "user": "nobody"}
        fault = f"listeners.0.address: cannot listen on unix:{path}: Permission denied"
        assert found(sections) == ([] if usable else [fault])
        with nullcontext() if usable else pytest.raises(OSError, match="Permission denied"):
            open_sockets(settings_with(sections), 1, Spare([]), admin_directories=()).close_all_but()


@needs_root
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_low_port_on_which_styx_listens_already_asks_for_no_rights(host):
    """So an operator without rights can check the file of a running edge."""
    port = free_port(draw=lambda *_: random.randrange(600, 1000))  # which no other test gets meanwhile
    low = {"listeners": ({"address": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"},)}
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
        assert await found_by_nobody(low) == []
    [fault] = await found_by_nobody(low)
    assert "Permission denied" in fault


def test_findings_have_positions_and_are_in_the_order_of_the_file():
    text = """\
admin: {address: "127.0.0.1:0"}
access_log:
  path: ${LOG:-/nowhere/access.log}
listeners:
  - address: 127.0.0.1:0
  - {address: "192.0.2.1:80"}
core_api: {url: "http://127.0.0.1:9", token_file: /nowhere/token}
user: no-such-user
"""
    settings = Settings.model_validate(
        {
            **PLAIN,
            "access_log": {"path": "/nowhere/access.log"},
            "listeners": (*PLAIN["listeners"], {"address": "192.0.2.1:80"}),
            "core_api": {"url": "http://127.0.0.1:9", "token_file": "/nowhere/token"},
            "user": "no-such-user",
        }
    )
    faults = preflight("styx.yaml", text, settings)
    assert [fault.partition(": ")[0] for fault in faults] == [
        "styx.yaml:3:9",
        "styx.yaml:6:15",
        "styx.yaml:7:51",
        "styx.yaml:8:7",
    ]
    assert [fault.split(": ")[1] for fault in faults] == [
        "access_log.path",
        "listeners.1.address",
        "core_api.token_file",
        "user",
    ]


async def test_check_and_serve_say_the_same_and_exit_alike(call, run, tmp_path):
    path = tmp_path / "styx.yaml"
    for more, fault in (
        ('access_log: {path: "/nowhere/access.log"}', ":4:20: access_log.path: "),
        ("timeouts: {first_byte: 3m}", ":4:24: timeouts.first_byte: must not be longer than deadline"),
        ("routes: {capacity: 10, ready: 20}", ":4:31: routes.ready: must not be more than capacity"),
        ('access_log: {path: ""}\nuser: no-such-user', ":5:7: user: there is no user"),
    ):
        path.write_text(
            f'listeners: [{{address: "127.0.0.1:{free_port()}"}}]\ncore_api: {{url: "http://127.0.0.1:9"}}\n'
            f'admin: {{address: "127.0.0.1:{free_port()}"}}\n{more}\n'
        )
        checked, served = await call("check", "-c", path), await run("serve", "-c", path)
        assert (checked.code, checked.out) == (2, "")
        assert checked.err.startswith(f"{path}{fault}")
        assert served == checked


async def test_a_former_name_still_works_and_is_reported(call, tmp_path):
    path = tmp_path / "styx.yaml"
    path.write_text(
        f'listeners: [{{address: "127.0.0.1:{free_port()}"}}]\ncore_api: {{url: "http://127.0.0.1:9"}}\n'
        f'admin: {{address: "127.0.0.1:{free_port()}"}}\ndemerits: {{copies: false}}\n'
    )
    checked = await call("check", "-c", path)
    warning = f"{path}:4:12: demerits.copies is called demerits.shadow_probes now"
    assert (checked.code, checked.err) == (0, f"warning: {warning}\n")
    async with StyxProcess(path.read_text()) as styx:
        [event] = [line for line in styx.log.read_text().splitlines() if "setting_renamed" in line]
        assert "demerits.copies is called demerits.shadow_probes now" in event


async def test_check_beside_an_edge_that_serves_by_the_same_file(call):
    async with edge() as styx:
        ran = await call("check", "-c", styx.file)
        assert (ran.code, ran.err) == (0, "")
        assert is_alive(styx.pid)


@pytest.mark.parametrize("section", ["backends", "core_api"])
def test_certificates_of_styx_that_cannot_be_used(tmp_path, section):
    (tmp_path / "ca").write_text("no certificate")
    chosen = {**PLAIN.get(section, {}), "tls": {"ca": str(tmp_path / "ca")}}
    [fault] = found({section: chosen})
    assert fault.startswith(f"{section}.tls: ")


def test_authorities_of_clients_that_cannot_be_used(tmp_path):
    good, leaf = tmp_path / "good.pem", tmp_path / "leaf.pem"
    good.write_bytes(ca().cert_pem.bytes())
    leaf.write_bytes(issue("shop.test").chain)
    files = (good, leaf, tmp_path / "x")
    asked = [{"address": "127.0.0.1:0", "tls": True, "client_ca": str(path)} for path in files]
    tls = {"certificates": f"file:{tmp_path}"}
    assert found({"listeners": tuple(asked), "tls": tls}) == [
        f"listeners.1.client_ca: certificate 1 is not that of an authority (basicConstraints): {leaf}",
        f"listeners.2.client_ca: No such file or directory: {tmp_path}/x",
    ]
    text = f"""core_api: {{url: "http://127.0.0.1:9"}}
listeners:
  - address: "127.0.0.1:0"
    tls: true
    client_ca: {leaf}
"""
    settings = settings_with({"listeners": (asked[1],), "tls": tls})
    [fault] = preflight("styx.yaml", text, settings)
    assert fault.startswith("styx.yaml:5:16: listeners.0.client_ca: certificate 1 is not")


def test_revocation_lists_that_cannot_be_used(tmp_path):
    staff, other = (trustme.CA(key_type=trustme.KeyType.ECDSA) for _ in range(2))
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(staff.cert_pem.bytes() + other.cert_pem.bytes())
    crl = tmp_path / "crl.pem"
    listener = {"address": "127.0.0.1:0", "tls": True, "client_ca": str(authorities), "client_crl": str(crl)}
    settings = settings_with({"listeners": (listener,), "tls": {"certificates": f"file:{tmp_path}"}})
    text = "listeners:\n  - tls: true\n    client_crl: x\n"

    crl.write_bytes(b"no list")
    [fault] = preflight("styx.yaml", text, settings)
    assert fault == (
        f"styx.yaml:3:17: listeners.0.client_crl: no complete revocation lists in PEM (X509 CRL): {crl}"
    )
    crl.write_bytes(revocation_list(staff, ends=timedelta(hours=-1)))
    assert preflight("styx.yaml", text, settings) == [], "styx starts with it"
    told = [finding.words for finding in tolerated(settings, None) if finding.path == "listeners.0.client_crl"]
    assert [words.partition(" ")[0] for words in told] == ["the", "there"]
    assert "has ended, or has not begun: its clients are not let in" in told[0]
    assert "what it issues itself is not let in" in told[1]
    crl.write_bytes(revocation_list(staff) + revocation_list(other))
    assert not [finding for finding in tolerated(settings, None) if "client_crl" in finding.path]


def test_a_file_of_routes_that_needs_tls_to_backends(tmp_path):
    routes = tmp_path / "routes.yaml"
    routes.write_text(
        "routes:\n"
        "  - {hostnames: [a.test], backends: [{address: '10.0.0.1:80'}]}\n"
        "  - {hostnames: [b.test, c.test], backends: [{id: b7c1, address: '10.0.0.2:443', tls: true}]}\n"
    )
    source = {"core_api": {"url": f"file:{routes}"}}
    assert found(source) == []
    settings = settings_with(source)
    read, _ = first_routes(settings)
    assert list(tolerated(settings, read)) == [
        (
            "backends.tls",
            "neither ca nor certificate is set: backend b7c1 of b.test gets no requests, as all with tls in "
            f"{routes}",
        )
    ]
    (tmp_path / "ca.pem").write_bytes(ca().cert_pem.bytes())
    with_ca = settings_with({**source, "backends": {"tls": {"ca": str(tmp_path / "ca.pem")}}})
    assert list(tolerated(with_ca, read)) == []


def test_a_file_of_ticket_secrets_that_others_may_read(tmp_path):
    file = tmp_path / "tickets"
    file.write_text("0123456789abcdef" * 4)
    file.chmod(0o644)
    sections = {"tls": {"tickets": {"file": str(file)}}}
    assert found(sections) == [
        f"tls.tickets.file: others may access it (mode 0644), chmod 600 it: {file}",
    ]
    file.chmod(0o600)
    assert found(sections) == []


def acme(directory: Path, **more: Any) -> dict[str, Any]:
    """Settings with which certificates are ordered into this directory."""
    ordered = {"directory_url": "https://ca.test/dir", "accept_terms": True, **more}
    return {
        "listeners": ({"address": "127.0.0.1:0"}, {"address": "127.0.0.1:0", "tls": True}),
        "tls": {"certificates": f"file:{directory}", "acme": ordered},
    }


def test_what_ordering_certificates_relies_on(tmp_path, monkeypatch):
    key, junk = tmp_path / "key", tmp_path / "junk"
    key.write_text("b10lLJs8\n")
    junk.write_text("no key")
    assert found(acme(tmp_path, eab_key_id="1", eab_key_file=str(key))) == []
    assert found(acme(tmp_path, eab_key_id="1", eab_key_file=str(junk))) == [
        f"tls.acme.eab_key_file: {junk} is no key in base64url"
    ]
    [missing] = found(acme(tmp_path, ca_file=str(tmp_path / "nothing")))
    assert missing.startswith("tls.acme.ca_file: No such file")
    [nowhere] = found(acme(tmp_path / "nowhere"))
    assert nowhere.startswith("tls.certificates: certificates cannot be written there: No such file")
    monkeypatch.setattr("edge.run.preflight.find_spec", lambda name: None)
    assert found(acme(tmp_path)) == ["tls.acme.directory_url: acme is not installed: pip install 'styx-edge[acme]'"]


@needs_root
async def test_a_directory_of_certificates_that_the_user_may_not_write_to(public):
    [line] = await found_by_nobody(acme(public))
    assert line.startswith("tls.certificates: certificates cannot be written there: Permission denied")
