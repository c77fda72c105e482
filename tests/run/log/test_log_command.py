"""`styx log`, as it is called."""

import json

import pytest
from click.testing import CliRunner

from edge.admin.log.line_writers import line_writer
from edge.rules.settings import AccessLogSettings
from edge.run.cli import main
from tests.admin.conftest import build_outcome


@pytest.fixture
def path(tmp_path):
    lines = bytearray()
    for number, status in enumerate((200, 404, 502, 503)):
        outcome = build_outcome(status=status, host=f"site{number}.test", total_ms=number * 1000.0)
        line_writer(AccessLogSettings())(outcome, None, None, lines)
        lines += b"\n"
    found = tmp_path / "access.log"
    found.write_bytes(lines + b"not a line of the log\n")
    return found


def log(*arguments, **options):
    return CliRunner().invoke(main, ["log", *map(str, arguments)], **options)


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        ((), ["site0", "site1", "site2", "site3"]),
        (("--status", "5xx"), ["site2", "site3"]),
        (("--status", "404", "--status", "503"), ["site1", "site3"]),
        (("--host", "SITE1.test"), ["site1"]),
        (("--host", "*.test", "-n", "1"), ["site3"]),
        (("--slower-than", "2s"), ["site2", "site3"]),
        (("--cause", "connect_failed"), []),
        (("--site", "acme", "--status", "2xx"), ["site0"]),
    ],
)
def test_filters(path, options, hosts):
    result = log(path, *options)
    assert result.exit_code == 0, result.output
    assert [line.split()[5].partition(".")[0] for line in result.stdout.splitlines()] == hosts


def test_lines_as_they_are_and_standard_input(path):
    result = log("-", "--json", "--status", "404", input=path.read_bytes())
    assert json.loads(result.stdout)["status"] == 404


def test_colours_are_for_terminals(path):
    assert "\x1b[31m" in log(path, "--color").stdout
    assert "\x1b" not in log(path).stdout


def test_the_file_of_the_configuration(path, tmp_path):
    config = tmp_path / "styx.yaml"
    text = (
        'listeners: [{address: "127.0.0.1:0"}]\ncore_api: {url: "http://127.0.0.1:9"}\naccess_log: {path: "%s"}\n'
    )
    config.write_text(text % path)
    assert len(log("-c", config).stdout.splitlines()) == 4
    config.write_text(text % "syslog:/dev/log")
    result = log("-c", config)
    assert (result.exit_code, "writes no file of the access log" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--status", "5x"), 2, "404, 5xx or 500-503"),
        (("--cause", "conect_failed"), 2, "did you mean connect_failed?"),
        (("--slower-than", "5"), 2, "a duration such as"),
    ],
)
def test_wrong_filters_are_explained(path, options, code, words):
    result = log(path, *options)
    assert result.exit_code == code
    assert words in result.stderr


def test_files_that_cannot_be_read(tmp_path):
    result = log(tmp_path / "none.log")
    assert (result.exit_code, "No such file" in result.stderr) == (1, True)
    path = tmp_path / "combined.log"
    path.write_text('203.0.113.9 - - [09/Oct/2025:08:53:20 +0000] "GET / HTTP/1.1" 200 5 "-" "-"\n')
    result = log(path)
    assert (result.exit_code, "combined cannot be read" in result.stderr) == (1, True)


def test_the_end_of_following_is_no_error(path, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("edge.run.log.log_follower.time.sleep", interrupted)
    result = log(path, "-f", "-n", "2")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
