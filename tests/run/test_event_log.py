"""The event log never blocks on the reader of standard error."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap

import pytest

from tests.support.processes.edges import NO_CORE_API, Kept, edge, events, told
from tests.support.processes.process_verbs import DEADLINE, ROOT

HEAD = """
    import logging, os, select, sys
    import structlog
    from edge.run import event_log
    from edge.rules.settings import LogSettings

    event_log.configure(LogSettings(level="info"))
    log = structlog.get_logger("styx.test")
"""
STUCK = """
    for number in range(5000):
        log.info("something", number=number, filling="x" * 100)
    print("done", flush=True)
    sys.stdin.read(1)
"""
LAST = """
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        log.info("last")
    event_log.finish()
"""
"Until it was heard."


def said(script, *, threaded):
    """Run it with a stderr that is read only after it has reported that it is done. Returns the lines."""
    own = "event_log.name_process('worker 0'); event_log.write_in_a_thread()\n" if threaded else ""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HEAD) + own + textwrap.dedent(script)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writing,
    )
    os.close(writing)
    try:
        assert process.stdout.readline() == b"done\n"
        process.stdin.write(b"x")
        process.stdin.flush()
        with os.fdopen(reading, "rb") as lines:
            heard = []
            for line in lines:
                heard.append(json.loads(line))
                if heard[-1]["event"] == "last" and process.poll() is None:
                    with contextlib.suppress(BrokenPipeError):  # it may just have ended
                        process.stdin.write(b"heard")
                        process.stdin.flush()
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.communicate()
    return heard


@pytest.mark.parametrize("threaded", [True, False])
def test_a_reader_that_does_not_read_stalls_no_process_and_learns_what_was_dropped(threaded):
    heard = said(STUCK + LAST, threaded=threaded)
    numbers = [line["number"] for line in heard if line["event"] == "something"]
    assert numbers == sorted(numbers)
    assert 0 < len(numbers) < 5000
    assert sum(line.get("dropped_before", 0) for line in heard) >= 5000 - len(numbers)
    assert heard[-1]["event"] == "last"
    assert {line["by"] for line in heard} == {"worker 0" if threaded else "styx"}


def test_a_reader_that_never_reads_does_not_keep_a_process_from_ending():
    reading, writing = os.pipe()
    script = (
        textwrap.dedent(HEAD) + "event_log.write_in_a_thread()\n" + textwrap.dedent(STUCK.replace("sys.stdin", "#"))
    )
    process = subprocess.run(
        [sys.executable, "-c", script + "event_log.finish(0.1); os._exit(7)"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=writing,
        timeout=DEADLINE,
        check=False,
    )
    os.close(reading)
    os.close(writing)
    assert process.returncode == 7


def test_the_thread_writes_exceptions_too():
    script = """
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("wrong")
            logging.getLogger("their.package").warning("careful: %s", 5)
        print("done", flush=True)
        event_log.finish()
    """
    wrong, careful = said(script, threaded=True)
    assert "ZeroDivisionError" in wrong["exception"]
    assert (careful["event"], careful["logger"]) == ("careful: 5", "their.package")


def beside_the_token(child) -> None:
    """The core API's token lies in the directory of the event log, as do the routes of an operator who keeps all in
    one place."""
    token = child.log.parent / "token"
    token.write_text("0")
    content = child.file.read_text()
    assert f'"{NO_CORE_API}"' in content
    child.file.write_text(content.replace(f'"{NO_CORE_API}"', f'"{NO_CORE_API}", token_file: "{token}"'))


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_the_event_log_does_not_feed_itself(until, call, level):
    """It is written to a watched directory: a line there does not cause another one."""
    renewals = 5
    async with edge(core_api=NO_CORE_API, more=f"log: {{level: {level}}}") as styx:

        async def renewed(number: int) -> None:
            new = styx.log.parent / "token.new"
            new.write_text(str(number))
            new.replace(styx.log.parent / "token")  # never seen empty, which would be reported
            await until(lambda: len(told(styx, "core_api_token_read")) == number)

        beside_the_token(styx)
        assert (await call("reload", "--admin", styx.settings.admin.address)).code == 0
        await renewed(1)
        before = styx.log.read_text().count("\n")
        for number in range(2, 2 + renewals):
            await renewed(number)  # the log is noticed no later than the token, if it is
        lines = styx.log.read_text().splitlines()[before:]
        assert len(lines) == renewals, "\n".join(lines)


async def test_debug_is_about_styx_and_not_about_its_libraries(until, call):
    async with edge(core_api=NO_CORE_API, more="log: {level: debug}") as styx, Kept(styx.port) as kept:
        beside_the_token(styx)  # so that a library has something to tell
        assert (await call("reload", "--admin", styx.settings.admin.address)).code == 0
        (styx.log.parent / "token").write_text("1")
        await until(lambda: told(styx, "core_api_token_read") != [])
        assert (await kept.ask(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        await until(lambda: told(styx, "request_rejected") != [])
        assert (await styx.ask_admin("/v1/overview"))[0] == 200
        assert {str(event["logger"]).partition(".")[0] for event in events(styx)} == {"styx"}


@pytest.mark.parametrize(("level", "libraries"), [("debug", 30), ("info", 30), ("warning", 30), ("error", 40)])
def test_libraries_write_from_warning_on(level, libraries):
    script = f"""
        event_log.configure(LogSettings(level="{level}"))
        names = "styx.master", "edge.platform.fleet", "watchfiles.main", "aiohttp.server", "asyncio", "redis"
        print(*(logging.getLogger(name).getEffectiveLevel() for name in names))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HEAD) + textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    ours = {"debug": 10, "info": 20, "warning": 30, "error": 40}[level]
    assert ran.stdout.split() == [b"%d" % ours] * 2 + [b"%d" % libraries] * 4
