"""The reader of error pages: what it takes over when, and what it logs. The clock is virtual."""

import asyncio
import shutil

import pytest
import structlog

from edge.rules.settings import Settings
from edge.run.control.control_messages import packed
from edge.run.pages.page_reader import SETTLE, PageReader

TAKEN, NOT_USED, USABLE = "pages_taken_over", "pages_not_used", "pages_usable"
UNREADABLE, READABLE = "pages_directory_unreadable", "pages_directory_usable"


async def nobody_watches(path, changed, reachable):
    await asyncio.Event().wait()


def settings(directory):
    needed = {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": "http://127.0.0.1:9"}}
    return Settings.model_validate({**needed, "pages": {"directory": directory and str(directory)}})


class Case:
    """A reader that looks when the test calls it."""

    def __init__(self, directory):
        self.directory = directory
        self.now = 1000.0
        self.published = []
        self.first = asyncio.Event()
        self.reader = PageReader(
            self._publish, clock=lambda: self.now, interval=3600.0, settle=SETTLE, watch=nobody_watches
        )

    def _publish(self, message):
        self.published.append({page.name: b"".join(page.texts) for page in message.pages})
        self.first.set()

    def write(self, **files):
        for name, text in files.items():
            (self.directory / f"{name}.html").write_text(text)

    async def look(self, seconds=0.0, **how):
        """Look after so many seconds. Returns the templates in use."""
        self.now += seconds
        await self.reader.look(**how)
        return self.published[-1]


@pytest.fixture
def logged():
    """The events since the last call, without those of other loggers."""
    with structlog.testing.capture_logs() as events:

        def since():
            found = [event for event in events if str(event.get("code", "")).startswith("pages_")]
            events.clear()
            return found

        yield since


@pytest.fixture
async def case(tmp_path):
    (tmp_path / "pages").mkdir()
    case = Case(tmp_path / "pages")
    case.write(error="first")
    case.reader.reconfigure(settings(case.directory))
    await case.first.wait()
    yield case
    await case.reader.stop()


def codes(events):
    return [event["code"] for event in events]


async def test_what_is_there_at_the_start_is_given_to_workers_at_once(logged, case):
    assert case.published == [{"error.html": b"first"}]
    [event] = logged()
    assert event == {
        "code": TAKEN,
        "event": "error pages taken over",
        "log_level": "info",
        "directory": str(case.directory),
        "templates": 1,
        "changed": 1,
        "by_reload": False,
    }


async def test_a_change_is_taken_over_when_it_is_at_rest(logged, case):
    logged()
    case.write(error="half")
    assert await case.look() == {"error.html": b"first"}
    case.write(error="half and half")
    assert await case.look(SETTLE) == {"error.html": b"first"}, "it has just changed again"
    assert await case.look(SETTLE) == {"error.html": b"half and half"}
    await case.look(SETTLE)
    assert len(case.published) == 2
    assert [(event["code"], event["changed"]) for event in logged()] == [(TAKEN, 1)]


async def test_a_reload_does_not_wait(logged, case):
    logged()
    case.write(error="second")
    await case.reader.take_now()
    assert case.published[-1] == {"error.html": b"second"}
    assert [(event["code"], event["by_reload"]) for event in logged()] == [(TAKEN, True)]


async def test_a_template_with_a_fault_is_told_once_and_stays_as_it_was(logged, case):
    logged()
    case.write(error="$nothing", maintenance="works")
    assert await case.look(at_once=True) == {"error.html": b"first", "maintenance.html": b"works"}
    _, event = logged()
    assert (event["code"], event["log_level"], event["more"]) == (NOT_USED, "error", 0)
    [fault] = event["faults"]
    assert fault.startswith(f"{case.directory}/error.html:1:1: unknown name $nothing")
    assert (case.reader.state.templates, case.reader.state.faults) == (2, 1)
    case.write(maintenance="still works")
    await case.look(at_once=True)
    assert codes(logged()) == [TAKEN], "the fault is known"
    case.write(error="good")
    assert (await case.look(at_once=True))["error.html"] == b"good"
    assert codes(logged()) == [TAKEN, USABLE]
    assert case.reader.state.faults == 0


async def test_many_faults_are_one_event(logged, case):
    logged()
    case.write(**{f"error.{chr(97 + n)}{chr(97 + n)}": "$nothing" for n in range(26)})
    await case.look(at_once=True)
    [event] = logged()
    assert (event["code"], len(event["faults"]), event["more"]) == (NOT_USED, 10, 16)


async def test_an_emptied_directory_means_the_built_in_page(logged, case):
    logged()
    (case.directory / "error.html").unlink()
    assert await case.look() == {"error.html": b"first"}
    assert await case.look(SETTLE) == {}
    assert [(event["code"], event["templates"]) for event in logged()] == [(TAKEN, 0)]


async def test_a_directory_that_is_gone_means_nothing(logged, case):
    logged()
    shutil.move(case.directory, away := case.directory.with_name("away"))
    assert await case.look() == {"error.html": b"first"}
    assert logged() == [], "it may be so for a moment only"
    for _ in range(3):
        assert await case.look(SETTLE) == {"error.html": b"first"}
    [event] = logged()
    assert (event["code"], event["error"], event["templates"]) == (UNREADABLE, "No such file or directory", 1)
    assert not case.reader.state.is_readable
    shutil.move(away, case.directory)
    await case.look(SETTLE)
    assert codes(logged()) == [READABLE]
    assert case.reader.state.is_readable
    assert len(case.published) == 1


async def test_workers_do_not_wait_for_a_directory_that_was_never_there(logged, tmp_path):
    case = Case(tmp_path / "never")
    case.reader.reconfigure(settings(case.directory))
    await case.first.wait()
    assert case.published == [{}]
    assert codes(logged()) == [UNREADABLE]
    await case.reader.stop()


async def test_another_directory_and_none(case, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "404.html").write_text("other")
    case.first.clear()
    case.reader.reconfigure(settings(tmp_path / "other"))
    await case.first.wait()
    assert case.published[-1] == {"404.html": b"other"}
    case.reader.reconfigure(settings(None))
    assert case.published[-1] == {}
    await case.look(at_once=True)
    await case.reader.take_now()
    assert len(case.published) == 3
    assert not case.reader.state.is_used


async def test_without_a_directory_workers_are_told_so_at_the_start(tmp_path):
    case = Case(tmp_path)
    case.reader.reconfigure(settings(None))
    assert case.published == [{}]


async def test_everything_that_may_be_taken_over_fits_into_a_message(case):
    (case.directory / "sites").mkdir()
    for n in range(40):
        (case.directory / "sites" / f"{n:02}").mkdir()
        (case.directory / "sites" / f"{n:02}" / "404.html").write_bytes(b"x" * (128 << 10))
    messages = []
    case.reader._publish = messages.append
    await case.reader.look(at_once=True)
    assert len(packed(messages[0])) > 4_000_000
    assert case.reader.state.faults == 9
