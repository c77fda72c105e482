"""Setups with which something is wrong, for `styx check` and `styx serve` alike.

In all texts `{dir}` is the directory of a setup, `{port}` and `{admin}` are free ports, and `{taken}` is one on
which another program listens.
"""

import json
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.processes.unprivileged import NOBODY
from tests.support.tls_parts import issue

Prepare = Callable[[Path, ExitStack], object]
HERE = "127.0.0.1:{port}"


class Setup(NamedTuple):
    """A setup, and what both commands say about it."""

    name: str
    code: int
    "Exit status of both; 0 = `serve` serves."
    words: str
    "Part of what both print for a fault, or `check` as a warning; empty = nothing is said."
    sections: dict[str, Any] | str = {}  # noqa: RUF012 - never changed
    "Sections of the configuration that are not the usual ones; or its text."
    prepare: tuple[Prepare, ...] = ()
    event: str = ""
    "Code of the event with which `serve` logs what it tolerates."
    environ: dict[str, str] = {}  # noqa: RUF012 - never changed
    needs_root: bool = False

    def text(self, names: dict[str, object]) -> str:
        """Its configuration."""
        usual = {
            "listeners": [{"address": HERE}],
            "core_api": {"url": "http://127.0.0.1:9"},
            "admin": {"address": "127.0.0.1:{admin}"},
            "access_log": {"path": ""},
            "drain": {"delay": "0s"},
            "limits": {"connections": 100},
            "workers": 1,
        }
        text = self.sections if isinstance(self.sections, str) else json.dumps({**usual, **self.sections})
        return filled(text, names)


def filled(text: str, names: dict[str, object]) -> str:
    """The text with these names replaced."""
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def file(name: str, content: str | bytes | Callable[[], bytes] = "", mode: int = 0o600) -> Prepare:
    """Make a file with this content."""

    def prepare(directory: Path, held: ExitStack) -> None:
        data = content() if callable(content) else content
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        path.chmod(mode)

    return prepare


def folder(name: str, *, mode: int = 0o755, owner: int = -1) -> Prepare:
    """Make a directory."""

    def prepare(directory: Path, held: ExitStack) -> None:
        (directory / name).mkdir()
        (directory / name).chmod(mode)
        os.chown(directory / name, owner, owner)

    return prepare


def unix_server(name: str) -> Prepare:
    """Let another program listen on a Unix socket."""

    def prepare(directory: Path, held: ExitStack) -> None:
        sock = held.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind(str(directory / name))
        sock.listen(1)

    return prepare


def stale_socket(name: str, owner: int) -> Prepare:
    """Leave the file of a Unix socket whose process, of another user, is gone."""

    def prepare(directory: Path, held: ExitStack) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(directory / name))
        os.chown(directory / name, owner, owner)

    return prepare


def listeners(*addresses: str, **more: object) -> dict[str, Any]:
    return {"listeners": [{"address": address, **more} for address in addresses]}


def routes_from(where: str) -> dict[str, Any]:
    return {"core_api": {"url": f"file:{where}"}}


def core_api(**more: object) -> dict[str, Any]:
    return {"core_api": {"url": "http://127.0.0.1:9", **more}}


def admin(**more: object) -> dict[str, Any]:
    return {"admin": {"address": "127.0.0.1:{admin}", **more}}


def certificates(directory: str = "{dir}/certificates", **more: object) -> dict[str, Any]:
    return {**listeners(HERE, tls=True), "tls": {"certificates": f"file:{directory}", **more}}


def acme(**more: object) -> dict[str, Any]:
    ordered = {"directory_url": "https://127.0.0.1:9/dir", "accept_terms": True, **more}
    both = [{"address": HERE}, {"address": "127.0.0.1:0", "tls": True}]
    return {**certificates(acme=ordered), "listeners": both}


def site(backend: str) -> str:
    return f"routes: [{{hostnames: [a.test], backends: [{backend}]}}]\n"


def leaf() -> bytes:
    return issue("a.test").chain


