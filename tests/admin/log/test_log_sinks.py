"""Targets of the access log: several processes into one target, syslog, and the events logged on failure."""

import asyncio
import json
import os
import re
import socket

import pytest

from edge.admin.log.access_log import AccessLog
from edge.admin.log.log_sinks import PAUSE, SyslogTarget
from edge.rules.settings import AccessLogSettings
from edge.rules.settings.values import Address

DEADLINE = 100.0
WRITERS, LINES = 3, 1500


def access_log(path, **settings):
    return AccessLog(AccessLogSettings.model_construct(path=str(path), buffer=1 << 26, **settings))


def written_by_several(path, outcome):
    """Start processes that each write lines of very different lengths, some longer than PIPE_BUF; their ids."""
    pids = []
    for writer in range(WRITERS):
        pid = os.fork()
        if not pid:
            try:
                asyncio.run(_write(path, outcome, writer))
            finally:
                os._exit(0)
        pids.append(pid)
    return pids


async def _write(path, outcome, writer):
    log = access_log(path)
    log.start()
    for number in range(LINES):
        log.write(outcome(id=f"{writer}-{number}", target="/" + "t" * (number * 37 % 7000)))
        if not number % 50:
            log.flush()
    log.close(DEADLINE)


def ids(received):
    return sorted(json.loads(line)["id"] for line in received.splitlines())


EVERY_ID = sorted(f"{writer}-{number}" for writer in range(WRITERS) for number in range(LINES))


def test_several_processes_and_one_file(tmp_path, outcome):
    for pid in written_by_several(tmp_path / "log", outcome):
        assert os.waitpid(pid, 0)[1] == 0
    received = (tmp_path / "log").read_bytes()
    assert ids(received) == EVERY_ID
    assert max(map(len, received.splitlines())) > 7000, "a file takes whole lines"


def test_several_processes_and_one_pipe(tmp_path, outcome):
    os.mkfifo(tmp_path / "log")
    reading = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    pids = written_by_several(tmp_path / "log", outcome)
    os.set_blocking(reading, True)
    received = b""
    while received.count(b"\n") < WRITERS * LINES:
        received += os.read(reading, 1 << 16)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    os.close(reading)
    assert ids(received) == EVERY_ID
    assert max(map(len, received.splitlines())) < 4096, "longer lines are cut in the target"


async def test_rotation_loses_no_line(tmp_path, outcome):
    log = access_log(tmp_path / "log")
    log.start()
    for number in range(30):
        log.write(outcome(id=str(number)))
        if number % 10 == 9:
            os.rename(tmp_path / "log", tmp_path / f"log.{number}")
            log.reopen()
            async with asyncio.timeout(DEADLINE):
                while not (tmp_path / "log").exists():  # noqa: ASYNC110 - the thread sets no event
                    await asyncio.sleep(0.001)
    log.close(DEADLINE)
    parts = [tmp_path / "log.9", tmp_path / "log.19", tmp_path / "log.29", tmp_path / "log"]
    received = [json.loads(line)["id"] for part in parts for line in part.read_text().splitlines()]
    assert received == [str(number) for number in range(30)]


SYSLOG_LINE = re.compile(rb"<190>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (\S+ )?styx\[\d+\]: (.*)", re.DOTALL)


@pytest.fixture(params=["unix", "udp"])
def syslog(request, tmp_path):
    """A receiver, and how it is named in the configuration."""
    if request.param == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(str(tmp_path / "dev-log"))
        name = f"syslog:{tmp_path}/dev-log"
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        name = f"syslog:127.0.0.1:{sock.getsockname()[1]}"
    sock.settimeout(DEADLINE)
    yield sock, name
    sock.close()


async def test_syslog(syslog, outcome):
    sock, name = syslog
    log = access_log(name, facility="local7")
    log.start()
    log.write(outcome(id="short"))
    log.write(outcome(id="long", target="/" + "t" * 8000))
    log.close(DEADLINE)
    for wanted in ("short", "long"):
        found = SYSLOG_LINE.fullmatch(sock.recv(1 << 16))
        assert (found[1] is None) == (sock.family == socket.AF_UNIX)
        assert len(found[0]) <= 4096
        assert json.loads(found[2])["id"] == wanted
    assert (log.written, log.dropped) == (2, 0)


def test_a_syslog_that_does_not_run_is_tried_again_after_a_pause(tmp_path):
    now = [0.0]
    target = SyslogTarget(Address(path=str(tmp_path / "dev-log")), "daemon", lambda: now[0])
    target.open()
    assert target.write(bytearray(b"a\nb\n")) == 2
    assert target.error == f"No such file or directory: unix:{tmp_path}/dev-log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "dev-log"))
        sock.settimeout(DEADLINE)
        assert target.write(bytearray(b"c\n")) == 1, "not so soon"
        now[0] = PAUSE
        assert target.write(bytearray(b"d\ne\n")) == 0
        assert [sock.recv(100)[-3:] for _ in range(2)] == [b": d", b": e"]
    assert target.write(bytearray(b"f\ng\n")) == 2, "it went away"
    target.close()


async def test_lost_lines_are_logged_once_and_again_when_it_works(tmp_path, outcome, capsys):
    os.symlink("/dev/full", tmp_path / "log")
    log = access_log(tmp_path / "log")
    log.start()
    for _ in range(3):
        log.write(outcome())
        log.flush()
    os.unlink(tmp_path / "log")
    log.reopen()
    log.write(outcome())
    log.close(DEADLINE)
    printed = capsys.readouterr().out
    assert printed.count("access_log_lines_lost") == 1
    assert "No space left on device" in printed
    assert printed.count("access_log_restored") == 1
    assert "lost=3" in re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert (log.written, log.dropped) == (1, 3)


async def test_a_target_that_cannot_be_opened_is_named(tmp_path):
    log = access_log(tmp_path / "nowhere" / "log")
    with pytest.raises(OSError, match=rf"access_log.path: No such file or directory: {tmp_path}/nowhere/log"):
        log.start()
