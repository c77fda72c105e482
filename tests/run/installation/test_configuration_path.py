"""Which configuration is used when the command line names none."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.run.cli import main
from edge.run.installation.configuration_path import NoConfiguration, configuration_path


def test_the_order_of_the_defaults() -> None:
    there = {"/etc/styx/styx.yaml", "styx.yaml"}
    assert configuration_path(None, there.__contains__) == "/etc/styx/styx.yaml"
    assert configuration_path(None, {"styx.yaml"}.__contains__) == "styx.yaml"
    assert configuration_path("other.yaml", there.__contains__) == "other.yaml"
    with pytest.raises(NoConfiguration, match="styx init"):
        configuration_path(None, set().__contains__)


def test_a_directory_that_is_closed_for_this_user_is_not_called_missing() -> None:
    """systemd-tmpfiles closes /etc/styx for all but root and the service."""
    with pytest.raises(NoConfiguration, match="may not look into /etc/styx; be root"):
        configuration_path(None, {"/etc/styx"}.__contains__, lambda _: False)
    with pytest.raises(NoConfiguration, match="styx init"):
        configuration_path(None, {"/etc/styx"}.__contains__, lambda _: True)
    assert configuration_path(None, {"/etc/styx", "styx.yaml"}.__contains__, lambda _: False) == "styx.yaml"


def test_the_command_uses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edge.run.installation.configuration_path.DEFAULTS", ("styx.yaml",))
    monkeypatch.delenv("STYX_CONFIG", raising=False)
    ran = CliRunner().invoke(main, ["check"])
    assert ran.exit_code == 2
    assert "`styx init` writes one" in ran.stderr
    Path("styx.yaml").write_text("nothing: 1\n")
    ran = CliRunner().invoke(main, ["check"])
    assert ran.exit_code == 2
    assert "styx.yaml:1:1: nothing: unknown setting" in ran.stderr
    ran = CliRunner().invoke(main, ["check"], env={"STYX_CONFIG": "other.yaml"})
    assert "cannot read other.yaml" in ran.stderr


@pytest.mark.parametrize("command", ["serve", "check", "healthcheck", "explain", "check-core-api"])
def test_help_names_the_variables(command: str) -> None:
    text = CliRunner().invoke(main, [command, "--help"]).output
    names = {"serve": "STYX_CONFIG", "check": "STYX_CONFIG", "check-core-api": "STYX_CORE_API_TOKEN_FILE"}
    assert names.get(command, "STYX_ADMIN") in text
