"""`styx init`: what it writes is good for styx and for systemd, and it overwrites nothing."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.rules.settings.file import parse
from edge.rules.settings.values import Address
from edge.run.cli import main
from edge.run.installation.installed_files import InitPlan, is_hidden, planned_files, stream_of

EXPOSURE = 20
"Tenths of the score of `systemd-analyze security`, from 0 (best) to 100."


def init(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", "--root", str(root), *arguments])


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def systemd_tools() -> None:
    if shutil.which("systemd-analyze") is None or shutil.which("systemd-sysusers") is None:
        pytest.skip("needs the Debian package systemd")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    ran = init(tmp_path, "--directory", "/etc/styx", "--systemd", "--listen", "0.0.0.0:80")
    assert ran.exit_code == 0, ran.output
    return tmp_path


def test_a_configuration_of_its_own_for_whom_is_not_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["init", "--directory", ".", "--no-systemd", "--listen", "127.0.0.1:8080"]
    ran = CliRunner().invoke(main, [*arguments, "--core-api", "http://10.0.0.1:9"])
    assert ran.exit_code == 0, ran.output
    assert files_below(tmp_path) == ["styx.reference.yaml", "styx.schema.json", "styx.yaml"]
    text = Path("styx.yaml").read_text()
    settings = parse(text, name="styx.yaml", environ={})
    assert [str(listener.address) for listener in settings.listeners] == ["127.0.0.1:8080"]
    assert settings.core_api.url == "http://10.0.0.1:9"
    assert text.startswith("# yaml-language-server: $schema=styx.schema.json\n")
    assert json.loads(Path("styx.schema.json").read_text())["title"] == "Configuration of styx"
    assert "styx serve -c ./styx.yaml" in ran.output


def test_what_is_commented_out_is_good_as_well(tmp_path: Path) -> None:
    """Each setting that the file shows can be used as it stands."""
    [config, *_] = planned_files(InitPlan("styx", "/etc/styx", Address("0.0.0.0", 80), "http://127.0.0.1:1", False))
    used = re.sub(r"^( *)#(?=\S)|^#(?=  \S)", r"\1", config.text, flags=re.MULTILINE)
    used = used.replace("  #  tls", "    tls")
    parsed = parse(used, name="styx.yaml", environ={})
    assert parsed.listeners[1].tls
    assert parsed.tls.directory == "/etc/styx/certificates"
    assert parsed.forwarding.trusted


def test_nothing_is_overwritten(installed: Path) -> None:
    before = {name: (installed / name).read_text() for name in files_below(installed)}
    (installed / "etc/systemd/system/styx.socket").write_text("mine")
    (installed / "etc/styx/styx.yaml").unlink()
    ran = init(installed, "--directory", "/etc/styx", "--systemd")
    assert ran.exit_code == 1
    assert "nothing written" in ran.stderr
    assert "/etc/systemd/system/styx.socket" in ran.stderr
    assert (installed / "etc/systemd/system/styx.socket").read_text() == "mine"
    assert sorted(before) == sorted([*files_below(installed), "etc/styx/styx.yaml"])


def test_the_user_of_the_service_may_read_its_files_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert init(tmp_path, "--directory", "/etc/styx", "--systemd").exit_code == 0
    finally:
        os.umask(before)
    for name in files_below(tmp_path):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644, name
        assert (tmp_path / name).parent.stat().st_mode & 0o777 == 0o755, name


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "etc" / "styx").mkdir(parents=True)
    (tmp_path / "etc" / "styx" / "styx.yaml").symlink_to(tmp_path / "elsewhere")
    assert init(tmp_path, "--directory", "/etc/styx", "--no-systemd").exit_code == 1
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "arguments", [("--listen", "8080"), ("--core-api", "ftp://x"), ("--core-api", 'http://x"\nuser: root #')]
)
def test_wrong_usage_writes_nothing(tmp_path: Path, arguments: tuple[str, str]) -> None:
    ran = init(tmp_path, "--directory", "/etc/styx", *arguments)
    assert ran.exit_code == 2, ran.output
    assert files_below(tmp_path) == []


def test_the_unit_cannot_see_home_directories() -> None:
    assert is_hidden("/root/.local/bin/styx")
    assert is_hidden("/home/me/venv/bin/styx")
    assert not is_hidden("/opt/styx/bin/styx")


def test_addresses_of_the_socket() -> None:
    assert stream_of(Address("0.0.0.0", 80)) == "0.0.0.0:80"
    assert stream_of(Address("", 80)) == "[::]:80"
    assert stream_of(Address("::1", 80)) == "[::1]:80"
    assert stream_of(Address(path="/run/styx.sock")) == "/run/styx.sock"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    styx = tmp_path / "styx"
    styx.write_text("#!/bin/sh\n")
    styx.chmod(0o755)
    for file in planned_files(InitPlan(str(styx), "/etc/styx", Address("0.0.0.0", 80), "http://127.0.0.1:1", True))[
        3:5
    ]:
        (tmp_path / Path(file.path).name).write_text(file.text)
    return tmp_path


@pytest.mark.usefixtures("systemd_tools")
def test_the_units_are_well_formed(units: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", str(units / "styx.service"), str(units / "styx.socket")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert str(units) not in ran.stderr, ran.stderr


@pytest.mark.usefixtures("systemd_tools")
def test_the_unit_is_hardened(units: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}"]
    ran = subprocess.run([*command, str(units / "styx.service")], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-300:]


@pytest.mark.usefixtures("systemd_tools")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may create users")
def test_systemd_creates_the_user_and_its_directories(installed: Path) -> None:
    subprocess.run(["systemd-sysusers", f"--root={installed}"], check=True, capture_output=True)
    [passwd] = [line.split(":") for line in (installed / "etc/passwd").read_text().splitlines() if "styx" in line]
    assert (passwd[0], passwd[5], passwd[6]) == ("styx", "/var/lib/styx", "/usr/sbin/nologin")
    subprocess.run(
        ["systemd-tmpfiles", f"--root={installed}", "--create", "styx.conf"], check=True, capture_output=True
    )
    state, secrets = (installed / "var/lib/styx").stat(), (installed / "etc/styx").stat()
    assert (state.st_uid, state.st_mode & 0o777) == (int(passwd[2]), 0o750)
    assert (secrets.st_uid, secrets.st_gid, secrets.st_mode & 0o777) == (0, int(passwd[3]), 0o750)