def key() -> bytes:
    return issue("b.test").key


CERTIFICATES = folder("certificates")
NO_FILE = "No such file or directory"
IN_USE = "Address already in use"

SETUPS = (
    Setup("nothing", 0, ""),
    # the file
    Setup("syntax", 2, "styx.yaml:1:13: ", "listeners: [}"),
    Setup("empty", 2, "core_api", ""),
    Setup("unknown_name", 2, "colour", {"colour": "red"}),
    Setup("wrong_type", 2, "workers: ", {"workers": "many"}),
    Setup("contradiction", 2, "timeouts.first_byte: must not be longer", {"timeouts": {"first_byte": "3m"}}),
    Setup("unset_variable", 2, "NOWHERE_SET", {"access_log": {"path": "${NOWHERE_SET}/log"}}),
    # files
    Setup("log_nowhere", 2, NO_FILE, {"access_log": {"path": "{dir}/none/log"}}),
    Setup("log_is_folder", 2, "Is a directory", {"access_log": {"path": "{dir}"}}),
    Setup("syslog_nowhere", 0, "", {"access_log": {"path": "syslog:{dir}/none"}}),
    Setup("no_core_api_token", 2, NO_FILE, core_api(token_file="{dir}/none")),
    Setup("empty_admin_token", 2, "is empty", admin(token_file="{dir}/empty"), (file("empty"),)),
    Setup("no_redis_password", 2, NO_FILE, {"redis": {"password_file": "{dir}/none"}}),
    Setup("no_traces_token", 2, NO_FILE, {"traces": {"token_file": "{dir}/none"}}),
    Setup("core_api_ca", 2, "core_api.tls", core_api(tls={"ca": "{dir}/ca"}), (file("ca", "junk"),)),
    Setup("backends_ca", 2, "backends.tls", {"backends": {"tls": {"ca": "{dir}/ca"}}}, (file("ca", "junk"),)),
    Setup(
        "key_of_another",
        2,
        "backends.tls",
        {"backends": {"tls": {"certificate": "{dir}/a.pem", "key": "{dir}/b.key"}}},
        (file("a.pem", leaf), file("b.key", key)),
    ),
    # users
    Setup("no_user", 2, "there is no user", {"user": "no-such-user"}),
    Setup(
        "unreadable_for_user",
        2,
        "Permission denied",
        {**core_api(token_file="{dir}/token"), "user": "nobody"},
        (file("token", "sesame"),),
        needs_root=True,
    ),
    # directories
    Setup("routes_in_a_file", 2, "Not a directory", {"routes": {"directory": "{dir}/file/x"}}, (file("file"),)),
    Setup(
        "routes_not_readable",
        2,
        "Permission denied",
        {"routes": {"directory": "{dir}/routes"}, "user": "nobody"},
        (folder("routes", mode=0o300, owner=NOBODY),),
        needs_root=True,
    ),
    Setup(
        "state_directory", 2, "Not a directory", prepare=(file("file"),), environ={"STATE_DIRECTORY": "{dir}/file"}
    ),
    # addresses
    Setup("foreign_address", 2, "Cannot assign requested address", listeners("192.0.2.1:80")),
    Setup("no_such_host", 2, "no-such-host.invalid", listeners("no-such-host.invalid:8080")),
    Setup("unix_nowhere", 2, NO_FILE, listeners("unix:{dir}/none/sock")),
    Setup("unix_is_file", 2, "something else is there", listeners("unix:{dir}/file"), (file("file"),)),
    Setup("unix_too_long", 2, "107 bytes", listeners("unix:/" + "x" * 110)),
    Setup("admin_socket_nowhere", 2, NO_FILE, admin(socket="{dir}/none/sock")),
    Setup("same_address", 2, "is already the address of", listeners(HERE, HERE)),
    Setup("address_of_admin", 2, "is already the address of", listeners("127.0.0.1:{admin}")),
    Setup("every_interface_and_one", 0, "", listeners(":{port}", HERE)),
    Setup("port_in_use", 1, IN_USE, listeners("127.0.0.1:{taken}")),
    Setup("port_in_use_by_one", 1, IN_USE, listeners(":{taken}")),
    Setup("admin_in_use", 1, IN_USE, {"admin": {"address": "127.0.0.1:{taken}"}}),
    Setup("unix_in_use", 1, IN_USE, listeners("unix:{dir}/sock"), (unix_server("sock"),)),
    Setup("admin_socket_in_use", 1, IN_USE, admin(socket="{dir}/sock"), (unix_server("sock"),)),
    Setup(
        "unix_of_another",
        1,
        IN_USE,
        listeners("unix:{dir}/sock"),
        (stale_socket("sock", NOBODY),),
        needs_root=True,
    ),
    # routes
    Setup("no_routes", 2, NO_FILE, routes_from("{dir}/none")),
    Setup("routes_are_folder", 2, "{dir}", routes_from("{dir}")),
    Setup("bad_routes", 2, "a..b", routes_from("{dir}/r"), (file("r", "routes: [{hostnames: [a..b]}]\n"),)),
    Setup("no_hostnames", 2, "{dir}/r", routes_from("{dir}/r"), (file("r", "routes: []\n"),)),
    Setup(
        "backends_need_tls",
        0,
        "backends.tls: neither ca nor certificate is set",
        routes_from("{dir}/r"),
        (file("r", site("{address: '10.0.0.2:443', tls: true}")),),
    ),
    # TLS
    Setup(
        "no_client_ca",
        2,
        NO_FILE,
        {**certificates(), **listeners(HERE, tls=True, client_ca="{dir}/none")},
        (CERTIFICATES,),
    ),
    Setup(
        "client_ca_is_leaf",
        2,
        "not that of an authority",
        {**certificates(), **listeners(HERE, tls=True, client_ca="{dir}/leaf")},
        (CERTIFICATES, file("leaf", leaf)),
    ),
    Setup(
        "tickets_for_all",
        2,
        "others may access it",
        certificates(tickets={"file": "{dir}/tickets"}),
        (CERTIFICATES, file("tickets", "0123456789abcdef" * 4, 0o644)),
    ),
    Setup("no_certificates", 2, NO_FILE, certificates()),
    Setup("certificates_are_file", 2, "Not a directory", certificates(), (file("certificates"),)),
    Setup(
        "bad_certificate",
        0,
        "{dir}/certificates/a.pem",
        certificates(),
        (file("certificates/a.pem", "junk"),),
        "certificate_rejected",
    ),
    Setup(
        "acme_key",
        2,
        "no key in base64url",
        acme(eab_key_id="1", eab_key_file="{dir}/key"),
        (CERTIFICATES, file("key", "no key")),
    ),
    Setup("acme_ca", 2, NO_FILE, acme(ca_file="{dir}/none"), (CERTIFICATES,)),
    Setup("acme_nowhere", 2, NO_FILE, acme()),
    Setup("acme_unreachable", 0, "", acme(), (CERTIFICATES,)),
    # error pages
    Setup("no_pages", 0, NO_FILE, {"pages": {"directory": "{dir}/none"}}, (), "pages_directory_unreadable"),
    Setup(
        "bad_page",
        0,
        "unknown name $hostnam",
        {"pages": {"directory": "{dir}/pages"}},
        (file("pages/error.html", "<p>$hostnam"),),
        "pages_not_used",
    ),
    # other services
    Setup("redis_unreachable", 0, "", {"redis": {"url": "redis://127.0.0.1:9"}}),
    Setup("redis_of_no_kind", 2, "redis.url", {"redis": {"url": "ftp://127.0.0.1"}}),
    Setup("collector_unreachable", 0, "", {"traces": {"endpoint": "http://127.0.0.1:9"}}),
    # limits and names
    Setup("former_name", 0, "demerits.copies", {"demerits": {"copies": False}}, (), "setting_renamed"),
)
