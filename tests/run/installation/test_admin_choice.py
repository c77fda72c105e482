"""Where a command asks when nobody names an admin address: the configuration says, whatever else is wrong in it."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.rules.settings.operations import AdminSettings
from edge.rules.settings.values import Address, address
from edge.run.admin_client import AdminEndpoint, AdminFailed, ask
from edge.run.cli import main
from edge.run.installation.admin_choice import DEFAULT, admin_choice

FOUND = {
    'admin: {address: "127.0.0.1:9911"}': "127.0.0.1:9911",
    'admin: {address: "unix:/run/styx/admin.sock"}': "unix:/run/styx/admin.sock",
    'admin: {address: "[::1]:9911"}': "[::1]:9911",
    'admin: {address: "${ADMIN:-127.0.0.1:9912}"}': "127.0.0.1:9912",
    'admin: {address: "0.0.0.0:9911"}': "0.0.0.0:9911",  # without a token_file: a fault, but not of the address
    'listeners: nonsense\nadmin: {address: "127.0.0.1:9911"}': "127.0.0.1:9911",
    'core_api: {url: "${UNKNOWN}"}\nadmin: {address: "127.0.0.1:9911"}': "127.0.0.1:9911",
}
NOT_FOUND = {
    "workers: 1": "sets no admin.address",
    "": "sets no admin.address",
    "admin: 5": "sets no admin.address",
    "admin: {address: 9911}": ":1:18: admin.address: must be host:port",
    'admin: {address: "127.0.0.1:0"}': "is any free port; --admin names it",
    'admin: {address: "${UNKNOWN}"}': "the environment variable UNKNOWN is not set",
    "\t:": "not valid YAML: a tab cannot indent",
    "- 1": "must be a mapping of sections",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "styx.yaml"


@pytest.mark.parametrize("text", FOUND)
def test_the_address_of_the_configuration(text: str, file: Path) -> None:
    file.write_text(text)
    chosen = admin_choice({"STYX_CONFIG": str(file)})
    assert (chosen.address, str(chosen)) == (FOUND[text], f"{FOUND[text]} (admin.address of {file})")


@pytest.mark.parametrize("text", NOT_FOUND)
def test_without_one_the_default_is_asked_and_the_reason_told(text: str, file: Path) -> None:
    file.write_text(text)
    chosen = admin_choice({"STYX_CONFIG": str(file)})
    assert chosen.address == DEFAULT
    assert str(file) in chosen.origin
    assert NOT_FOUND[text] in chosen.origin


def test_a_configuration_that_cannot_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = admin_choice({"STYX_CONFIG": str(file)})
    assert str(chosen) == f"{DEFAULT} (the default: cannot read {file}: No such file or directory)"
    file.write_bytes(b"\xff")
    assert "it is not UTF-8" in str(admin_choice({"STYX_CONFIG": str(file)}))
    monkeypatch.setattr("edge.run.installation.configuration_path.DEFAULTS", (f"{file}.not-there",))
    assert (
        str(admin_choice({}))
        == f"{DEFAULT} (the default: no configuration: neither /etc/styx/styx.yaml nor ./styx.yaml exists)"
    )


def test_the_default_is_that_of_the_setting() -> None:
    assert AdminSettings().address == address(DEFAULT)


def test_a_wrong_address_says_where_it_comes_from() -> None:
    ran = CliRunner(env={"STYX_ADMIN": "somewhere"}).invoke(main, ["explain", "a.test"])
    assert ran.exit_code == 2
    assert ran.stderr.startswith("styx: somewhere (STYX_ADMIN): must be host:port")
    assert ran.stderr.count("\n") == 1


def test_a_server_that_accepts_and_is_silent() -> None:
    """As a stopped process is: its kernel accepts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = Address("127.0.0.1", server.getsockname()[1])
        with pytest.raises(AdminFailed, match=r"not answered within 0\.1 s: its process is stopped, stuck"):
            ask(AdminEndpoint(str(where), where, timeout=0.1), "/readyz")
